"""What a sweep of 1,000 cells and 100,000 trials asks of the head: seconds, memory, requests.

``python -m benchmarks.head [--cells N] [--answer-ms T]`` writes a small hospital and two sweeps
that are trained and scored already (a tenth of the cells, and all; no weights), and has a process
of its own do each thing that a driver does with them, on a local folder: the peak of its memory is
what the driver holds, and requests are what an object store would be asked. Then it counts what Ray
grows by: many no-op tasks, cells (baselines, which only load and save) and trials of a linear
probe, each alone in a trial of Ray Tune, through the code that runs real ones, under a head of its
own. What 100,000 would be is extrapolated, and says so. Linux only: memory is read in ``/proc``.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.console import Console
from rich.table import Table

import radsweep.evaluate.batches
import radsweep.evaluate.grid
from benchmarks import grid
from benchmarks.chaos import small_hospital
from benchmarks.ray_head import Head, command_line, environment, processes, ray_head
from radsweep.evaluate.batches import Batches, Outcome
from radsweep.evaluate.encoders import cell_facts
from radsweep.evaluate.grid import run_grid
from radsweep.evaluate.score_rows import measured_rows, with_cell
from radsweep.evaluate.search import Schedule
from radsweep.evaluate.wanted import wanted, write_index
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import fit_alone
from radsweep.probes.base import Range
from radsweep.specs import Cell, Sweep
from radsweep.store import Store, scores
from radsweep.store.cost import Cost
from radsweep.store.record import CellStore
from radsweep.sweep.cluster import QUIET, TASKS_KEPT
from radsweep.sweep.limits import Ledger, Limits
from radsweep.sweep.load import load_sweep
from radsweep.sweep.plan import make_plan, read_machine
from radsweep.sweep.results import read_cells, read_scores
from radsweep.sweep.run import RunOptions, run
from radsweep.sweep.show import status_table
from radsweep.tasks.base import MACRO, Measurement

TRIALS_PER_CELL = 100
ROWS_PER_FILE = 20
BOOTSTRAPS = 1000
"""Of the macro row, kept as draws."""
SCALES = (2, 4, 8, 12, 16)
SEARCHED = 19
"""Settings of each search, upon which test is read: 20 trials of a task and probe."""
SWEEP = """
from radsweep import Budget, Protocol, Recipe, Sweep

def recipe(paradigm):
    return Recipe(
        paradigm=paradigm, encoder="vit_tiny_patch16_224", image_size=32, learning_rate=1e-3,
        encoder_settings={{
            "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1
        }},
    )

