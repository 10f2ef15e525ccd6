"""From shards to augmented batches at the trainer, against PyTorch's and MosaicML's loaders.

``python benchmarks/stream.py [--recipe NAME] [--processes P ...] [--patients N] [--folder DIR]``
draws a phantom hospital, ingests it at the recipe's size, and makes the recipe's views of the same
films in four ways, each with P processes beside the one that takes the batches:

- radsweep's stream, by Ray Data;
- the floor: the same function in P processes that hand nothing on, so that what is missing from its
  rate is what Ray Data costs;
- a ``DataLoader`` over a dataset of byte ranges of the same shards;
- MosaicML Streaming over the same PNGs in its own shards, where it is installed: it wants another
  numpy and three clouds' clients, so ``pip install --no-deps mosaicml-streaming`` in an environment
  of its own, and what it then misses.

The second table says how many CPU cores feed one H200 at that rate. The third has the seconds from
the call to the first batch: of a fresh shuffled epoch of ``--epoch`` images (the stored ones
repeated), and of a resume after 10 steps and after most of the epoch; the best of three, Ray being
there already. Films are in the page cache: storage is not measured.
"""

import argparse
import importlib.util
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import ray
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset, RandomSampler

from radsweep.corpus.example import Example, Stratum, Viewer, Views
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus, index_table, shard_file
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.corpus.stream import TASK_STEPS, local_stream, stream
from radsweep.jobs.presets import PRESETS
from radsweep.pretrain.cell import build
from radsweep.pretrain.chips import peak_flops
from radsweep.store import Store

MOSAIC = importlib.util.find_spec("streaming") is not None
if MOSAIC:
    from streaming import MDSWriter, Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

CORPUS = "phantom@1"
POLICIES = {"rad-dino": "rad-dino", "mi2-clip": "mi2", "mi2-unicl": "mi2"}
TFLOP_PER_IMAGE = {"rad-dino": 2.716, "mi2-clip": 1.969, "mi2-unicl": 1.969}
"""Of training, as ``radsweep plan`` counts them: 2 FLOPs per multiply-add, teacher included."""
FILM_SIDE = 1024
WARM, MEASURED = 1, 4
"""Ray tasks of each process before the clock and under it."""
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every side is given."""

    store: Store
    films: int
    """Stored ones; row r of the epoch is film r % films."""
    index: pa.Table
    """Manifest rows of the epoch."""
    viewer: Viewer
    batch_size: int
    mosaic: Path
    """Where MosaicML's shards are."""


Batches = Iterator[Any]
Side = Callable[[Work, int, int], Batches]
"""Of work, processes and the step to begin at."""


def ours(work: Work, processes: int, first_step: int) -> Batches:
    """Through Ray Data."""
    return stream(
        **{"store": work.store, "index": work.index, "viewer": work.viewer, "seed": 0},
        **{"batch_size": work.batch_size, "world_size": 1, "rank": 0},
        **{"first_step": first_step, "steps": 10**9, "cpus": processes},
    )


def alone(work: Work, processes: int, first_step: int, rank: int = 0) -> Batches:
    """Without Ray, one of so many processes."""
    return local_stream(
        **{"store": work.store, "index": work.index, "viewer": work.viewer, "seed": 0},
        **{"batch_size": work.batch_size, "world_size": processes, "rank": rank},
        **{"first_step": first_step, "steps": 10**9},
    )


class Films(Dataset[Views]):
    """As a user would write it: places in arrays, one read and one decode per image."""

    def __init__(self, work: Work) -> None:
        films = work.index.slice(0, work.films)
        self._offsets, self._lengths, self._shards = (
            films[name].to_numpy() for name in ("offset", "length", "shard")
        )
        self._reports = films["report"].to_pylist()
        self._paths = {
            shard: work.store.full(shard_file(CORPUS, shard)) for shard in set(self._shards)
        }
        self._rows, self._view, self._batch = work.index.num_rows, work.viewer, work.batch_size
        self._opened: dict[int, int] = {}
        self._generator: np.random.Generator | None = None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Views:
        film = row % len(self._offsets)
        shard = self._shards[film]
        if self._generator is None:
            self._generator = np.random.default_rng(torch.initial_seed())
        if shard not in self._opened:
            self._opened[shard] = os.open(self._paths[shard], os.O_RDONLY)
        png = os.pread(self._opened[shard], int(self._lengths[film]), int(self._offsets[film]))
        return views(png, self._reports[film], self._view, self._batch, self._generator)


def views(
    png: bytes, report: str | None, view: Viewer, batch: int, generator: np.random.Generator
) -> Views:
    """Of one film, by the recipe's own viewer."""
    with Image.open(pa.BufferReader(png)) as image:
        example = Example(image_id="", pixels=np.array(image), report=report)
    return view(example, generator, Stratum(int(generator.integers(batch)), batch))


