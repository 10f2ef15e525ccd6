"""A rank that stands still without dying: the others do not wait for it for ever."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from benchmarks.ray_head import busy_workers, command_line, ray_head
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import run_cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from radsweep.sweep.cluster import QUIET
from tests.sweep.commands import environment
from tests.sweep.test_drain import wait_until
from tests.sweep.test_resume import trained_cells, write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 300
CHECKPOINT_STEPS = 20
HUNG_SECONDS = 15


def test_a_worker_group_of_which_one_rank_stands_still_begins_again_from_its_checkpoint(
    new_store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found in /proc, which this system lacks")
    waits = {"RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(HUNG_SECONDS)}
    for name, value in {**QUIET, **environment(RAY_AUTH_MODE="disabled"), **waits}.items():
        monkeypatch.setenv(name, value)
    (cell,) = trained_cells(write_sweep(tmp_path / "hung.py", '(recipe("dinov2"),)', STEPS))
    workers = Workers(
        count=2,
        cpus=0.5,
        stream_cpus=0.5,
        checkpoint_steps=CHECKPOINT_STEPS,
        hung_seconds=HUNG_SECONDS,
        max_failures=1,
    )
    store = new_store()
    corner, ended = CellStore(store, cell.name), list[Record]()
    with ray_head(cpus=2) as head:
        ray.init(address=head.address, log_to_driver=False, logging_level="ERROR")
        try:
            driver = threading.Thread(target=lambda: ended.append(run_cell(cell, store, workers)))
            driver.start()
            wait_until(lambda: len(store.names(corner.path("checkpoints"))) > 1, "it trains")
            ranks = [
                number
                for number in busy_workers(head)
                if b"RayTrainWorker" in command_line(Path(f"/proc/{number}"))
            ]
            assert len(ranks) == 2
            os.kill(ranks[0], signal.SIGSTOP)
            driver.join(200)
            # Nor can it wake up and write beside those that took its place.
            assert not Path(f"/proc/{ranks[0]}").exists()
        finally:
            ray.shutdown()
    (record,) = ended
    assert record.steps == STEPS and record.workers == 2
    steps = store.read_table(corner.path("steps.parquet"))
    assert list(steps["step"]) == list(range(10, STEPS + 10, 10))
