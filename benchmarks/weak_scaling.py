"""Twice the work on twice the nodes: how much of the speed is kept?

``python -m benchmarks.weak_scaling`` makes a small synthetic hospital and a Ray cluster of a head
that runs no work and two nodes of one CPU, each held to a core of its own with all its processes:
a trainer and its stream share it. It trains one cell on one node, two cells side by side, and one
cell of two processes with twice the batch, and prints their steps' times from their logs, starts
left out. Beside them, what two cores give two processes that have nothing to do with each other:
the same arithmetic in plain PyTorch, one process and two. Linux only.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chaos import small_hospital
from benchmarks.growth_check import TRAINED, Clock, sweep
from benchmarks.ray_head import Head, environment, ray_head
from radsweep.pretrain.place import Workers
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.run import RunOptions, run

BATCH_SIZE = 8
"""Of a process."""
ENCODER = {"patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3, "in_chans": 1}
WARM_ROWS = 2
"""Of the log that are left out: the stream's first batches were there before."""

WORKERS = Workers(cpus=0.6, stream_cpus=0.4, checkpoint_steps=1000)
"""Two trainers do not fit on one node: Ray Train packs them where they do."""

PLAIN = """
import sys, time, torch
torch.set_num_threads(1)
layers = torch.nn.TransformerEncoderLayer(192, 3, 768, batch_first=True)
tower = torch.nn.TransformerEncoder(layers, 6, enable_nested_tensor=False)
tokens = torch.randn(16, 65, 192)
times = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    tower(tokens).square().mean().backward()
    times.append(time.perf_counter() - began)
print(sorted(times)[len(times) // 2])
"""


def plain_s(cores: list[int], steps: int) -> float:
    """Mean over the cores of the median step of a process that each is given."""
    running = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-c", PLAIN, str(steps)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for core in cores
    ]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def join(head: Head, core: int) -> None:
    """One more node of one CPU, whose processes have one core."""
    joined = subprocess.run(
        [
            *("taskset", "-c", str(core), sys.executable, "-m", "ray.scripts.scripts", "start"),
            *(f"--address={head.address}", "--num-cpus=1", "--disable-usage-stats"),
            *("--object-store-memory=300000000", "--node-ip-address=127.0.0.1"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if joined.returncode:
        raise RuntimeError(joined.stdout + joined.stderr)


def asked(name: str, cells: int, processes: int, steps: int) -> Sweep:
    """So many cells, each with a process's share of the batch for each of its processes."""
    small = sweep(name, (12,), tuple(range(cells)), steps)
    recipe = dataclasses.replace(small.recipes[0], encoder_settings=ENCODER, image_size=64)
    budget = dataclasses.replace(small.budget, batch_size=BATCH_SIZE * processes)
    return dataclasses.replace(small, recipes=(recipe,), budget=budget)


def step_s(head: Head, corpus: Path, cells: int, processes: int, steps: int) -> float:
    """Of the cells that train side by side, their mean; telling the log is counted."""
    made = asked(f"weak-{cells}-{processes}", cells, processes, steps)
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        store = Store(str(shutil.copytree(corpus, folder, dirs_exist_ok=True)))
        workers = dataclasses.replace(WORKERS, count=processes)
        options = RunOptions(
            address=head.address, only=TRAINED, at_once=cells, workers_for=lambda cell: workers
        )
        trained = run(made, store, options, Clock(head)).trained
        rates = [
            store.read_table(CellStore(store, cell).path("steps.parquet"))["images_per_second"]
            for cell in trained
        ]
    times = [made.budget.batch_size / rate[WARM_ROWS:] for rate in rates]
    return statistics.mean(float(each.mean()) for each in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a store with little@1; none makes one")
    given = parser.parse_args()
    os.environ.update(environment())
    console = Console(width=100)
    cores = sorted(os.sched_getaffinity(0))[:2]
    folder = Path(tempfile.mkdtemp(prefix="weak-"))
    corpus = shutil.copytree(given.corpus or small_hospital(folder), folder / "store")
    kinds: dict[str, Callable[[], float]] = {
        "plain PyTorch, one process": lambda: plain_s(cores[:1], given.steps),
        "plain PyTorch, two processes": lambda: plain_s(cores, given.steps),
    }
    took: dict[str, list[float]]
    with ray_head(cpus=0) as head:
        for core in cores:
            join(head, core)
        kinds |= {
            "a cell on one node": lambda: step_s(head, corpus, 1, 1, given.steps),
            "two cells on two nodes": lambda: step_s(head, corpus, 2, 1, given.steps),
            "a cell of two processes, twice the batch": lambda: step_s(
                head, corpus, 1, 2, given.steps
            ),
        }
        took = {name: [] for name in kinds}
        for _ in range(given.rounds):
            for name, measure in kinds.items():
                took[name].append(measure())
                console.print(f"{name}: {1000 * took[name][-1]:.0f} ms a step", highlight=False)
    shutil.rmtree(folder)
    table = Table(title=f"ms a step, {given.rounds} rounds of {given.steps} steps")
    for name in ("", *(str(one + 1) for one in range(given.rounds)), "kept"):
        table.add_column(name, justify="right" if name else "left")
    for name, seconds in took.items():
        alone = took["plain PyTorch, one process" if "plain" in name else "a cell on one node"]
        kept = statistics.mean(alone) / statistics.mean(seconds)
        table.add_row(name, *(f"{1000 * each:.0f}" for each in seconds), f"{kept:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