def loader(work: Work, processes: int, first_step: int) -> Batches:
    """PyTorch's, resumed by letting the sampler run on."""
    films = Films(work)
    rows = islice(RandomSampler(films), first_step * work.batch_size, None)
    return iter(DataLoader(films, work.batch_size, sampler=list(rows), num_workers=processes))


def scanning_loader(work: Work, processes: int, first_step: int) -> Batches:
    """PyTorch's, resumed by taking batches and throwing them away."""
    return islice(loader(work, processes, 0), first_step, None)


if MOSAIC:

    class Mosaic(StreamingDataset):
        """MosaicML's, with the same views."""

        def __init__(self, work: Work) -> None:
            """The stored films, each repeated to fill the epoch."""
            repeats = work.index.num_rows / work.films
            super().__init__(
                streams=[Stream(local=str(work.mosaic), repeat=repeats)],
                batch_size=work.batch_size,
                shuffle=True,
            )
            self._view, self._batch = work.viewer, work.batch_size
            self._generator: np.random.Generator | None = None

        def __getitem__(self, row: int) -> Views:
            found = super().__getitem__(row)
            if self._generator is None:
                self._generator = np.random.default_rng(torch.initial_seed())
            return views(found["png"], found["report"], self._view, self._batch, self._generator)


def mosaic(work: Work, processes: int, first_step: int) -> Batches:
    """MosaicML's, resumed by its state."""
    clean_stale_shared_memory()
    films = Mosaic(work)
    films.load_state_dict(films.state_dict(first_step * work.batch_size, from_beginning=True))
    return iter(DataLoader(films, work.batch_size, num_workers=processes))


SIDES: dict[str, tuple[Side, bool]] = {
    "radsweep, Ray Data": (ours, True),
    "torch DataLoader": (loader, True),
    "MosaicML Streaming": (mosaic, MOSAIC),
}
STARTS: dict[str, tuple[Side, bool]] = {
    "radsweep, Ray Data": (ours, True),
    "radsweep in this process": (alone, True),
    "DataLoader, sampler runs on": (loader, True),
    "DataLoader, batches skipped": (scanning_loader, True),
    "MosaicML Streaming": (mosaic, MOSAIC),
}


