"""A grid of many cheap trials on Ray Tune against the sum of their own times.

``python benchmarks/grid.py [--encoders E] [--images N]`` fills a store with E made-up encoders'
features (no weights and no x-rays are read) and scores each by a linear probe and by nearest
neighbours: one after the other in this process, which is the sum of their own times, then on a Ray
cluster with one place and on one with a place for each core. Ray's own start is left out; Ray
Tune's and its processes' imports are what passes before the first trial ends, and are paid once a
place, however many trials there are. "held" is what all places were held for over the sum: what
start, Ray Tune and places that stood empty add, and what cores that others use take away.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import ray
import safetensors.numpy
import torch
from rich.console import Console
from rich.table import Table

from radsweep.corpus.manifest import SCHEMA, corpus_file
from radsweep.evaluate.features import block_file
from radsweep.evaluate.grid import run_grid
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.runner import prepare
from radsweep.evaluate.wanted import wanted
from radsweep.specs import Budget, Cell, Protocol, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.layout import features_folder
from radsweep.store.record import CellStore, Record

CORPUS = "made-up@1"
LABELS = tuple(f"finding_{name}" for name in ("a", "b", "c", "d", "e", "f"))
PARTS = {"pretrain": 1, "train": 4, "val": 1, "test": 2}


def write_corpus(store: Store, images: int) -> None:
    """A manifest with labels by chance; ``images`` are those of all splits."""
    generator = np.random.default_rng(0)
    splits = np.repeat(
        list(PARTS), [images * part // sum(PARTS.values()) for part in PARTS.values()]
    )
    count = len(splits)
    known: dict[str, object] = {
        "image_id": [f"i{i:06d}" for i in range(count)],
        "patient_id": [f"p{i:06d}" for i in range(count)],
        "split": splits,
        "view": ["frontal"] * count,
        **{label: generator.integers(0, 2, count).astype(np.int8) for label in LABELS},
    }
    columns = {**SCHEMA, **dict.fromkeys(LABELS, pl.Int8())}
    manifest = pl.DataFrame(
        {name: known.get(name, [None] * count) for name in columns}, schema=columns
    )
    store.write_table(corpus_file(CORPUS, "manifest.parquet"), manifest)
    card = {"corpus": CORPUS, "label_columns": list(LABELS), "mask_classes": [], "reports": 0}
    store.write_json(corpus_file(CORPUS, "card.json"), card | {"manifest_digest": "made-up"})


def make_sweep(encoders: int) -> Sweep:
    """One recipe at as many scales as give ``encoders`` cells."""
    recipe = Recipe(
        paradigm="clip", encoder="vit_tiny_patch16_224", image_size=224, learning_rate=1e-3
    )
    return Sweep(
        name="grid",
        corpus=CORPUS,
        recipes=(recipe,),
        images=tuple(range(1, encoders)),
        budget=Budget(steps=1, batch_size=1),
        protocol=Protocol(tasks=("findings",), settings={"knn.neighbours": 20}),
    )


def finish(store: Store, cell: Cell, number: int) -> None:
    """Say that a cell is done, without weights."""
    corner = CellStore(store, cell.name)
    corner.declare(cell)
    corner.finish(
        Record(
            cell=cell.name,
            key=cell.key,
            images=cell.subset.images,
            patients=cell.subset.images,
            subset_digest="",
            images_seen=0,
            steps=0,
            epochs=0.0,
            flops_per_image=0.0,
            flops=0.0,
            seconds=0.0,
            gpu_seconds=0.0,
            workers=1,
            device="cpu",
            encoder_digest=f"{number:064d}",
            start_digest="",
            final_losses={},
        )
    )


def write_features(store: Store, sweep: Sweep, cells: tuple[Cell, ...], width: int) -> None:
    """Features of every encoder, so that none has to run."""
    prepared = prepare(store, sweep, cells)
    assert prepared is not None
    grid, _ = prepared
    generator = np.random.default_rng(1)
    for encoder in grid.encoders:
        for request in grid.requests:
            key = request.key(encoder, grid.corpus_digest)
            vectors = generator.standard_normal((len(request.rows), width)).astype(np.float32)
            blob = safetensors.numpy.save({"pooled": vectors, "mean": vectors})
            store.write_bytes(block_file(key, 0), blob)
            store.write_bytes(f"{features_folder(key)}/DONE", b"")


def forget(store: Store) -> None:
    """Delete what was scored."""
    for folder in ("scores", "predictions", "sweeps"):
        store.delete(folder)


def timed_on_ray(
    store: Store, sweep: Sweep, cells: tuple[Cell, ...], places: int
) -> tuple[float, float]:
    """Seconds of the whole grid, and until its first trial ended."""
    ended: list[float] = []
    ray.init(address="local", num_cpus=places, include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    failed = run_grid(
        store,
        sweep,
        cells,
        cpus=1,
        gpus=0,
        at_once=places,
        progress=lambda done, total: ended.append(time.perf_counter() - began),
    )
    seconds = time.perf_counter() - began
    ray.shutdown()
    assert failed == []
    return seconds, ended[0]


def main() -> None:
    """Fill, score each way, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", type=int, default=100, help="each has two trials")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0"}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(str(Path(scratch) / "store"))
        write_corpus(store, given.images)
        sweep = make_sweep(given.encoders)
        cells = sweep.cells()
        for number, cell in enumerate(cells):
            finish(store, cell, number)
        write_features(store, sweep, cells, given.width)
        trials = len(wanted(store, sweep, cells))
        began = time.perf_counter()
        assert run_grid_locally(store, sweep, cells, progress=lambda done, total: None) == []
        alone = time.perf_counter() - began
        on_ray = {}
        for places in sorted({1, given.cpus}):
            forget(store)
            on_ray[places] = timed_on_ray(store, sweep, cells, places)
    table = Table(
        title=f"{trials} trials of {given.images} images x {given.width}, {given.cpus} CPUs"
    )
    for name in ("", "seconds", "first trial ended", "seconds over the sum", "held over the sum"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("trials one after the other", f"{alone:.1f}", "", "1.00", "1.00")
    for places, (seconds, first) in on_ray.items():
        shares = f"{seconds / alone:.2f}", f"{places * seconds / alone:.2f}"
        table.add_row(f"Ray Tune, places: {places}", f"{seconds:.1f}", f"{first:.1f}", *shares)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
