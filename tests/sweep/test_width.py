"""Elastic width: as many processes as there is room for, and one batch whatever their number."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from radsweep.commands.shared import read_stream_cpus, read_width
from radsweep.errors import SpecError
from radsweep.pretrain.checkpoint import newest
from radsweep.pretrain.place import Workers, check_share
from radsweep.pretrain.worker import run_cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from tests.sweep.test_drain import cluster, wait_until
from tests.sweep.test_resume import trained_cells, write_sweep

__all__ = ["cluster"]
STEPS = 600


def test_a_batch_is_shared_by_the_widths_that_divide_it() -> None:
    assert Workers(count=2, most=8).widths(24) == (2, 3, 4, 6, 8)
    assert Workers(count=5, most=7).widths(24) == (6,)
    assert Workers(count=4).widths(24) == (4,)
    assert Workers(count=5).widths(24) == Workers(count=9, most=11).widths(24) == ()
    assert Workers(count=2, most=8, cpus=2, stream_cpus=3, gpus=0.5).all_cpus == 40


@pytest.mark.parametrize(
    ("text", "width"), [("1", (1, None)), ("4", (4, None)), ("2:8", (2, 8)), ("3:3", (3, 3))]
)
def test_a_width_is_a_number_or_a_range(text: str, width: tuple[int, int | None]) -> None:
    assert read_width(text) == width


@pytest.mark.parametrize("text", ["", "0", "-2", "two", "8:2", "2:", ":8", "2:8:16", "1.5"])
def test_what_is_no_width_is_said_so(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="give 4, or 2:8"):
        read_width(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("6", (6, None)), ("0.5", (0.5, None)), ("0.5:4", (0.5, 4)), ("2:2", (2, 2))]
)
def test_stream_cpus_are_a_number_or_a_range(text: str, cpus: tuple[float, float | None]) -> None:
    assert read_stream_cpus(text) == cpus


@pytest.mark.parametrize(
    "text", ["", "0", "-2", "two", "8:2", "2:", ":8", "2:8:16", "nan", "2:inf"]
)
def test_what_is_no_number_of_cpus_is_said_so(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="give 6, or 2:16"):
        read_stream_cpus(text)


def test_nobody_counts_on_cpus_that_a_stream_may_get() -> None:
    assert Workers(count=2, cpus=2, stream_cpus=3, stream_cpus_most=16).all_cpus == 10


def test_a_range_in_which_no_width_shares_the_batch_is_refused(tmp_path: Path) -> None:
    (cell,) = trained_cells(write_sweep(tmp_path / "widths.py", '(recipe("dinov2"),)', steps=4))
    assert cell.budget.batch_size == 8
    check_share(cell, Workers(count=3, most=5))
    with pytest.raises(SpecError, match=r"not 5 to 7 equal shares; give --workers 4 or 8"):
        check_share(cell, Workers(count=5, most=7))


def test_weights_that_are_shared_need_two_processes_at_any_width(tmp_path: Path) -> None:
    (cell,) = trained_cells(write_sweep(tmp_path / "widths.py", '(recipe("dinov2"),)', steps=4))
    check_share(cell, Workers(count=2, most=4, sharded=True))
    with pytest.raises(SpecError, match="--workers allows 1 process; give 2 at least"):
        check_share(cell, Workers(count=1, most=4, sharded=True))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_cell_grows_to_a_node_that_comes_and_shrinks_when_it_is_lost(
    cluster: Cluster, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    (cell,) = trained_cells(write_sweep(tmp_path / "widths.py", '(recipe("dinov2"),)', STEPS))
    # More than half a node each: one process per node, the rest of it for its stream.
    workers = Workers(
        count=1, most=4, widen_seconds=1, cpus=0.6, stream_cpus=0.3, checkpoint_steps=40
    )
    cluster.add_node(num_cpus=1)
    store, ended = new_store(), list[Record]()
    corner = CellStore(store, cell.name)
    driver = threading.Thread(target=lambda: ended.append(run_cell(cell, store, workers)))
    driver.start()
    wait_until(lambda: _told(corner, "step") > 0, "it trains")
    assert _told(corner, "workers") == 1
    coming = cluster.add_node(num_cpus=1)
    wait_until(lambda: _told(corner, "workers") > 1, "it is wider")
    narrow = newest(corner)
    # What is trained from here to the next checkpoint would be lost with the node.
    wait_until(lambda: newest(corner) != narrow, "it keeps what it did")
    cluster.remove_node(coming, allow_graceful=False)
    driver.join(180)
    (record,) = ended
    assert record.steps == STEPS and record.images_seen == STEPS * cell.budget.batch_size
    assert 1 < record.workers < 2
    log = store.read_table(corner.path("steps.parquet"))
    assert list(log["step"]) == list(range(10, STEPS + 10, 10))
    widths = list(log["workers"])
    changes = [now for before, now in zip([0, *widths], widths, strict=False) if now != before]
    assert changes == [1, 2, 1]
    # At either width it asked for more, once from a process that was killed: nothing is held.
    assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}


def _told(corner: CellStore, name: str) -> float:
    """What the trainer itself wrote: nobody holds a lease here, so ``state()`` is of no use."""
    path = corner.path("state.json")
    said = corner.store.read_json(path) if corner.store.exists(path) else {}
    return float(said.get(name, 0))
