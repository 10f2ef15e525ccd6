"""Machines gone without a word: a node with its share of the object store, and the head."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from benchmarks.ray_head import (
    Head,
    busy_workers,
    kill,
    processes,
    ray_head,
)
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import run_cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from tests.sweep.commands import environment
from tests.sweep.test_drain import PATIENCE_S, cluster, wait_until
from tests.sweep.test_resume import CHECKPOINT_STEPS, encoder_of, run, trained_cells, write_sweep

# Minutes on two cores, so that they are run before a release and not at every change.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 500
QUICK_TO_SEE = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that does not answer is given up after seconds, and not after half a minute."""


__all__ = ["cluster"]


@pytest.fixture(autouse=True)
def quick_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found in /proc, which this system lacks")
    for name, value in QUICK_TO_SEE.items():
        monkeypatch.setenv(name, value)


def trainer(cell: str) -> int | None:
    """Number of the process that trains a cell."""
    found = processes(f"ray::{cell}".encode())
    return found[0] if found else None


def raylet_of(process: int) -> int:
    """Number of its parent."""
    stat = Path(f"/proc/{process}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def newest(corner: CellStore) -> int:
    """Step of the newest checkpoint; 0 where there is none."""
    names = corner.store.names(corner.path("checkpoints"))
    return int(names[-1].removesuffix(".pt")) if names else 0


@pytest.mark.parametrize("lost", ["trainer", "stream"])
def test_a_cell_whose_node_is_gone_goes_on_with_the_same_bytes(
    cluster: Cluster, new_store: Callable[[], Store], tmp_path: Path, lost: str
) -> None:
    (cell,) = trained_cells(write_sweep(tmp_path / "lost.py", '(recipe("dinov2"),)', STEPS))
    # Nodes of one CPU: the trainer, with the plan in its object store, and the stream, with the
    # batches that are on their way, are on two of them.
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in _two_nodes(cluster)}
    workers = Workers(cpus=1, stream_cpus=1, checkpoint_steps=CHECKPOINT_STEPS)
    calm, left = new_store(), new_store()
    peace = run_cell(cell, calm, workers)
    CellStore(calm, cell.name).finish(peace)

    ended: list[Record] = []
    driver = threading.Thread(target=lambda: ended.append(run_cell(cell, left, workers)))
    driver.start()
    corner = CellStore(left, cell.name)
    wait_until(lambda: newest(corner) >= 3 * CHECKPOINT_STEPS, "it trains")
    before = trainer(cell.name)
    assert before is not None
    home = raylet_of(before)
    (victim,) = [pid for pid in nodes if (pid == home) == (lost == "trainer")]
    cluster.add_node(num_cpus=1)
    cluster.remove_node(nodes[victim], allow_graceful=False)
    reached = newest(corner)
    wait_until(lambda: newest(corner) > reached + 2 * CHECKPOINT_STEPS, "it goes on")
    # Where only the stream was lost, the trainer has not so much as begun again.
    assert (trainer(cell.name) == before) is (lost == "stream")
    driver.join(PATIENCE_S)
    (record,) = ended
    assert record.steps == STEPS and record.encoder_digest == peace.encoder_digest
    log = left.read_table(corner.path("steps.parquet"))
    assert list(log["step"]) == list(range(10, STEPS + 10, 10))


def _two_nodes(cluster: Cluster) -> list[ray._private.node.Node]:
    return [cluster.add_node(num_cpus=1) for _ in range(2)]


def lose(head: Head) -> None:
    """All processes of the head at once, as when its machine is lost."""
    for number in (*busy_workers(head), *processes(str(head.folder).encode())):
        kill(number)


def test_a_sweep_whose_head_is_lost_goes_on_under_another_on_the_same_store(
    new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "headless.py", '(recipe("dinov2"),)', STEPS)
    (cell,) = trained_cells(file)
    whole, cut = new_store(), new_store()
    corner = CellStore(cut, cell.name)
    halves = ("--cpus", "0.5", "--stream-cpus", "0.5")
    with ray_head(cpus=2) as first:
        run(file, whole, "--address", first.address, *halves, RAY_AUTH_MODE="disabled")
        driver = subprocess.Popen(
            [
                *(sys.executable, "-m", "radsweep.cli", "run", str(file), "--store", cut.url),
                *("--address", first.address, *halves),
                *("--checkpoint-steps", str(CHECKPOINT_STEPS)),
            ],
            cwd=tmp_path,
            env=environment(RAY_AUTH_MODE="disabled"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: newest(corner) >= 3 * CHECKPOINT_STEPS, "it trains")
            lose(first)
            # A driver without a head ends by itself, and so does its hold on the cell.
            assert driver.wait(PATIENCE_S) != 0
        finally:
            driver.kill()
            driver.wait()
    reached = newest(corner)
    assert reached < STEPS and not corner.is_done
    assert corner.state()["state"] == "preempted"
    kept = cut.read_bytes(corner.path(f"checkpoints/{reached:09d}.pt"))
    with ray_head(cpus=2) as second:
        run(file, cut, "--address", second.address, *halves, RAY_AUTH_MODE="disabled")
    assert encoder_of(cell, cut) == encoder_of(cell, whole)
    # It went on where it was: the log's first rows are those of before, with their seconds.
    log = cut.read_table(corner.path("steps.parquet"))
    assert list(log["step"]) == list(range(10, STEPS + 10, 10))
    rows = torch.load(io.BytesIO(kept), weights_only=True)["progress"]["rows"]
    assert log["seconds"][: reached // 10].to_list() == [row["seconds"] for row in rows]
