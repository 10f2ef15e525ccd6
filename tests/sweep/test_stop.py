"""Whoever stops a run gets the machine back, and nobody waits for what it held."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.sweep.commands import environment
from tests.sweep.test_resume import AGENTS_SECONDS, MARK, processes_with, trained_cells, write_sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ENDS_SECONDS = 60
"""On a busy machine; most of it is Python that cleans up."""


@pytest.mark.parametrize(
    ("sent", "workers"),
    [pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow), (signal.SIGTERM, 2)],
)
def test_a_run_that_is_stopped_ends_at_once_and_gives_its_cell_back(
    sent: signal.Signals, workers: int, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    store = new_store()
    file = write_sweep(tmp_path / "stopped.py", '(recipe("clip"),)', steps=100_000)
    (cell,) = trained_cells(file)
    corner = CellStore(store, cell.name)
    said = (tmp_path / "said.txt").open("w+")
    driver = subprocess.Popen(
        [
            *(sys.executable, "-m", "radsweep.cli", "run", str(file), "--store", store.url),
            *("--workers", str(workers), "--cpus", "0.5", "--stream-cpus", "0.5"),
            *("--checkpoint-steps", "20"),
        ],
        env=environment(**{MARK: str(file)}),
        stdout=said,
        stderr=subprocess.STDOUT,
        # A shell that starts the tests in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not store.names(corner.path("checkpoints")):
            assert driver.poll() is None, "the run ended before it was stopped"
            time.sleep(0.1)
        driver.send_signal(sent)
        driver.wait(ENDS_SECONDS)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode != 0
    with said:
        said.seek(0)
        assert "Traceback" not in said.read()
    assert not store.exists(corner.path("lease.json")), "another driver would wait for it"
    assert corner.state()["state"] == "preempted"
    # Ray's own agents look after their parent now and then.
    deadline = time.monotonic() + AGENTS_SECONDS
    while (left := processes_with(str(file))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
