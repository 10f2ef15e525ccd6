"""A small finished corpus of random images, made without DICOM, and a viewer that crops."""

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray
from PIL import Image

from radsweep.corpus.copies import VARIABLE
from radsweep.corpus.example import Example, Stratum
from radsweep.corpus.manifest import SCHEMA, Corpus, corpus_file, shard_file
from radsweep.store import Store


@dataclass(frozen=True)
class CropViewer:
    """Two random crops, a flip and the stratum, by example, generator and stratum alone."""

    size: int

    def __call__(
        self, example: Example, generator: np.random.Generator, stratum: Stratum
    ) -> dict[str, np.ndarray]:
        views = {}
        for name in ("left", "right"):
            top, left = generator.integers(0, example.pixels.shape[0] - self.size + 1, 2)
            crop = example.pixels[top : top + self.size, left : left + self.size]
            views[name] = np.ascontiguousarray(crop[:, :: generator.choice([-1, 1])])[None]
        views["stratum"] = np.array([stratum.index, stratum.count])
        views["label"] = np.float32(example.labels["finding_effusion"] or 0)
        return views


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_toy(store: Store, name: str, images: int, size: int, seed: int = 0) -> Corpus:
    """Finished corpus of ``images`` images, one to three a patient, in shards of 64."""
    random = np.random.default_rng(seed)
    rows, packs = [], {}
    patient, left = 0, 0
    for number in range(images):
        if left == 0:
            patient, left = patient + 1, int(random.integers(1, 4))
        left -= 1
        data = png(random.integers(0, 256, (size, size), np.uint8))
        mask = png(np.full((size, size), number % 4, np.uint8))
        pack = packs.setdefault(number // 64, bytearray())
        row = {
            "image_id": f"i{number:06}",
            "patient_id": f"p{patient:06}",
            "exam_id": f"e{number:06}",
            "split": "pretrain" if patient % 5 else "test",
            "view": "frontal",
            "height": size,
            "width": size,
            "report": None if number % 7 == 0 else f"Report {number}.",
            "corpus": name,
            "shard": number // 64,
            "offset": len(pack),
            "length": len(data),
            "crc32": zlib.crc32(data),
            "finding_effusion": [1, 0, -1, None][number % 4],
        }
        pack += data
        if number % 3:
            row |= {
                "mask_offset": len(pack),
                "mask_length": len(mask),
                "mask_crc32": zlib.crc32(mask),
            }
            pack += mask
        rows.append(row)
    for shard, pack in packs.items():
        store.write_bytes(shard_file(name, shard), bytes(pack))
    frame = pl.DataFrame(rows, schema={**SCHEMA, "finding_effusion": pl.Int8()})
    store.write_table(corpus_file(name, "manifest.parquet"), frame)
    store.write_json(corpus_file(name, "card.json"), {"mask_classes": ["ett", "ngt"]})
    return Corpus.open(store, name)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def toy(store: Store) -> Corpus:
    return write_toy(store, "toy@1", images=200, size=24)


@pytest.fixture(scope="session")
def write_toy_corpus() -> Callable[..., Corpus]:
    return write_toy


@pytest.fixture(scope="session")
def crop_viewer() -> Callable[[int], CropViewer]:
    return CropViewer


@pytest.fixture(scope="module")
def small_ray(no_tokens: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of our own with two CPUs, gone again before another file's tests start theirs."""
    patch = pytest.MonkeyPatch()
    # What a node of a cluster keeps for itself.
    patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("copies")))
    # Workers unpickle the viewer of this file.
    patch.setenv("PYTHONPATH", str(Path(__file__).parent))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=500_000_000,
    )
    yield
    ray.shutdown()
    patch.undo()
