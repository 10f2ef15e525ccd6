"""Workers, drivers and nodes killed at random: does what comes out equal an undisturbed run's?

``python -m benchmarks.chaos`` makes a small synthetic hospital and a Ray head of its own, whose
nodes of one CPU come and go by Ray's real autoscaler, runs a sweep of six cells once in peace, then
again with several drivers on one store while SIGKILL hits a worker process, a driver or a node
(its raylet) in turn every few seconds, and prints what that cost: kills survived, steps trained
twice (by log rows: to within ten for each kill), wall time as a ratio. ``--kills``, ``--every`` and
``--steps`` make it longer. Linux only: processes are found in ``/proc``.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.autoscaled import autoscaled_head
from benchmarks.ray_head import Head, busy_workers, environment, kill, nodes_of
from benchmarks.steps_seen import rows_of
from radsweep.pretrain.loop import REPORT_STEPS
from radsweep.store import Store
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_scores

CHECKPOINT_STEPS = 50
"""Of which log rows, every ten steps, show how many were trained again."""
GIVE_UP_SECONDS = 1500.0
TIMES = ("finished_at",)
"""Columns of the scores that say when and not what."""

SWEEP = """
from radsweep import Budget, Protocol, Recipe, Sweep

ENCODER = {{"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1}}
TEXT = {{
    "text_width": 32, "text_layers": 1, "text_heads": 2, "text_length": 24,
    "embed_dim": 16, "vocabulary_size": 200,
}}
HEAD = {{
    "local_size": 16, "local_crops": 2, "prototypes": 24, "head_hidden": 32, "head_bottleneck": 16,
}}


def recipe(paradigm, settings):
    return Recipe(
        paradigm=paradigm, encoder="vit_tiny_patch16_224", encoder_settings=ENCODER, image_size=32,
        learning_rate=1e-3, settings=settings,
    )


SWEEP = Sweep(
    name="chaos",
    corpus="little@1",
    recipes=(recipe("clip", TEXT), recipe("dinov2", HEAD)),
    images=(10, 20),
    budget=Budget(steps={steps}, batch_size=8),
    protocol=Protocol(tasks=("findings",), search_trials=1, bootstraps=100),
)
"""


@dataclass
class Disturbed:
    """How a run went."""

    seconds: float = 0.0
    drivers_killed: int = 0
    workers_killed: int = 0
    nodes_killed: int = 0
    most_nodes: int = 0
    """That were there at once, beside the head."""
    drivers_started: int = 0
    gave_up: int = 0
    """Drivers that ended with failures, upon which another was started."""
    steps_repeated: int = 0
    """By their log rows: up to ``REPORT_STEPS`` more for each kill left none."""
    last_words: list[str] = field(default_factory=list)
    """The end of the log of each driver that gave up."""


class Drivers:
    """Several ``radsweep run`` on one store, each started again until one ends well."""

    def __init__(self, file: Path, store: Store, head: Head, count: int, seen: Disturbed) -> None:
        self._command = [
            *(sys.executable, "-m", "radsweep.cli", "run", str(file), "--store", store.url),
            *("--address", head.address, "--cpus", "0.5", "--stream-cpus", "0.5"),
            *("--checkpoint-steps", str(CHECKPOINT_STEPS), "--at-once", "3"),
            *("--log-to", f"benchmarks.steps_seen={steps_folder(store)}"),
        ]
        self._folder, self._seen = file.parent, seen
        self.running = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        self._seen.drivers_started += 1
        log = self._folder / f"driver{self._seen.drivers_started}.log"
        with log.open("wb") as out:
            return subprocess.Popen(
                self._command, cwd=self._folder, env=environment(), stdout=out, stderr=out
            )

    def look(self) -> bool:
        """Start again what ended badly; True once one has ended well."""
        for place, driver in enumerate(self.running):
            code = driver.poll()
            if code == 0:
                return True
            if code is not None:
                if code != -signal.SIGKILL:
                    self._seen.gave_up += 1
                    log = self._folder / f"driver{self._seen.drivers_started}.log"
                    self._seen.last_words.append(log.read_text(errors="replace")[-600:])
                self.running[place] = self._start()
        return False

    def end(self) -> None:
        """Kill those that still run, and wait for them."""
        for driver in self.running:
            driver.kill()
            driver.wait()


def run(
    file: Path, store: Store, head: Head, *, drivers: int, kills: int, every: float, seed: int
) -> Disturbed:
    """Bring a sweep to its end while ``kills`` processes are killed, ``every`` seconds one.

    Raises TimeoutError where it does not end, RuntimeError where it fails undisturbed.
    """
    generator, seen = random.Random(seed), Disturbed()
    began = next_kill = time.monotonic()
    next_kill += every
    team = Drivers(file, store, head, drivers, seen)
    try:
        while not team.look():
            if time.monotonic() - began > GIVE_UP_SECONDS:
                raise TimeoutError(f"not done after {GIVE_UP_SECONDS:.0f} s: {seen}")
            if seen.gave_up and not kills:
                raise RuntimeError(f"it fails in peace: {seen.last_words}")
            seen.most_nodes = max(seen.most_nodes, len(nodes_of(head)))
            done = seen.drivers_killed + seen.workers_killed + seen.nodes_killed
            if (
                done < kills
                and time.monotonic() > next_kill
                and strike(team, head, generator, seen)
            ):
                next_kill = time.monotonic() + every * generator.uniform(0.5, 1.5)
            time.sleep(0.5)
    finally:
        team.end()
    seen.seconds = time.monotonic() - began
    rows = [
        rows_of(steps_folder(store) / cell.name)
        for cell in load_sweep(str(file)).cells()
        if not cell.is_baseline
    ]
    # Each step is there: nothing was trained that nobody saw.
    assert all(set(each) == set(rows[0]) for each in rows), rows
    seen.steps_repeated = REPORT_STEPS * sum(each.total() - len(each) for each in rows)
    return seen


def steps_folder(store: Store) -> Path:
    """Where the drivers on a store say which steps were trained."""
    return Path(f"{store.url}-steps")


def strike(team: Drivers, head: Head, generator: random.Random, seen: Disturbed) -> bool:
    """Kill a worker, a node or a driver in turn, while something is at work; whether one was."""
    workers = busy_workers(head)
    if not workers:
        return False
    if seen.workers_killed <= min(seen.nodes_killed, seen.drivers_killed):
        hit = kill(generator.choice(sorted(workers)))
        seen.workers_killed += hit
    elif seen.nodes_killed <= seen.drivers_killed:
        # One that has work to lose.
        nodes = sorted(nodes_of(head) & set(workers.values()))
        hit = bool(nodes) and kill(generator.choice(nodes))
        seen.nodes_killed += hit
    else:
        victim = generator.choice(team.running)
        hit = victim.poll() is None and kill(victim.pid)
        seen.drivers_killed += hit
    return hit


def scores_of(file: Path, store: Store) -> pl.DataFrame:
    """All that the sweep scored, without when, in one order."""
    scores = read_scores(load_sweep(str(file)), store).drop(TIMES)
    return scores.sort(scores.columns)


def cluster() -> AbstractContextManager[Head]:
    """Four nodes at most, each with room for one cell and its stream."""
    return autoscaled_head(cpus_per_node=1, max_nodes=4, idle_seconds=20)


def prepare(folder: Path, steps: int, corpus: Path) -> tuple[Path, Store, Store]:
    """The sweep's file and two stores that hold the corpus."""
    file = folder / "chaos.py"
    file.write_text(SWEEP.format(steps=steps))
    stores = []
    for name in ("peace", "chaos"):
        shutil.copytree(corpus, folder / name, dirs_exist_ok=True)
        stores.append(Store(str(folder / name)))
    return file, stores[0], stores[1]


def small_hospital(folder: Path) -> Path:
    """A store with the corpus ``little@1``, made by the command line."""
    films, store = folder / "films", folder / "corpus"
    for command in (
        ("phantom", films, "--patients", 80, "--size", 64),
        (
            *("ingest", films / "dicom", "--corpus", "little@1", "--store", store, "--size", 48),
            *("--reports", films / "reports.csv", "--labels", films / "labels.csv"),
            *("--fractions", "0.3,0.35,0.05,0.3"),
        ),
    ):
        subprocess.run(
            [sys.executable, "-m", "radsweep.cli", *(str(part) for part in command)],
            env=environment() | {"RADSWEEP_PATIENT_KEY": "not a secret, a synthetic hospital"},
            check=True,
        )
    return store


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="a store with little@1; none makes one")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--drivers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    corpus = given.corpus or small_hospital(folder)
    file, calm, wild = prepare(folder, given.steps, corpus)
    with cluster() as head:
        peace = run(file, calm, head, drivers=1, kills=0, every=1.0, seed=given.seed)
        chaos = run(
            file,
            wild,
            head,
            drivers=given.drivers,
            kills=given.kills,
            every=given.every,
            seed=given.seed,
        )
    same = scores_of(file, calm).equals(scores_of(file, wild))
    table = Table(
        title=f"six cells, {given.steps} steps each, a checkpoint every {CHECKPOINT_STEPS}"
    )
    for name in ("", "in peace", "with kills"):
        table.add_column(name, justify="right" if name else "left")
    counts = ("workers_killed", "nodes_killed", "drivers_killed", "drivers_started", "gave_up")
    for name in (*counts, "most_nodes"):
        table.add_row(name.replace("_", " "), str(getattr(peace, name)), str(getattr(chaos, name)))
    table.add_row(
        "steps repeated, by log rows", str(peace.steps_repeated), str(chaos.steps_repeated)
    )
    table.add_row("seconds", f"{peace.seconds:.0f}", f"{chaos.seconds:.0f}")
    table.add_row("ratio", "1", f"{chaos.seconds / peace.seconds:.1f}")
    table.add_row("scores", "", "the same" if same else "[red]DIFFERENT[/red]")
    Console(width=100).print(table)
    shutil.rmtree(folder)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
