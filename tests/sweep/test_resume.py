"""A killed sweep goes on, and neither that nor the number of workers changes what comes out."""

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep
from tests.sweep.commands import environment, radsweep
from tests.sweep.witness import SEEN

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SWEEP = """
from radsweep import Budget, Sweep
from tests.paradigms.tiny import recipe

SWEEP = Sweep(
    name="{name}",
    corpus="little@1",
    recipes={recipes},
    images=(20,),
    budget=Budget(steps={steps}, batch_size=8),
    protocol=None,
)
"""
CHECKPOINT_STEPS = 20
FROM_STEP = 60
"""The kill comes once there is a checkpoint so far on."""
CLOSE = 1e-5
AGENTS_SECONDS = 60
MARK = "RADSWEEP_TEST_KILLED"
"""In the environment of the killed driver, and of whatever it started."""


def write_sweep(file: Path, recipes: str, steps: int) -> Path:
    file.write_text(SWEEP.format(name=file.stem, recipes=recipes, steps=steps))
    return file


def trained_cells(file: Path) -> list[Cell]:
    return [cell for cell in load_sweep(str(file)).cells() if not cell.is_baseline]


def run(file: Path, store: Store, *options: object, **env: str) -> None:
    checkpoints = ("--checkpoint-steps", CHECKPOINT_STEPS)
    ran = radsweep(
        *("run", file, "--store", store.url, *checkpoints, *options), folder=file.parent, **env
    )
    assert ran.code == 0, ran.output + ran.errors


def encoder_of(cell: Cell, store: Store) -> bytes:
    return store.read_bytes(CellStore(store, cell.name).path("encoder.safetensors"))


def kill_in_the_middle(file: Path, store: Store, cell: Cell) -> bytes:
    """Start a run, kill its driver where ``cell`` is under way; gives the newest checkpoint."""
    corner = CellStore(store, cell.name)
    command = [sys.executable, "-m", "radsweep.cli", "run", str(file), "--store", store.url]
    driver = subprocess.Popen(
        [*command, "--checkpoint-steps", str(CHECKPOINT_STEPS)],
        cwd=file.parent,
        env=environment(**{MARK: str(file)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (names := corner.store.names(corner.path("checkpoints"))) or (
            int(names[-1].removesuffix(".pt")) < FROM_STEP
        ):
            assert driver.poll() is None, "the run ended before it was killed"
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert corner.state()["state"] == "preempted"
    return store.read_bytes(corner.path(f"checkpoints/{names[-1]}"))


def without_key_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All weights but the biases of attention's keys.

    Softmax does not see them, so that their gradient is 0 but for rounding, which AdamW scales up
    to whole steps: they drift by chance at any number of workers, and change nothing.
    """
    kept = dict(weights)
    for name in [name for name in weights if name.endswith("qkv.bias")]:
        query, _, value = kept.pop(name).chunk(3)
        kept |= {f"{name}.query": query, f"{name}.value": value}
    return kept


def processes_with(mark: str) -> list[str]:
    """Names of the living ones, on Linux."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue
    return found


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "killed.py", '(recipe("dinov2"),)', steps=240)
    (cell,) = trained_cells(file)
    whole, cut = new_store(), new_store()
    run(file, whole)

    kept = kill_in_the_middle(file, cut, cell)
    assert not CellStore(cut, cell.name).is_done
    run(file, cut)
    # The killed driver took its Ray along; Ray's own agents look after their parent now and then.
    deadline = time.monotonic() + AGENTS_SECONDS
    while (left := processes_with(str(file))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []

    assert encoder_of(cell, cut) == encoder_of(cell, whole)
    records = [CellStore(store, cell.name).record() for store in (whole, cut)]
    assert records[0].encoder_digest == records[1].encoder_digest
    assert [record.steps for record in records] == [240, 240]
    # It went on where it was: the log's first row is the killed driver's, with its seconds.
    steps = cut.read_table(CellStore(cut, cell.name).path("steps.parquet"))
    before = torch.load(io.BytesIO(kept), weights_only=True)["progress"]["rows"]
    assert steps["seconds"][0] == before[0]["seconds"]
    assert list(steps["step"]) == list(range(10, 250, 10))


def test_one_worker_and_two_see_the_same_images_and_learn_the_same(
    new_store: Callable[[], Store], tmp_path: Path
) -> None:
    recipes = (
        '(recipe("clip"), __import__("radsweep").Recipe(paradigm="tests.sweep.witness", '
        'encoder="none", image_size=32, learning_rate=1e-2))'
    )
    file = write_sweep(tmp_path / "ranks.py", recipes, steps=12)
    cells = trained_cells(file)
    stores, seen = [new_store(), new_store()], []
    for workers, store in enumerate(stores, start=1):
        folder = tmp_path / f"seen{workers}"
        folder.mkdir()
        halves = ("--cpus", 0.5, "--stream-cpus", 0.5)
        run(file, store, "--workers", workers, *halves, **{SEEN: str(folder)})
        assert [CellStore(store, cell.name).record().workers for cell in cells] == [workers] * 2
        seen.append(
            {
                step: np.concatenate([np.load(share) for share in sorted(folder.glob(f"{step}-*"))])
                for step in {file.name.rpartition("-")[0] for file in folder.iterdir()}
            }
        )
    one, two = seen
    assert sorted(one) == sorted(two) and len(one) == 12
    for step in one:
        assert one[step].shape[0] == 8
        assert np.array_equal(one[step], two[step]), f"other images where {step} was spent"
    for cell in cells:
        first, second = (without_key_biases(load(encoder_of(cell, store))) for store in stores)
        assert first.keys() == second.keys()
        for name in first:
            worst = float((first[name] - second[name]).abs().max())
            assert worst < CLOSE, f"{cell.name}: {name} differs by {worst}"
