"""A store that fails: for a moment, for long, or because it is full."""

import errno
import time
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from radsweep.errors import StoreError
from radsweep.pretrain.worker import Workers
from radsweep.store import Store, layout, record
from radsweep.store.record import CellStore, Record
from radsweep.sweep import run
from tests.evaluate.toy import sweep


class FailingFileSystem(MemoryFileSystem):
    """An object store in memory whose next requests fail as they are told to."""

    protocol = "failing"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    reads: list[int] = []  # noqa: RUF012
    writes: list[int] = []  # noqa: RUF012
    """Error numbers of the requests to come, first one first."""

    def cat_file(self, path: str, *given: object, **named: object) -> bytes:
        if self.reads:
            raise OSError(self.reads.pop(0), "told to fail")
        return super().cat_file(path, *given, **named)

    def pipe_file(self, path: str, *given: object, **named: object) -> None:
        if self.writes:
            raise OSError(self.writes.pop(0), "told to fail")
        super().pipe_file(path, *given, **named)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    monkeypatch.setattr(layout, "PAUSES_SECONDS", (0.001, 0.002, 0.004))
    yield Store("failing://root")
    FailingFileSystem.store.clear()
    FailingFileSystem.reads.clear()
    FailingFileSystem.writes.clear()


@pytest.mark.parametrize("kind", [errno.EIO, errno.EBUSY, errno.ETIMEDOUT])
def test_a_store_that_fails_for_a_moment_is_asked_again(store: Store, kind: int) -> None:
    FailingFileSystem.writes += [kind] * 3
    store.write_bytes("a", b"whole")
    FailingFileSystem.reads += [kind] * 3
    assert store.read_bytes("a") == b"whole"
    FailingFileSystem.reads += [kind] * 3
    assert store.read_ranges([("a", 1, 3)]) == [b"ho"]
    assert FailingFileSystem.writes == FailingFileSystem.reads == []


def test_a_store_that_fails_for_long_is_named_with_what_to_do(store: Store) -> None:
    FailingFileSystem.writes += [errno.EIO] * 4
    with pytest.raises(StoreError, match=r"fails at a \(OSError.*4 times.*run the same command"):
        store.write_bytes("a", b"whole")
    assert not store.exists("a")


def test_a_full_store_is_not_asked_again_and_says_so(store: Store) -> None:
    FailingFileSystem.writes += [errno.ENOSPC, errno.EDQUOT]
    with pytest.raises(StoreError, match="is full: a was not written; make room"):
        store.write_bytes("a", b"whole")
    assert FailingFileSystem.writes == [errno.EDQUOT]


def test_what_is_no_bad_moment_is_raised_as_it_is(store: Store) -> None:
    FailingFileSystem.writes += [errno.EACCES] * 2
    with pytest.raises(PermissionError):
        store.write_bytes("a", b"whole")
    assert len(FailingFileSystem.writes) == 1
    with pytest.raises(StoreError, match="is not in the store"):
        store.read_bytes("nowhere")


def test_a_lease_outlives_heartbeats_that_the_store_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "HEARTBEAT_S", 0.02)
    corner = CellStore(store, "toy")
    with corner.lease() as holder:
        assert holder is not None
        FailingFileSystem.writes += [errno.EIO] * 12
        first = store.read_json(corner.path("lease.json"))["beat"]
        deadline = time.monotonic() + 20
        while store.read_json(corner.path("lease.json"))["beat"] == first:
            assert time.monotonic() < deadline, "no heartbeat came after those that failed"
            time.sleep(0.01)
        assert FailingFileSystem.writes == []
        corner.check_lease(holder)
    assert not store.exists(corner.path("lease.json"))


def test_a_cell_whose_store_is_full_ends_as_failed_and_is_free_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = sweep().cells()[-1]

    def train(cell: object, store: Store, workers: Workers) -> Record:
        FailingFileSystem.writes += [errno.ENOSPC] * 2
        store.write_bytes("checkpoint", b"some weights")
        raise AssertionError("a full store took it")

    monkeypatch.setattr(run, "run_cell", train)
    state, reason = run.drive_cell(cell, store, Workers())
    assert state == "failed" and reason is not None
    assert "is full: checkpoint was not written" in reason
    assert "the store did not take that down" in reason
    corner = CellStore(store, cell.name)
    assert not store.exists(corner.path("lease.json"))
    # Nobody works on it, and the next run goes on.
    assert corner.state()["state"] == "preempted"
