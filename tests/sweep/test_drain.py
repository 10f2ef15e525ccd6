"""A machine that is told to go: its node is drained, and its cell goes on elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from radsweep.pretrain.nodes import drain_node, is_draining
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import run_cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from radsweep.sweep.cluster import QUIET
from radsweep.sweep.watch import watching
from tests.sweep.commands import environment
from tests.sweep.metadata import metadata_service
from tests.sweep.test_resume import encoder_of, trained_cells, write_sweep

# Minutes on two cores, so that they are run before a release and not at every change.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 400
PATIENCE_S = 180.0


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.1)


@pytest.fixture
def cluster(no_tokens: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that runs no work; tests add nodes."""
    for name, value in {**QUIET, **environment()}.items():
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def living() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def test_every_node_is_watched_those_that_come_later_too_and_drained_on_notice(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsweep.sweep.watch.NEW_NODES_SECONDS", 0.3)
    with metadata_service() as clouds, watching("aws", clouds.url, poll_seconds=0.2) as watch:
        assert watch is not None
        later = cluster.add_node(num_cpus=1)
        wait_until(lambda: len(watch.seen()) == 2, "both nodes are watched")
        assert {seen.node_id for seen in watch.seen()} == living()
        assert all(seen.drained is None and seen.fault is None for seen in watch.seen())
        clouds.is_broken = True
        wait_until(lambda: all(seen.fault for seen in watch.seen()), "the fault is told")
        assert not is_draining(later.node_id)
        # A service that comes back is believed again.
        clouds.seconds = 100
        clouds.is_broken = False
        wait_until(lambda: is_draining(later.node_id), "the node is drained")


def test_a_cell_on_a_node_that_goes_keeps_a_checkpoint_and_ends_elsewhere_with_the_same_bytes(
    cluster: Cluster, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "drained.py", '(recipe("dinov2"),)', steps=STEPS)
    (cell,) = trained_cells(file)
    # No checkpoint is due before the end: whatever is kept is kept because of the notice.
    workers = Workers(cpus=0.5, stream_cpus=0.5, checkpoint_steps=10 * STEPS)
    going = cluster.add_node(num_cpus=2)
    calm, left = new_store(), new_store()
    peace = run_cell(cell, calm, workers)
    CellStore(calm, cell.name).finish(peace)

    ended: list[Record] = []
    driver = threading.Thread(target=lambda: ended.append(run_cell(cell, left, workers)))
    driver.start()
    corner = CellStore(left, cell.name)
    wait_until(lambda: _said_step(corner), "it trains")
    cluster.add_node(num_cpus=2)
    drain_node(cluster.address, going.node_id, 100.0, "a test")
    wait_until(lambda: bool(corner.store.names(corner.path("checkpoints"))), "it keeps")
    (kept,) = corner.store.names(corner.path("checkpoints"))
    assert 0 < int(kept.removesuffix(".pt")) < STEPS
    driver.join(PATIENCE_S)
    (record,) = ended
    assert record.steps == STEPS and record.encoder_digest == peace.encoder_digest
    assert encoder_of(cell, left) == encoder_of(cell, calm)


def test_a_worker_group_that_loses_a_node_on_notice_goes_on_elsewhere_with_the_same_bytes(
    cluster: Cluster, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "drained_group.py", '(recipe("dinov2"),)', steps=STEPS)
    (cell,) = trained_cells(file)
    # More than half a node each: one worker per node, the rest of it for the stream.
    workers = Workers(count=2, cpus=0.6, stream_cpus=0.3, checkpoint_steps=10 * STEPS)
    staying, going = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
    calm, left = new_store(), new_store()
    peace = run_cell(cell, calm, workers)

    ended: list[Record] = []
    driver = threading.Thread(target=lambda: ended.append(run_cell(cell, left, workers)))
    driver.start()
    corner = CellStore(left, cell.name)
    wait_until(lambda: _said_step(corner), "it trains")
    cluster.add_node(num_cpus=1)
    drain_node(cluster.address, going.node_id, 100.0, "a test")
    wait_until(lambda: bool(corner.store.names(corner.path("checkpoints"))), "it keeps")
    (kept,) = corner.store.names(corner.path("checkpoints"))
    assert 0 < int(kept.removesuffix(".pt")) < STEPS
    driver.join(PATIENCE_S)
    (record,) = ended
    assert staying.node_id in living()
    assert record.steps == STEPS and record.workers == 2
    assert record.encoder_digest == peace.encoder_digest
    # Every step is in the log once: none was trained twice, none left out.
    log = left.read_table(corner.path("steps.parquet"))
    assert list(log["step"]) == list(range(10, STEPS + 10, 10))


def _said_step(corner: CellStore) -> bool:
    """What the trainer itself wrote: nobody holds a lease here, so ``state()`` is of no use."""
    path = corner.path("state.json")
    return corner.store.exists(path) and corner.store.read_json(path).get("step", 0) > 0
