"""A store that fails: for a moment, for long, or because it is full."""

import errno
import io
import time
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from radsweep.errors import AbsentError, StoreError
from radsweep.pretrain.place import Workers
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
    """Error numbers of the requests to come, first one first; 0 is none."""
    lost: list[int] = []  # noqa: RUF012
    """The same of exclusive writes, which are done and whose answer is lost."""
    asked: int = 0
    """Reads of bytes so far."""

    def cat_file(self, path: str, *given: object, **named: object) -> bytes:
        FailingFileSystem.asked += 1
        _fail(self.reads)
        return super().cat_file(path, *given, **named)

    def info(self, path: str, *given: object, **named: object) -> dict:
        _fail(self.reads)
        return super().info(path, *given, **named)

    def ls(self, path: str, *given: object, **named: object) -> list:
        _fail(self.reads)
        return super().ls(path, *given, **named)

    def pipe_file(self, path: str, *given: object, **named: object) -> None:
        _fail(self.writes)
        super().pipe_file(path, *given, **named)

    def rm(self, path: str, *given: object, **named: object) -> None:
        _fail(self.writes)
        super().rm(path, *given, **named)

    def open(self, path: str, mode: str = "rb", **named: object) -> io.BytesIO:
        if mode != "xb":
            return super().open(path, mode, **named)
        _fail(self.writes)
        if self.exists(path):
            raise FileExistsError(path)
        return _Claim(self, path)


class _Claim(io.BytesIO):
    """Put as a whole when it is closed, as an object store does it."""

    def __init__(self, fs: FailingFileSystem, path: str) -> None:
        super().__init__()
        self._fs, self._path = fs, path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            MemoryFileSystem.pipe_file(self._fs, self._path, data)
            _fail(self._fs.lost)


def _fail(numbers: list[int]) -> None:
    if numbers and (number := numbers.pop(0)):
        raise OSError(number, "told to fail")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    monkeypatch.setattr(layout, "PAUSES_SECONDS", (0.001, 0.002, 0.004))
    yield Store("failing://root")
    FailingFileSystem.store.clear()
    FailingFileSystem.reads.clear()
    FailingFileSystem.writes.clear()
    FailingFileSystem.lost.clear()


@pytest.mark.parametrize("kind", [errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.EREMOTEIO])
def test_a_store_that_fails_for_a_moment_is_asked_again(store: Store, kind: int) -> None:
    FailingFileSystem.writes += [kind] * 3
    store.write_bytes("a", b"whole")
    FailingFileSystem.reads += [kind] * 3
    assert store.read_bytes("a") == b"whole"
    FailingFileSystem.reads += [kind] * 3
    assert store.read_ranges([("a", 1, 3)]) == [b"ho"]
    FailingFileSystem.reads += [kind] * 3
    assert store.exists("a")
    FailingFileSystem.reads += [kind] * 3
    assert not store.exists("b")
    FailingFileSystem.reads += [kind] * 3
    assert store.names("") == ["a"]
    FailingFileSystem.writes += [kind] * 3
    assert store.create_bytes("claim", b"mine")
    FailingFileSystem.writes += [kind] * 3
    store.delete("a")
    assert store.names("") == ["claim"]
    assert FailingFileSystem.writes == FailingFileSystem.reads == []


def test_of_many_ranges_only_those_that_failed_are_asked_for_again(store: Store) -> None:
    store.write_bytes("a", bytes(range(100)))
    ranges = [("a", start, start + 2) for start in (*range(0, 90, 5), 0)]
    # A third of the requests fail, far more of them than there are tries.
    FailingFileSystem.reads += [0, 0, errno.EBUSY] * 6
    FailingFileSystem.asked = 0
    found = store.read_ranges(ranges)
    assert found == [bytes([start, start + 1]) for _, start, _ in ranges]
    # One range is wanted twice, and fetched once.
    assert FailingFileSystem.asked == len(ranges) - 1 + 6 and not FailingFileSystem.reads


def test_a_claim_whose_answer_was_lost_is_known_as_ones_own_and_as_no_other(store: Store) -> None:
    FailingFileSystem.lost += [errno.EIO]
    assert store.create_bytes("claim", b"mine")
    assert FailingFileSystem.lost == []
    FailingFileSystem.writes += [errno.EBUSY]
    assert not store.create_bytes("claim", b"another's")
    assert store.read_bytes("claim") == b"mine"


def test_a_store_that_fails_for_long_is_not_taken_for_an_empty_one(store: Store) -> None:
    store.write_bytes("a", b"whole")
    for ask in (store.exists, store.read_bytes, store.names, store.delete):
        FailingFileSystem.reads += [errno.EIO] * 4
        with pytest.raises(StoreError, match="4 times") as told:
            ask("a")
        assert not isinstance(told.value, AbsentError)
    assert store.exists("a")


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
        FailingFileSystem.reads += [errno.EIO] * 9
        FailingFileSystem.writes += [errno.EIO] * 12
        deadline = time.monotonic() + 20
        while FailingFileSystem.reads or FailingFileSystem.writes:
            assert time.monotonic() < deadline, "the heartbeat stopped at a failure"
            time.sleep(0.01)
        first = store.read_json(corner.path("lease.json"))["beat"]
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

    def train(cell: object, store: Store, workers: Workers, leaving: object) -> Record:
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