def rate(batches: Batches, batch_size: int, steps: int) -> float:
    """Images a second, each batch copied as on its way to a device."""
    for _ in range(steps * WARM // MEASURED):
        next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        [np.array(value) for value in next(batches).values()]
    return batch_size * steps / (time.perf_counter() - began)


def floor(work: Work, processes: int) -> float:
    """Images a second of so many processes that keep what they make."""

    @ray.remote(num_cpus=1)
    def one(work: Work, rank: int) -> float:
        steps = TASK_STEPS * MEASURED
        return rate(alone(work, processes, 0, rank), work.batch_size, steps)

    given = ray.put(work)
    return sum(ray.get([one.remote(given, rank) for rank in range(processes)]))


def settle(processes: int) -> None:
    """Wait for the tasks of a stream that was left, and for its executor's thread."""
    if ray.is_initialized():
        time.sleep(1)
        while ray.available_resources().get("CPU", 0) < processes:
            time.sleep(0.1)


@contextmanager
def cluster(processes: int, needed: bool) -> Iterator[None]:
    """Ray for the sides that need it, and none while others fork."""
    if needed:
        ray.init(
            address="local",
            num_cpus=processes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        if needed:
            settle(processes)
            ray.shutdown()


def first_batch(side: Side, work: Work, processes: int, step: int) -> float:
    """Seconds from the call to the first batch; what was begun beyond it ends outside the clock."""
    began = time.perf_counter()
    batches = side(work, processes, step)
    next(batches)
    took = time.perf_counter() - began
    del batches
    settle(processes)
    return took


def prepare(recipe: str, patients: int, folder: Path) -> Corpus:
    """The hospital's films, drawn and ingested unless the folder has them."""
    films = folder / f"films-{patients}"
    if not (films / "phantom.json").exists():
        write_hospital(films, HOSPITALS["riverside"], patients, FILM_SIDE, 0, broken=0)
    store = Store(str(folder / f"{recipe}-{patients}" / "store"))
    spec = IngestSpec(
        corpus=CORPUS,
        sources=(str(films / "dicom"),),
        reports=(str(films / "reports.csv"),),
        policy=POLICIES[recipe],
        size=PRESETS[recipe]("random").image_size,
    )
    ingest(spec, store, PatientKey(b"no secret: nobody is in these pictures"))
    return Corpus.open(store, CORPUS)


def write_mosaic(corpus: Corpus, folder: Path) -> None:
    """The same PNGs and reports in MosaicML's shards."""
    if (folder / "index.json").exists():
        return
    with MDSWriter(out=str(folder), columns={"png": "bytes", "report": "str"}) as writer:
        for shard, offset, length, report in corpus.manifest.select(
            "shard", "offset", "length", "report"
        ).iter_rows():
            [png] = corpus.store.read_ranges([(shard_file(CORPUS, shard), offset, offset + length)])
            writer.write({"png": png, "report": report or ""})


def table(title: str, *columns: str) -> Table:
    """With figures to the right."""
    made = Table(title=title)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    return made


def rates(work: Work, processes: int, console: Console, title: str) -> float:
    """Print the first table; gives our images a second."""
    steps = TASK_STEPS * MEASURED * processes
    with cluster(processes, needed=True):
        least = floor(work, processes)
    shown = table(f"{title}, {processes} processes", "", "images/s", "per core", "of the floor")
    shown.add_row("floor: made and kept", f"{least:.1f}", f"{least / processes:.1f}", "1.00")
    found = {}
    for name, (side, there) in SIDES.items():
        if not there:
            shown.add_row(name, "not installed", "", "")
            continue
        with cluster(processes, needed=side is ours):
            found[name] = rate(side(work, processes, 0), work.batch_size, steps)
        figures = (f"{found[name]:.1f}", f"{found[name] / processes:.1f}")
        shown.add_row(name, *figures, f"{found[name] / least:.2f}")
    console.print(shown)
    return found["radsweep, Ray Data"]


def starts(work: Work, processes: int, console: Console, title: str) -> None:
    """Print the third table."""
    steps = (0, 10, work.index.num_rows // work.batch_size * 9 // 10)
    heads = ("fresh", *(f"step {step:,}" for step in steps[1:]), "last / fresh")
    shown = table(
        f"{title}, epoch of {work.index.num_rows:,}: seconds to the first batch", "", *heads
    )
    for name, (side, there) in STARTS.items():
        if not there:
            shown.add_row(name, "not installed")
            continue
        best = [float("inf")] * len(steps)
        with cluster(processes, needed=side is ours):
            for _ in range(ROUNDS):
                for place, step in enumerate(steps):
                    if side is not scanning_loader or step <= steps[1]:
                        best[place] = min(best[place], first_batch(side, work, processes, step))
        figures = [f"{seconds:.2f}" if np.isfinite(seconds) else "-" for seconds in best]
        ratio = f"{best[-1] / best[0]:.2f}" if np.isfinite(best[-1]) else "-"
        shown.add_row(name, *figures, ratio)
    console.print(shown)


def main() -> None:
    """Draw, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=sorted(PRESETS), default="rad-dino")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--patients", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="keep the films here for another time")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epoch", type=int, default=200_000)
    parser.add_argument("--mfu", type=float, default=0.4, help="assumed, of the H200")
    parser.add_argument("--only", choices=("rates", "starts"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        corpus = prepare(given.recipe, given.patients, folder)
        mds = folder / f"{given.recipe}-{given.patients}" / "mds"
        if MOSAIC:
            write_mosaic(corpus, mds)
        reports = corpus.manifest["report"].drop_nulls().to_list()
        with torch.device("meta"):
            viewer = build(PRESETS[given.recipe]("random"), None, reports, seed=0).viewer()
        epoch = -(-given.epoch // corpus.manifest.height)
        work = Work(
            store=corpus.store,
            films=corpus.manifest.height,
            index=index_table(pl.concat([corpus.manifest] * epoch)),
            viewer=viewer,
            batch_size=given.batch_size,
            mosaic=mds,
        )
        kilobytes = corpus.manifest["length"].mean() / 1e3  # type: ignore[operator]
        title = f"{given.recipe}, {work.films} films of {kilobytes:.0f} kB"
        if given.only != "starts":
            demand = peak_flops("H200", "bf16") * given.mfu / TFLOP_PER_IMAGE[given.recipe] / 1e12
            feeding = table(
                f"One H200 at {given.mfu:.0%} of its peak: {demand:.0f} images/s of "
                f"{TFLOP_PER_IMAGE[given.recipe]} TFLOP each",
                *("processes", "images/s per core", "cores for one H200"),
            )
            for processes in given.processes:
                per_core = rates(work, processes, console, title) / processes
                feeding.add_row(f"{processes}", f"{per_core:.1f}", f"{demand / per_core:.1f}")
            console.print(feeding)
        if given.only != "rates":
            starts(work, max(given.processes), console, title)


if __name__ == "__main__":
    main()
