"""Does the simulator of ``benchmarks/growth.py`` say how long a real sweep takes?

``python -m benchmarks.growth_check`` makes a small synthetic hospital and a Ray head of its own. A
short sweep is run and measured: a step, a checkpoint, a cell's start, a new process, the driver.
From these alone ``radsweep.sweep.simulate`` predicts a longer sweep (other cells, more steps,
checkpoints further apart): cell after cell, two at once, and with a worker killed on the way. Then
each is run. Linux only: the worker that is killed is found in ``/proc``.
"""

import argparse
import math
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.chaos import small_hospital
from benchmarks.ray_head import Head, busy_workers, command_line, environment, kill, ray_head
from radsweep import Budget, Recipe, Sweep
from radsweep.pretrain.loop import REPORT_STEPS
from radsweep.pretrain.place import Workers
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.plan import Machine
from radsweep.sweep.run import RunOptions, run
from radsweep.sweep.simulate import HOUR_S, Fleet, Job, simulate

ENCODER = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1}
HEAD = {
    "local_size": 16,
    "local_crops": 2,
    "prototypes": 24,
    "head_hidden": 32,
    "head_bottleneck": 16,
}
TRAINED = "dinov2-[1-9]*"
"""Glob over the names of cells that train: baselines are only loaded."""

BATCH_SIZE = 8


def sweep(name: str, images: tuple[int, ...], seeds: tuple[int, ...], steps: int) -> Sweep:
    """Tiny cells, none of which is scored."""
    recipe = Recipe(
        paradigm="dinov2",
        encoder="vit_tiny_patch16_224",
        encoder_settings=ENCODER,
        image_size=32,
        learning_rate=1e-3,
        settings=HEAD,
    )
    return Sweep(
        name=name,
        corpus="little@1",
        recipes=(recipe,),
        images=images,
        seeds=seeds,
        budget=Budget(steps=steps, batch_size=BATCH_SIZE),
        protocol=None,
    )


@dataclass
class Clock:
    """An observer that notes when each cell began and ended, and kills the worker of one."""

    head: Head
    victim: int | None = None
    """Which cell in the order in which they begin."""
    kill_after_s: float = 0.0
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    killed_s: float = math.inf
    """From the beginning of its cell."""

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """Nothing to note."""

    def cell_began(self, cell: Cell) -> None:
        """Note when, and set the trap."""
        if len(self.began) == self.victim:
            threading.Timer(self.kill_after_s, self._strike, [cell.name]).start()
        self.began[cell.name] = time.monotonic()

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """Note when."""
        if reason is not None:
            raise RuntimeError(f"{cell.name} {state}: {reason}")
        self.ended[cell.name] = time.monotonic()

    def grid(self, done: int, total: int) -> None:
        """There is none."""

    def _strike(self, cell: str) -> None:
        for number in busy_workers(self.head):
            if cell.encode() in command_line(Path(f"/proc/{number}")):
                kill(number)
                self.killed_s = time.monotonic() - self.began[cell]


@dataclass(frozen=True)
class Ran:
    """A real sweep."""

    store: Store
    clock: Clock
    wall_s: float

    @property
    def driver_s(self) -> float:
        """Before the first cell began and after the last one ended."""
        return self.wall_s - max(self.clock.ended.values()) + min(self.clock.began.values())


def ran(asked: Sweep, corpus: Path, clock: Clock, at_once: int, checkpoint_steps: int) -> Ran:
    """The sweep on a fresh store."""
    folder = tempfile.mkdtemp(prefix=f"{asked.name}-", dir=corpus.parent)
    store = Store(str(shutil.copytree(corpus, folder, dirs_exist_ok=True)))
    workers = Workers(cpus=0.5, stream_cpus=0.5, checkpoint_steps=checkpoint_steps)
    options = RunOptions(
        address=clock.head.address,
        only=TRAINED,
        at_once=at_once,
        workers_for=lambda cell: workers,
    )
    began = time.monotonic()
    run(asked, store, options, clock)
    return Ran(store, clock, time.monotonic() - began)


@dataclass(frozen=True)
class Measured:
    """What a short sweep shows."""

    step_s: float
    save_s: float
    cell_start_s: float
    """And its end: all of a cell that is neither a step nor a checkpoint."""
    process_s: float
    """What the first cell of a process takes longer."""
    driver_s: float
    checkpoint_bytes: int
    flops_per_step: float


