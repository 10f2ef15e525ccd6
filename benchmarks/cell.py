"""A cell through Ray Data and Ray Train against the plain loop on batches that are in memory.

``python benchmarks/cell.py [--side 112 --batch 4 --steps 40 --rounds 2]`` draws and ingests a small
synthetic hospital, and trains one cell of each paradigm three ways, in turn, round after round: by
``pretrain`` alone on batches made before; as ``radsweep run`` does with one process (a Ray task
that is fed by Ray Data); and as it does with several (a Ray Train worker group, here of one). Two
CPU cores: one for the model, one for the stream, which the plain loop leaves idle. Printed are
images a second (median of all log rows but each round's first, which has the warm-up in it, and of
all rounds), time over the plain loop's, the share of the time that the trainer waited for data, and
the seconds that a cell takes beside its steps: start, weights, FLOPs, checkpoint, end.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from radsweep import Budget, Recipe, settings
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec
from radsweep.corpus.ingest_ray import ingest_with_ray
from radsweep.corpus.manifest import Corpus
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.corpus.stream import local_stream
from radsweep.corpus.subset import select
from radsweep.keys import seed_of
from radsweep.pretrain.cell import build
from radsweep.pretrain.loop import Progress, Ranks, Row, make_optimiser, pretrain
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import fit_alone, fit_with_ray_train
from radsweep.specs import Cell, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.cluster import connected

CORPUS, PATIENTS, IMAGES = "bench@1", 60, 32
WORKERS = Workers(cpus=1, stream_cpus=1)


def flags() -> argparse.Namespace:
    """Sizes; the defaults take some ten minutes on two CPU cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("side", 112), ("batch", 4), ("steps", 40), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def recipes(side: int) -> dict[str, Recipe]:
    """A small ViT on the views of the real recipes; the cost of a view does not depend on it."""
    encoder = {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 3, "in_chans": 1}
    text = {"text_width": 192, "text_layers": 4, "text_heads": 3, "embed_dim": 192}
    dinov2 = {"local_size": 96, "local_crops": 8, "prototypes": 4096, "collapse_after": 1.0}
    own = {"clip": text | {"vocabulary_size": 2000}, "dinov2": dinov2}
    return {
        paradigm: Recipe(
            paradigm=paradigm,
            encoder="vit_tiny_patch16_224",
            encoder_settings=settings(encoder),
            image_size=side,
            learning_rate=1e-4,
            settings=settings(values),
        )
        for paradigm, values in own.items()
    }


def write_corpus(store: Store, films: Path, side: int) -> None:
    """Films at the size that training crops from, stored as ``radsweep ingest`` stores them."""
    write_hospital(films, HOSPITALS["riverside"], PATIENTS, side, 0, processes=2)
    spec = IngestSpec(
        corpus=CORPUS,
        sources=(str(films / "dicom"),),
        reports=(str(films / "reports.csv"),),
        labels=(str(films / "labels.csv"),),
        size=side,
    )
    ingest_with_ray(spec, store, PatientKey(b"nobody is in these pictures"))


@dataclass
class Seen:
    """What one way of training took."""

    rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)

    def add(self, rows: list[Row], beside_s: float) -> None:
        """A round's log, but for its first row."""
        self.rates += [float(row["images_per_second"] or 0.0) for row in rows[1:]]
        self.waits += [float(row["data_wait"] or 0.0) for row in rows[1:]]
        self.beside_s.append(beside_s)


def plain(cell: Cell, store: Store, seen: Seen) -> None:
    """The loop alone, on batches in memory."""
    subset = select(Corpus.open(store, CORPUS), cell.subset)
    paradigm = build(cell.recipe, None, subset.reports(), cell.seed)
    assert cell.budget.steps is not None
    batches = list(
        local_stream(
            store,
            subset.table,
            paradigm.viewer(),
            seed=seed_of("stream", cell.subset.seed, cell.seed),
            batch_size=cell.budget.batch_size,
            world_size=1,
            rank=0,
            first_step=0,
            steps=cell.budget.steps,
        )
    )
    progress = Progress()
    pretrain(
        cell,
        paradigm,
        make_optimiser(paradigm, cell.recipe),
        batches,
        steps=cell.budget.steps,
        progress=progress,
        ranks=Ranks(),
        report=lambda row: None,
        checkpoint=lambda: None,
        checkpoint_steps=cell.budget.steps,
    )
    seen.add(progress.rows, 0.0)


def by_ray(fit: Callable[..., dict[str, object]]) -> Callable[[Cell, Store, Seen], None]:
    """A cell as ``run_cell`` trains it."""

    def train(cell: Cell, store: Store, seen: Seen) -> None:
        began = time.perf_counter()
        answer = fit(cell, store, WORKERS, 1)
        took = time.perf_counter() - began
        assert answer["state"] == "done", answer
        rows = store.read_table(CellStore(store, cell.name).path("steps.parquet")).to_dicts()
        seen.add(rows, took - rows[-1]["seconds"])

    return train


WAYS = {
    "plain loop, batches in memory": plain,
    "Ray task, Ray Data": by_ray(fit_alone),
    "Ray Train, Ray Data": by_ray(fit_with_ray_train),
}


def main() -> None:
    """Train and print."""
    given, console = flags(), Console()
    torch.set_num_threads(1)
    table = Table(title=f"{given.batch} images of {given.side} px, {given.steps} steps")
    for column in ("paradigm", "way", "images/s", "time", "waits for data", "beside its steps"):
        table.add_column(column, justify="left" if column in ("paradigm", "way") else "right")
    with tempfile.TemporaryDirectory() as folder, connected(None, 2):
        store = Store(f"{folder}/corpus")
        write_corpus(store, Path(folder) / "films", given.side)
        for paradigm, recipe in recipes(given.side).items():
            seen = {way: Seen() for way in WAYS}
            for number in range(given.rounds):
                for way, train in WAYS.items():
                    cell = Cell(
                        recipe=recipe,
                        subset=Subset(corpus=CORPUS, images=IMAGES),
                        budget=Budget(steps=given.steps, batch_size=given.batch),
                        seed=number,
                    )
                    train(cell, store, seen[way])
            alone = statistics.median(seen["plain loop, batches in memory"].rates)
            for way, took in seen.items():
                rate = statistics.median(took.rates)
                table.add_row(
                    paradigm,
                    way,
                    f"{rate:.1f}",
                    f"{alone / rate:.3f}",
                    "" if way.startswith("plain") else f"{statistics.median(took.waits):.1%}",
                    "" if way.startswith("plain") else f"{statistics.median(took.beside_s):.1f} s",
                )
    console.print(table)


if __name__ == "__main__":
    main()