SWEEP = Sweep(
    name="large",
    corpus="little@1",
    recipes=(recipe("clip"), recipe("dinov2")),
    images={scales},
    seeds=tuple(range({seeds})),
    budget=Budget(steps=1, batch_size=1),
    protocol=Protocol(
        tasks=("findings", "reports"), search_trials={searched}, bootstraps={bootstraps},
        settings={{"knn.neighbours": 20, "linear_mean.strengths": 9, "linear_pooled.strengths": 9}},
    ),
)
"""


def score(store: Store, sweep: Sweep, cells: tuple[Cell, ...]) -> int:
    """Write the score files of finished cells as trials do, with numbers by chance; how many."""
    generator, rows = np.random.default_rng(0), wanted(store, sweep, cells)
    write_index(store, sweep, rows)
    labels = [MACRO, *(f"label {number:02d}" for number in range(1, ROWS_PER_FILE))]
    for row in rows:
        unit, record = row.unit, CellStore(store, row.cell.name).record()
        level = generator.normal(0.7 + 0.01 * row.cell.subset.images, 0.01)
        made = [
            Measurement(
                label=label,
                metric="auprc",
                values=generator.normal(level, 0.01, 1 + BOOTSTRAPS),
                positives=None if label == MACRO else 9,
                patients=30.0,
            )
            for label in labels
        ]
        table = measured_rows(made, task=unit.task, probe=unit.probe, headline="auprc", n_test=30)
        facts = cell_facts(sweep.name, row.cell, record)
        scores.write(store, row.score, with_cell(table, facts))
    return len(rows)


class Quiet:
    """An observer that shows nothing."""

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """Nothing."""

    def cell_began(self, cell: Cell) -> None:
        """Nothing."""

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """Nothing."""

    def grid(self, done: int, total: int) -> None:
        """Nothing."""


def cost_of(recipe: object) -> Cost:
    """As if it had been counted before."""
    return Cost(flops_per_image=1e11, weight_bytes=10**9)


def plan_it(sweep: Sweep, store: Store) -> None:
    """``radsweep plan``."""
    make_plan(sweep, store, read_machine("aws-g6e-1xL40S", None), cost_of)


def show_status(sweep: Sweep, store: Store) -> None:
    """``radsweep status``."""
    Console(file=io.StringIO()).print(status_table(sweep.name, read_cells(sweep, store)))


def read_all(sweep: Sweep, store: Store) -> None:
    """``radsweep scores``."""
    assert read_scores(sweep, store).height > 0


def run_again(sweep: Sweep, store: Store) -> None:
    """``radsweep run`` where all is there: the first time with laws, labels and slices."""
    assert run(sweep, store, RunOptions(), Quiet()).is_complete


def ask_limits(sweep: Sweep, store: Store) -> None:
    """What ``--max-usd`` asks before each of the cells, none of which is there."""
    limits = Limits(
        machine=read_machine("aws-g6e-1xL40S", None), cost_of=cost_of, max_usd=float(10**9)
    )
    empty = Store(f"{store.url}-empty")
    card = "corpora/little@1/card.json"
    empty.write_bytes(card, store.read_bytes(card))
    ledger = Ledger(sweep, empty, limits, lambda cell: Workers())
    for cell in sweep.cells():
        assert ledger.refuses(cell) is None


def schedule_all(sweep: Sweep, store: Store) -> None:
    """The whole search of all cells in one grid, every step at once answered."""
    space = {"learning_rate": Range(low=1e-4, high=1e-1, first=1e-2)}
    units = len(sweep.cells()) * TRIALS_PER_CELL // (SEARCHED + 1)
    generator = np.random.default_rng(0)
    schedule = Schedule([space] * units, SEARCHED, list(range(units)))
    batches = Batches(schedule, [0] * units, places=64)
    while batch := batches.next():
        outcomes = [
            Outcome(score=None if step.is_final else generator.random(), error=None, seconds=60.0)
            for step in batch
        ]
        batches.tell(batch, outcomes)
    assert schedule.is_done and schedule.done == len(sweep.cells()) * TRIALS_PER_CELL


THINGS: dict[str, Callable[[Sweep, Store], None]] = {
    "plan": plan_it,
    "limits, asked before each cell": ask_limits,
    "run, all there, laws for the first time": run_again,
    "run, all there, once more": run_again,
    "status": show_status,
    "scores": read_all,
    "the search of all trials, each answered at once": schedule_all,
}


def do(thing: str, file: Path, url: str, answer_ms: float) -> None:
    """One thing in this process, by a store that answers so late; prints its figures as JSON."""
    requests, patiently = 0, Store._patiently

    def counted(store: Store, path: str, task: Callable[[], Any]) -> Any:
        nonlocal requests
        requests += 1
        time.sleep(answer_ms / 1000)
        return patiently(store, path, task)

    Store._patiently = counted  # type: ignore[method-assign, assignment]
    sweep, store = load_sweep(str(file)), Store(url)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    THINGS[thing](sweep, store)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"seconds": seconds, "requests": requests}
    print(json.dumps(figures | {"mib": peak / 1024, "more_mib": (peak - before) / 1024}))


def drivers(folder: Path, sizes: tuple[int, ...], answer_ms: float) -> Table:
    """Every thing for every size, each in a process of its own."""
    corpus = small_hospital(folder)
    figures: dict[str, list[dict[str, float]]] = {thing: [] for thing in THINGS}
    counts = []
    for size in sizes:
        file, store = folder / f"large{size}.py", Store(str(folder / f"store{size}"))
        seeds = size // (2 * len(SCALES))
        file.write_text(
            SWEEP.format(scales=SCALES, seeds=seeds, bootstraps=BOOTSTRAPS, searched=SEARCHED)
        )
        subprocess.run(["cp", "-r", str(corpus), store.url], check=True)
        sweep = load_sweep(str(file))
        for number, cell in enumerate(sweep.cells()):
            grid.finish(store, cell, number)
        files = score(store, sweep, sweep.cells())
        counts.append(f"{len(sweep.cells()):,} cells, {files * ROWS_PER_FILE:,} score rows")
        for thing in THINGS:
            command = [sys.executable, "-m", "benchmarks.head", "--do", thing]
            ran = subprocess.run(
                [*command, "--file", file, "--store", store.url, "--answer-ms", str(answer_ms)],
                env=environment(),
                stdout=subprocess.PIPE,
                check=True,
            )
            figures[thing].append(json.loads(ran.stdout.splitlines()[-1]))
    table = Table(title="a driver, first for " + ", then for ".join(counts))
    for name in ("", "seconds", "", "peak MiB", "", "of these for it", "requests", ""):
        table.add_column(name, justify="right" if table.columns else "left")
    for thing, (few, many) in figures.items():
        row = [f"{few['seconds']:.2f}", f"{many['seconds']:.2f}"]
        row += [f"{few['mib']:,.0f}", f"{many['mib']:,.0f}", f"{many['more_mib']:,.0f}"]
        table.add_row(thing, *row, f"{few['requests']:,.0f}", f"{many['requests']:,.0f}")
    return table


PARTS = {"gcs_server": b"/gcs_server", "raylet": b"/raylet", "dashboard": b"/dashboard.py"}
"""Processes of a head, by the end of the program's path."""


def memory_kib(head: Head) -> dict[str, int]:
    """Resident memory of the head's processes and of this one, the driver."""
    numbers = {"driver": ["self"], **{name: [] for name in PARTS}}
    for number in processes(str(head.folder).encode()):
        program = command_line(Path(f"/proc/{number}")).split(b"\0")[:3]
        for name, part in PARTS.items():
            if any(word.endswith(part) for word in program):
                numbers[name].append(str(number))
    return {name: sum(_resident_kib(one) for one in found) for name, found in numbers.items()}


