"""Embedding a corpus against the bare model's forward on tensors in memory.

``python benchmarks/embed.py [--encoder NAME] [--side PX] [--images N] [--readers T]`` stores N
grainy films and an encoder of random weights, and embeds them with everything around the model:
bytes from the store, checks, decoding, the forward pass, features back in the store. In turn with
it, the model alone answers for the same batches, decoded before, on the same device and as many
threads. Loading the weights is in neither. Each round times both, one right after the other, and
the median of R rounds' ratios is printed, with their quartiles (a machine's speed wanders by more
than what is measured), what reading and decoding take alone, and the seconds that cores worked.
"""

import argparse
import io
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import save

from radsweep.corpus.manifest import SCHEMA, Corpus, corpus_file, shard_file
from radsweep.evaluate.embedder import Embedder
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Request, Work, index_of
from radsweep.models.backbone import build_backbone
from radsweep.specs import Budget, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore, Record

CORPUS = "made-up@1"
FILMS = 8
"""Different ones: decoding costs the same for each, and drawing them takes time."""


def film(side: int, seed: int) -> bytes:
    """A PNG with a film's smooth shading and grain, which is what decoding costs time for."""
    generator = np.random.default_rng(seed)
    smooth = generator.uniform(40, 200, (8, 8)).astype(np.float32)
    shaded = np.asarray(Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC))
    pixels = (shaded + generator.normal(0, 4, (side, side))).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_corpus(store: Store, images: int, side: int) -> Corpus:
    """``images`` films in one shard."""
    drawn = [film(side, seed) for seed in range(FILMS)]
    blobs = [drawn[i % FILMS] for i in range(images)]
    lengths = [len(blob) for blob in blobs]
    known: dict[str, object] = {
        "image_id": [f"i{i:06d}" for i in range(images)],
        "patient_id": [f"p{i:06d}" for i in range(images)],
        "corpus": [CORPUS] * images,
        "shard": [0] * images,
        "offset": np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        "length": lengths,
        "crc32": [zlib.crc32(blob) for blob in blobs],
        "height": [side] * images,
        "width": [side] * images,
    }
    manifest = pl.DataFrame(
        {name: known.get(name, [None] * images) for name in SCHEMA}, schema=dict(SCHEMA)
    )
    store.write_bytes(shard_file(CORPUS, 0), b"".join(blobs))
    store.write_table(corpus_file(CORPUS, "manifest.parquet"), manifest)
    card = {"corpus": CORPUS, "label_columns": [], "mask_classes": [], "reports": 0}
    store.write_json(corpus_file(CORPUS, "card.json"), card | {"manifest_digest": "made-up"})
    return Corpus.open(store, CORPUS)


def write_encoder(store: Store, recipe: Recipe) -> Encoder:
    """A finished cell with random weights."""
    sweep = Sweep(
        name="embed",
        corpus=CORPUS,
        recipes=(recipe,),
        images=(8,),
        budget=Budget(steps=1, batch_size=8),
        protocol=None,
    )
    cell = sweep.cells()[0]
    corner = CellStore(store, cell.name)
    corner.declare(cell)
    backbone = build_backbone(recipe.encoder, recipe.image_size, {"in_chans": 1}, 0.5, 0.25)
    state = {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    store.write_bytes(corner.path("encoder.safetensors"), save(state))
    nothing = dict.fromkeys(("images_seen", "steps"), 0) | dict.fromkeys(
        ("epochs", "flops_per_image", "flops", "seconds", "gpu_seconds"), 0.0
    )
    record = Record(
        cell=cell.name,
        key=cell.key,
        images=0,
        patients=0,
        subset_digest="",
        workers=1,
        device="cpu",
        encoder_digest="random",
        start_digest="random",
        final_losses={},
        **nothing,  # type: ignore[arg-type]
    )
    corner.finish(record)
    return Encoder.of(cell, record)


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds by the clock, and those that cores worked for this process."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    """Embed both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--readers", type=int, default=0, help="threads that decode ahead")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(
        paradigm="clip",
        encoder=given.encoder,
        encoder_settings={"in_chans": 1},
        image_size=given.side,
        learning_rate=1e-3,
    )
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        corpus = write_corpus(store, given.images, given.side)
        encoder = write_encoder(store, recipe)
        request = Request(needs="pooled", side=0, rows=np.arange(given.images), images="r")
        requests = [replace(request, images=f"r{i}") for i in range(given.rounds + 1)]
        index, rows = index_of(corpus, requests)
        # A new one for each round would load the weights; one would keep what it decoded.
        embedder = Embedder(store, requests, index, rows, "made-up", device, given.readers)
        ready = [torch.from_numpy(each).to(device) for _, each in embedder._batches(request.rows)]

        def whole(number: int) -> None:
            embedder._pixels.clear()
            embedder.run(Work(encoder=encoder, block=0, requests=(number,)))

        def bare() -> None:
            with torch.inference_mode():
                for images in ready:
                    assert embedder._backbone is not None
                    embedder._backbone(images)

        def decode() -> None:
            embedder._pixels.clear()
            deque(embedder._batches(request.rows), maxlen=0)

        whole(0)
        bare()
        seconds: dict[str, list[tuple[float, float]]] = {"bare": [], "whole": [], "decode": []}
        for number in range(1, given.rounds + 1):
            order = {"bare": bare, "whole": partial(whole, number), "decode": decode}
            for name in sorted(order, reverse=bool(number % 2)):
                seconds[name].append(timed(order[name], device))
    table = Table(
        title=f"{given.encoder}, {given.images} films of {given.side} px, {device.type}, "
        f"{torch.get_num_threads()} threads, median of {given.rounds}"
    )
    for name in ("", "seconds", "images/s", "of the bare model's rate", "of its core seconds"):
        table.add_column(name, justify="left" if not name else "right")
    values = {name: np.array(pairs) for name, pairs in seconds.items()}
    for name, key in (
        ("the model alone, tensors in memory", "bare"),
        ("radsweep, store to store", "whole"),
        ("reading and decoding alone", "decode"),
    ):
        clock = np.median(values[key][:, 0])
        rates = np.quantile(values["bare"][:, 0] / values[key][:, 0], (0.25, 0.5, 0.75))
        table.add_row(
            name,
            f"{clock:.2f}",
            f"{given.images / clock:.1f}",
            f"{rates[1]:.3f} ({rates[0]:.3f} to {rates[2]:.3f})",
            f"{np.median(values[key][:, 1] / values['bare'][:, 1]):.3f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