def measured(seen: Ran, at_once: int, checkpoint_steps: int) -> Measured:
    """From the cells' logs, and from when they began and ended."""
    steps, plain, after_save, rest = [], [], [], []
    names = sorted(seen.clock.began, key=lambda name: seen.clock.began[name])
    for name in names:
        log = seen.store.read_table(CellStore(seen.store, name).path("steps.parquet"))
        per_second, trained = log["images_per_second"].to_numpy(), log["seconds"].to_numpy()
        # From row to row; the first one has the start of the stream in it.
        inside = np.diff(trained)
        between = REPORT_STEPS * BATCH_SIZE / per_second[1:] - inside
        saved = log["step"].to_numpy()[:-1] % checkpoint_steps == 0
        steps.append(inside / REPORT_STEPS)
        plain.append(between[~saved])
        after_save.append(between[saved])
    # The figures that are told every few steps cost a little as well.
    telling_s = float(np.concatenate(plain).mean())
    save_s = float(np.concatenate(after_save).mean()) - telling_s
    step_s = float(np.concatenate(steps).mean()) + telling_s / REPORT_STEPS
    for name in names:
        record = CellStore(seen.store, name).record()
        saves = math.ceil(record.steps / checkpoint_steps) - 1
        whole = seen.clock.ended[name] - seen.clock.began[name]
        rest.append(whole - record.steps * step_s - saves * save_s)
    corner = CellStore(seen.store, names[0])
    checkpoints = corner.path("checkpoints")
    newest = seen.store.names(checkpoints)[-1]
    record = corner.record()
    return Measured(
        step_s=step_s,
        save_s=max(save_s, 1e-4),
        cell_start_s=float(np.mean(rest[at_once:])),
        process_s=float(np.mean(rest[:at_once]) - np.mean(rest[at_once:])),
        driver_s=seen.driver_s,
        checkpoint_bytes=len(seen.store.read_bytes(f"{checkpoints}/{newest}")),
        flops_per_step=record.flops / record.steps,
    )


def predicted_s(
    found: Measured, at_once: int, checkpoint_steps: int, long: Sweep, known: tuple[float, ...]
) -> float:
    """Wall time of the long sweep by the simulator."""
    here = Machine(
        name="this machine",
        devices=1,
        tflops=found.flops_per_step / found.step_s / 1e12,
        utilisation=1.0,
        usd_per_hour=0.0,
    )
    fleet = Fleet(
        machine=here,
        groups=at_once,
        machines_per_group=1,
        start_s=found.process_s,
        cell_start_s=found.cell_start_s,
        losses_per_hour=0.0,
        notice_s=0.0,
        checkpoint_interval_s=checkpoint_steps * found.step_s,
        write_bytes_per_s=found.checkpoint_bytes / found.save_s,
    )
    cells = [cell for cell in long.cells() if not cell.is_baseline]
    assert long.budget.steps is not None
    job = Job(
        flops=found.flops_per_step * long.budget.steps,
        images_seen=long.budget.steps * BATCH_SIZE,
        checkpoint_bytes=found.checkpoint_bytes,
    )
    return found.driver_s + simulate((job,) * len(cells), fleet, 0, known).wall_hours * HOUR_S


def main() -> None:
    """Measure, predict, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short-steps", type=int, default=240)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--kill-after-s", type=float, default=4.0)
    given = parser.parse_args()
    os.environ.update(environment())
    folder = Path(tempfile.mkdtemp(prefix="growth-"))
    corpus = small_hospital(folder)
    long = sweep("long", (10, 15, 20), (0, 1), given.steps)
    console = Console(width=110)
    figures = Table(
        title=f"measured in a sweep of two cells a place, {given.short_steps} steps each"
    )
    for name in ("at once", "step ms", "checkpoint ms", "cell's start s", "process s", "driver s"):
        figures.add_column(name, justify="right")
    table = Table(title=f"a sweep of six cells, {given.steps} steps each, a checkpoint every 100")
    for name in ("at once", "killed after s", "predicted s", "measured s", "predicted / measured"):
        table.add_column(name, justify="right")
    with ray_head(cpus=2) as head:
        for at_once, kill_after_s in ((1, None), (1, given.kill_after_s), (2, None)):
            if kill_after_s is None:
                short = sweep("short", (12,), tuple(range(5, 5 + 2 * at_once)), given.short_steps)
                found = measured(ran(short, corpus, Clock(head), at_once, 20), at_once, 20)
                figures.add_row(
                    str(at_once),
                    f"{1000 * found.step_s:.1f}",
                    f"{1000 * found.save_s:.1f}",
                    *(f"{s:.1f}" for s in (found.cell_start_s, found.process_s, found.driver_s)),
                )
            clock = Clock(head) if kill_after_s is None else Clock(head, 2, kill_after_s)
            real = ran(long, corpus, clock, at_once, 100)
            known = () if kill_after_s is None else (math.inf, math.inf, clock.killed_s)
            predicted = predicted_s(found, at_once, 100, long, known)
            table.add_row(
                str(at_once),
                "" if kill_after_s is None else f"{clock.killed_s:.1f}",
                f"{predicted:.1f}",
                f"{real.wall_s:.1f}",
                f"{predicted / real.wall_s:.2f}",
            )
    console.print(figures)
    console.print(table)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
