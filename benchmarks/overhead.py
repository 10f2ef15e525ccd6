"""What a cell costs beside its steps: how much of it is Ray's and PyTorch's, and how much is ours?

``python -m benchmarks.overhead`` makes a small synthetic hospital and a Ray head of its own, and
times, in turn and several times: a ``TorchTrainer`` of two processes that do nothing but make an
optimiser, and a cell of two processes; a task that does the same in a process of its own, and a
cell of one process in a process of its own; and one in a process that has had a cell. (With its
first optimiser PyTorch imports its compiler, half as much again as the rest of it.) A process of
its own is what a task with a GPU gets, and ends with it: the head has a GPU on paper, and the
arithmetic is on the CPU.

First it prints the CPU seconds that a new process imports for, which are the same on a machine that
has other things to do.

Of a cell's time, from its lease to ``DONE``, its steps are taken off: as many as it has at the
median time between two rows of its log, so that the start of the stream counts as overhead.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console
from rich.table import Table

from benchmarks.chaos import small_hospital
from benchmarks.growth_check import sweep
from benchmarks.ray_head import environment, idle_workers, kill, ray_head
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import _alone, run_cell
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from radsweep.sweep.cluster import connected

STEPS = 60
PLACED = Workers(cpus=0.5, stream_cpus=0.5, checkpoint_steps=STEPS)
IMPORTS = """
import time
import ray.train.torch, torch
theirs = time.process_time()
torch.optim.AdamW(torch.nn.Linear(1, 1).parameters())
optimiser = time.process_time()
import radsweep.pretrain.worker
print(theirs, optimiser - theirs, time.process_time() - optimiser)
"""
OF_ITS_OWN = {"num_cpus": 0.5, "num_gpus": 1, "max_calls": 1}


def imports(rounds: int) -> Table:
    """CPU seconds of Ray and PyTorch, of the first optimiser and of what is ours."""
    said = [
        subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
        for _ in range(rounds)
    ]
    columns = zip(*(map(float, one.stdout.split()) for one in said), strict=True)
    table = figures_table(f"CPU seconds of imports, {rounds} rounds")
    for name, all_s in zip(("Ray, PyTorch", "an optimiser", "ours"), columns, strict=True):
        add(table, name, all_s, 2)
    return table


def figures_table(title: str) -> Table:
    """For ``add``."""
    table = Table(title=title)
    for name in ("", "median", "least", "most"):
        table.add_column(name, justify="right" if name else "left")
    return table


def add(table: Table, name: str, all_s: Sequence[float], digits: int) -> None:
    """One row."""
    figures = (statistics.median(all_s), min(all_s), max(all_s))
    table.add_row(name, *(f"{each:.{digits}f}" for each in figures))


def make_an_optimiser() -> None:
    """What anything that trains does first."""
    torch.optim.AdamW(torch.nn.Linear(1, 1).parameters())


def empty_run(folder: Path, number: int) -> None:
    """Two processes under Ray Train."""
    TorchTrainer(
        make_an_optimiser,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name=f"empty-{number}", storage_path=str(folder)),
    ).fit()


def run_in_its_own(cell: Cell, store: Store, workers: Workers) -> Record:
    """As ``run_cell`` does where a cell has one GPU."""
    task = ray.remote(**OF_ITS_OWN)(_alone)
    return Record(**ray.get(task.remote(cell, store, workers))["record"])


def beside_steps_s(
    cell: Cell, store: Store, count: int, run: Callable[[Cell, Store, Workers], Record] = run_cell
) -> float:
    """Seconds that a cell of so many processes takes beside its steps."""
    corner, workers = CellStore(store, cell.name), dataclasses.replace(PLACED, count=count)
    began = time.monotonic()
    with corner.lease():
        corner.declare(cell)
        corner.finish(run(cell, store, workers))
    took = time.monotonic() - began
    log = store.read_table(corner.path("steps.parquet"))
    # The first row has the start of the stream in it.
    row_s = statistics.median(log["images_seen"][0] / log["images_per_second"][1:])
    return took - len(log) * row_s


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--corpus", type=Path, help="a store with little@1; none makes one")
    given = parser.parse_args()
    os.environ.update(environment())
    console, folder = Console(width=100), Path(tempfile.mkdtemp(prefix="overhead-"))
    console.print(imports(given.rounds))
    store = Store(str(folder / "store"))
    shutil.copytree(given.corpus or small_hospital(folder), store.url)
    cells = iter(
        cell
        for cell in sweep("overhead", (12,), tuple(range(4 * given.rounds + 1)), STEPS).cells()
        if not cell.is_baseline
    )
    with ray_head(cpus=2, gpus=1) as head, connected(head.address):
        task = ray.remote(**OF_ITS_OWN)(make_an_optimiser)
        kinds: dict[str, Callable[[int], float]] = {
            "Ray Train, two processes": lambda number: seconds(lambda: empty_run(folder, number)),
            "a cell of two processes": lambda _: beside_steps_s(next(cells), store, 2),
            "a cell in a used process": lambda _: [
                beside_steps_s(next(cells), store, 1) for _ in range(2)
            ][1],
            "a task in a process of its own": lambda _: seconds(lambda: ray.get(task.remote())),
            "a cell in a process of its own": lambda _: beside_steps_s(
                next(cells), store, 1, run_in_its_own
            ),
        }
        # A task of its own would take one that Ray started in advance, as long as there are any.
        for number in idle_workers(head):
            kill(number)
        # What a head does once, and processes of the stream.
        beside_steps_s(next(cells), store, 2)
        took: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(given.rounds):
            for name, measure in kinds.items():
                took[name].append(measure(number))
                console.print(f"{name}: {took[name][-1]:.1f} s", highlight=False)
    shutil.rmtree(folder)
    train, wide, used, alone, own = took.values()
    took["ours, of a cell of two"] = [cell - it for cell, it in zip(wide, train, strict=True)]
    took["ours, of one in a process of its own"] = [
        cell - it for cell, it in zip(own, alone, strict=True)
    ]
    took["ours, of one in a used process"] = used
    table = figures_table(f"seconds beside {STEPS} steps, {given.rounds} rounds")
    for name, all_s in took.items():
        add(table, name, all_s, 1)
    console.print(table)


if __name__ == "__main__":
    main()
