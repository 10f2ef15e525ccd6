"""A file system that is really full, in the middle of a cell."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.sweep.commands import environment
from tests.sweep.test_resume import (
    CHECKPOINT_STEPS,
    FROM_STEP,
    encoder_of,
    run,
    trained_cells,
    write_sweep,
)

# Minutes on two cores, so that it is run before a release and not at every change.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

STEPS = 600


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system of its own may not be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Until not one more page fits."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue


def test_a_cell_on_a_disk_that_fills_up_fails_with_the_reason_and_goes_on_once_there_is_room(
    new_store: Callable[[], Store], small_disk: Path, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "full.py", '(recipe("dinov2"),)', steps=STEPS)
    (cell,) = trained_cells(file)
    whole = new_store()
    run(file, whole)
    small = Store(str(shutil.copytree(new_store().full(""), small_disk / "store")))
    corner, filler = CellStore(small, cell.name), small_disk / "filler"

    command = [sys.executable, "-m", "radsweep.cli", "run", str(file), "--store", small.url]
    driver = subprocess.Popen(
        [*command, "--checkpoint-steps", str(CHECKPOINT_STEPS)],
        cwd=file.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (names := small.names(corner.path("checkpoints"))) or (
        int(names[-1].removesuffix(".pt")) < FROM_STEP
    ):
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)
    fill(filler)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 1, said
    assert f"failed: the store {small.url} is full" in " ".join(said.split())
    assert not corner.is_done and "lease.json" not in small.names(corner.path(""))
    kept = small.names(corner.path("checkpoints"))
    assert kept and int(kept[-1].removesuffix(".pt")) < STEPS

    os.remove(filler)
    run(file, small)
    assert encoder_of(cell, small) == encoder_of(cell, whole)
    log = small.read_table(corner.path("steps.parquet"))
    assert list(log["step"]) == list(range(10, STEPS + 10, 10))
    assert not [name for name in small.names(corner.path("checkpoints")) if "partial" in name]
