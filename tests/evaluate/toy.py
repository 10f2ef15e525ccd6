"""A small corpus with bright blobs for findings, lines for tubes, and two finished cells."""

import io
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from safetensors.torch import save_file

from radsweep.corpus.manifest import SCHEMA, corpus_file, shard_file
from radsweep.models.backbone import build_backbone
from radsweep.models.weights import encoder_digest
from radsweep.specs import Budget, Cell, Protocol, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore, Record

CPU = torch.device("cpu")
CORPUS = "toy@1"
SIZE = 32
FINDINGS = ("finding_effusion", "finding_nodule")
TUBES = ("tube_cvc", "tube_ett")
MASKS = ("ett", "cvc")
SPLITS = {"pretrain": 5, "train": 40, "val": 15, "test": 30}
"""Patients, with two images each."""

RECIPE = Recipe(
    paradigm="clip",
    encoder="vit_tiny_patch16_224",
    encoder_settings={"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1},
    image_size=SIZE,
    learning_rate=1e-3,
)


def paint(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Pixels uint8 [H, W], masks uint8 [2, H, W] and labels."""
    labels = {name: int(generator.random() < 0.5) for name in (*FINDINGS, *TUBES)}
    pixels = generator.normal(60, 8, (SIZE, SIZE))
    masks = np.zeros((2, SIZE, SIZE), dtype=np.uint8)
    if labels["finding_effusion"]:
        pixels[24:, :16] += 110
    if labels["finding_nodule"]:
        pixels[4:9, 20:25] += 150
    if labels["tube_ett"]:
        masks[0, :18, 15:17] = 1
    if labels["tube_cvc"]:
        masks[1, 2:20, 5 : 5 + 2] = 1
    pixels[masks.any(axis=0)] += 120
    return pixels.clip(0, 255).astype(np.uint8), masks, labels


def report(labels: dict[str, int]) -> str:
    said = [
        "Left pleural effusion." if labels["finding_effusion"] else "No pleural effusion.",
        "There is a nodule." if labels["finding_nodule"] else "No nodule.",
    ]
    said += ["Endotracheal tube in place."] if labels["tube_ett"] else []
    said += ["Central line in place."] if labels["tube_cvc"] else []
    return "FINDINGS: " + " ".join(said)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_corpus(
    store: Store,
    *,
    masks: bool = True,
    reports: bool = True,
    blank: bool = False,
    pretrain: int = SPLITS["pretrain"],
) -> None:
    """``blank`` x-rays show nothing of what is said of them; ``pretrain`` patients."""
    generator = np.random.default_rng(0)
    rows, shard = [], b""
    patients_of = {**SPLITS, "pretrain": pretrain}
    for split, patients in patients_of.items():
        for patient in range(patients):
            for image in range(2):
                pixels, drawn, labels = paint(generator)
                if blank:
                    pixels = generator.integers(40, 80, (SIZE, SIZE), dtype=np.uint8)
                picture, mask = png(pixels), png(drawn[0] | drawn[1] << 1)
                place = {"offset": len(shard), "length": len(picture), "crc32": zlib.crc32(picture)}
                shard += picture
                if masks:
                    place |= {"mask_offset": len(shard), "mask_length": len(mask)}
                    place["mask_crc32"] = zlib.crc32(mask)
                    shard += mask
                rows.append(
                    dict.fromkeys(SCHEMA)
                    | {
                        "image_id": f"{split}{patient:03d}-{image}",
                        "patient_id": f"{split}{patient:03d}",
                    }
                    | {"exam_id": f"{split}{patient:03d}", "split": split, "view": "frontal"}
                    | {"height": SIZE, "width": SIZE, "corpus": CORPUS, "shard": 0}
                    | {"pixel_spacing_mm": 0.5 if image else None}
                    | {"report": report(labels) if reports else None}
                    | {"pixels_digest": f"{split}{patient}{image}", **place, **labels}
                )
    schema = {**SCHEMA, **dict.fromkeys((*FINDINGS, *TUBES), pl.Int8())}
    manifest = pl.DataFrame(rows, schema=schema)
    store.write_bytes(shard_file(CORPUS, 0), shard)
    store.write_table(corpus_file(CORPUS, "manifest.parquet"), manifest)
    card = {
        "corpus": CORPUS,
        "label_columns": [*FINDINGS, *TUBES],
        "mask_classes": list(MASKS) if masks else [],
        "reports": manifest["report"].count(),
        "manifest_digest": "toy",
        "splits": {name: {"images": 2 * patients} for name, patients in patients_of.items()},
    }
    store.write_json(corpus_file(CORPUS, "card.json"), card)


def write_cell(store: Store, cell: Cell, seed: int) -> None:
    """A finished cell with random weights."""
    torch.manual_seed(seed)
    recipe = cell.recipe
    backbone = build_backbone(
        recipe.encoder, recipe.image_size, dict(recipe.encoder_settings), 0.5, 0.25
    )
    corner = CellStore(store, cell.name)
    corner.declare(cell)
    file = Path(store.full(corner.path("encoder.safetensors")))
    save_file({k: v.contiguous() for k, v in backbone.state_dict().items()}, file)
    digest = encoder_digest(backbone.state_dict())
    record = Record(
        cell=cell.name,
        key=cell.key,
        images=cell.subset.images,
        patients=cell.subset.images,
        subset_digest="",
        images_seen=0 if cell.is_baseline else 32,
        steps=0 if cell.is_baseline else 4,
        epochs=0.0 if cell.is_baseline else 4.0,
        flops_per_image=0.0 if cell.is_baseline else 1e6,
        flops=0.0 if cell.is_baseline else 3.2e7,
        seconds=0.1,
        gpu_seconds=0.0,
        workers=1,
        device="cpu",
        encoder_digest=digest,
        start_digest=digest,
        final_losses={},
    )
    corner.finish(record)


def protocol(*tasks: str) -> Protocol:
    return Protocol(
        tasks=tasks or ("findings", "lines_tubes", "lines_tubes_seg", "reports"),
        search_trials=2,
        bootstraps=100,
        settings={
            "segment.steps": 30,
            "segment.width": 16,
            "report.steps": 20,
            "report.width": 32,
            "report.layers": 1,
            "report.vocabulary_size": 300,
            "report.max_tokens": 24,
        },
    )


def sweep(*tasks: str, name: str = "toy") -> Sweep:
    return Sweep(
        name=name,
        corpus=CORPUS,
        recipes=(RECIPE,),
        images=(8,),
        budget=Budget(steps=4, batch_size=8),
        protocol=protocol(*tasks),
    )