def _resident_kib(process: str) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@ray.remote
def nothing() -> None:
    """A task that does nothing."""


def slope(seen: list[tuple[int, dict[str, int]]]) -> dict[str, float]:
    """KiB for each one more, by least squares over the last three quarters of what was seen."""
    kept = seen[len(seen) // 4 :]
    counts = np.array([count for count, _ in kept], dtype=float)
    return {
        name: float(np.polyfit(counts, [float(said[name]) for _, said in kept], 1)[0])
        for name in kept[0][1]
    }


Seen = list[tuple[int, dict[str, int]]]


def grow_by_tasks(head: Head, count: int) -> Seen:
    """Memory after so many tasks, as those of streams."""
    seen = []
    for done in range(0, count, count // 20):
        ray.get([nothing.remote() for _ in range(count // 20)])
        seen.append((done + count // 20, memory_kib(head)))
    return seen


def grow_by_cells(head: Head, folder: Path, count: int) -> Seen:
    """Memory after so many cells that are loaded and saved."""
    file, store = folder / "cells.py", Store(str(folder / "cells"))
    subprocess.run(["cp", "-r", str(folder / "corpus"), store.url], check=True)
    file.write_text(SWEEP.format(scales=SCALES, seeds=1, bootstraps=BOOTSTRAPS, searched=SEARCHED))
    (cell, *_) = (cell for cell in load_sweep(str(file)).cells() if cell.is_baseline)
    seen = []
    for done in range(1, count + 1):
        assert fit_alone(cell, store, Workers())["state"] == "done"
        if done % (count // 20) == 0:
            seen.append((done, memory_kib(head)))
    return seen


def grow_by_trials(head: Head, folder: Path, count: int, per_run: int) -> Seen:
    """Memory after so many trials of Ray Tune, one step in each as long probes have it."""
    radsweep.evaluate.grid.TRIALS_PER_RUN = per_run
    radsweep.evaluate.batches.BATCH_SECONDS = radsweep.evaluate.batches.LEAST_SECONDS = 1e-9
    store = Store(str(folder / f"trials{per_run}"))
    grid.write_corpus(store, 80)
    sweep = grid.make_sweep(count // 2)
    cells = sweep.cells()
    for number, cell in enumerate(cells):
        grid.finish(store, cell, number)
    grid.write_features(store, sweep, cells, width=8)
    seen = []

    def look(done: int, total: int) -> None:
        if done % (count // 20) == 0:
            seen.append((done, memory_kib(head)))

    assert run_grid(store, sweep, cells, cpus=1, gpus=0, at_once=2, progress=look) == []
    return seen


def growth(folder: Path, trials: int) -> Table:
    """What Ray's processes and the driver grow by, each kind under a head of its own."""
    kinds: dict[str, tuple[int, Callable[[Head], Seen]]] = {
        "tasks": (20_000, lambda head: grow_by_tasks(head, 20_000)),
        "cells": (60, lambda head: grow_by_cells(head, folder, 60)),
        "trials": (trials, lambda head: grow_by_trials(head, folder, trials, trials)),
        "trials by the 50": (trials, lambda head: grow_by_trials(head, folder, trials, 50)),
    }
    names = ("driver", *PARTS)
    table = Table(title="Ray's growth: KiB for one more, and MiB at the end")
    for name in ("", "seconds each", *(f"{name}: KiB, MiB" for name in names)):
        table.add_column(name, justify="right" if name else "left")
    # Few are kept, so that what a head holds of tasks is full before its growth is measured.
    os.environ |= QUIET | {TASKS_KEPT: "400", "RAY_AUTH_MODE": "disabled"}
    for kind, (count, grow) in kinds.items():
        with ray_head(cpus=2) as head:
            ray.init(address=head.address, log_to_driver=False, logging_level="ERROR")
            try:
                began = time.perf_counter()
                seen = grow(head)
                seconds = time.perf_counter() - began
            finally:
                ray.shutdown()
        each, last = slope(seen), seen[-1][1]
        cells = [f"{each[name]:,.2f}, {last[name] / 1024:,.0f}" for name in names]
        table.add_row(f"{count:,} {kind}", f"{seconds / count:.4f}", *cells)
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="a multiple of 100")
    parser.add_argument("--trials", type=int, default=600, help="of Ray Tune; 0 leaves Ray out")
    parser.add_argument(
        "--answer-ms", type=float, default=0.0, help="after which the store answers each request"
    )
    parser.add_argument("--do", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do is not None:
        do(given.do, given.file, given.store, given.answer_ms)
        return
    with tempfile.TemporaryDirectory(prefix="head-") as scratch:
        folder = Path(scratch)
        Console(width=140).print(drivers(folder, (given.cells // 10, given.cells), given.answer_ms))
        if given.trials:
            Console(width=140).print(growth(folder, given.trials))


if __name__ == "__main__":
    main()
