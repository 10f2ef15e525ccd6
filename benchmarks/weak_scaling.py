"""Twice the work on twice the machine: what of the speed is kept?

``python -m benchmarks.weak_scaling`` makes a small synthetic hospital and a Ray cluster whose nodes
have one CPU and one core each, as many as there are cores, and trains the same tiny cells on one
node, on two, on four: side by side, a cell for each node, and as one cell with a process and a
share of the batch for each. Rates are those of the cells' own logs, without their starts. Head and
driver have no core of their own, so that the last row pays for them as well. The
simulator of ``benchmarks/growth.py`` goes on where cores end, with its flags and guesses: a corpus
that grows with the GPUs. Linux only.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.chaos import small_hospital
from benchmarks.growth import GPUS, fleet_of, options, simulated
from benchmarks.growth_check import TRAINED, Clock, sweep
from benchmarks.ray_head import Head, environment, ray_head
from radsweep.pretrain.worker import Workers
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.run import RunOptions, run

STEPS = 240
BATCH_SIZE = 32
"""Of a process."""
ENCODER = {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4, "in_chans": 1}
"""A step takes some tenths of a second, as one that is worth a process of its own does."""
WARM_ROWS = 0.25
"""Share of the log's rows that are left out: the stream's first batches were there before."""

PER_GPU = 3_500_000 // 8
"""Images of the simulated corpus for each GPU: those of the study for eight."""


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


def asked(name: str, cells: int, processes: int) -> Sweep:
    """So many cells, each with a process's share of the batch for each of its processes."""
    small = sweep(name, (12,), tuple(range(cells)), STEPS)
    recipe = dataclasses.replace(small.recipes[0], encoder_settings=ENCODER, image_size=64)
    budget = dataclasses.replace(small.budget, batch_size=BATCH_SIZE * processes)
    return dataclasses.replace(small, recipes=(recipe,), budget=budget)


def images_per_second(head: Head, corpus: Path, name: str, cells: int, processes: int) -> float:
    """Of all cells together, on a fresh store."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        store = Store(str(shutil.copytree(corpus, folder, dirs_exist_ok=True)))
        workers = Workers(count=processes, cpus=0.5, stream_cpus=0.5, checkpoint_steps=STEPS)
        made = asked(name, cells, processes)
        options = RunOptions(
            address=head.address,
            only=TRAINED,
            at_once=cells,
            workers_for=lambda cell: workers,
        )
        outcome = run(made, store, options, Clock(head))
        rates = []
        for cell in outcome.trained:
            log = store.read_table(CellStore(store, cell).path("steps.parquet"))
            rows = log["images_per_second"].to_numpy()[int(WARM_ROWS * len(log)) :]
            # Each row is of as many images.
            rates.append(1 / np.mean(1 / rows))
    return float(sum(rates))


def measured() -> Table:
    """One node, two, four, to the last core."""
    table = Table(title="measured here: nodes of one core each")
    for name in ("nodes", "a cell for each: images/s", "kept", "one cell: images/s", "kept"):
        table.add_column(name, justify="right")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="weak-") as folder, ray_head(cpus=0) as head:
        corpus, alone, joined = small_hospital(Path(folder)), 0.0, 0
        nodes = 1
        while nodes <= len(cores):
            for core in cores[joined:nodes]:
                join(head, core)
            joined = nodes
            beside = images_per_second(head, corpus, f"beside-{nodes}", nodes, 1)
            alone = alone or beside
            wide = beside
            if nodes > 1:
                wide = images_per_second(head, corpus, f"wide-{nodes}", 1, nodes)
            kept = [f"{rate / alone / nodes:.2f}" for rate in (beside, wide)]
            table.add_row(str(nodes), f"{beside:.1f}", kept[0], f"{wide:.1f}", kept[1])
            nodes *= 2
    return table


def main() -> None:
    """Measure, simulate, print."""
    given = options()
    given.store_images_per_s = 0.0
    os.environ.update(environment())
    console = Console(width=110)
    console.print(measured())
    table = Table(
        title=f"simulated: {PER_GPU:,} images for each GPU, {given.flops_per_image:.3g} FLOPs per "
        "image, from local disks"
    )
    for name in ("GPUs", "images", "cells x GPUs", "hours", "computing", "kept"):
        table.add_column(name, justify="right")
    first = None
    for gpus in GPUS:
        fleet = fleet_of(gpus, given)
        mean = simulated(fleet, PER_GPU * gpus, given)
        first = first or mean.efficiency
        table.add_row(
            str(gpus),
            f"{PER_GPU * gpus / 1e6:,.1f}M",
            f"{fleet.groups} x {fleet.machines_per_group * fleet.machine.devices}",
            f"{mean.hours:,.1f}",
            f"{mean.efficiency:.0%}",
            f"{mean.efficiency / first:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
