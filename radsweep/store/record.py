"""What is known of a cell: its spec, its state, who holds it, and what it left.

A cell's folder holds ``spec.json`` (its identity, written first), ``state.json`` (waiting, running,
...), ``lease.json`` (who works on it), ``checkpoints/``, ``steps.parquet``, the encoder's files,
``record.json`` and, last of all, ``DONE``.
"""

import json
import logging
import os
import platform
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from radsweep import __version__, keys
from radsweep.errors import AbsentError, LeaseLostError, StoreError
from radsweep.specs import Cell
from radsweep.store.layout import Store, cell_folder
from radsweep.store.together import together

LOGGER = logging.getLogger(__name__)
STATES = ("waiting", "running", "done", "failed", "collapsed", "diverged", "preempted")
HEARTBEAT_S = 10.0
STALE_AFTER_S = 60.0
"""A lease without a heartbeat for so long is taken over: six missed beats."""


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> str:
    """Within which a process has one number: the host and, on Linux, its PID namespace."""
    namespace = "/proc/self/ns/pid"
    inside = os.stat(namespace).st_ino if os.path.exists(namespace) else 0
    return f"{socket.gethostname()}/{inside}"


def is_alive(pid: int) -> bool:
    """Whether a process of this ``machine()`` still runs; True where the system cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lease(holder: str) -> dict[str, str | int | float]:
    return {"holder": holder, "beat": time.time(), "machine": machine(), "pid": os.getpid()}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished cell says of itself; every number in it was measured."""

    cell: str
    key: str
    images: int
    """Images in the subset (whole patients, so it may exceed what was asked for)."""
    patients: int
    subset_digest: str
    """SHA-256 of the subset's image identifiers in order."""
    images_seen: int
    steps: int
    epochs: float
    flops_per_image: float
    """Counted by one step under PyTorch's counter: 2 per multiply-add, recomputation excluded."""
    flops: float
    seconds: float
    """Of training, summed over attempts; start-up excluded."""
    gpu_seconds: float
    """``seconds`` times workers that had a GPU; 0 on CPU."""
    workers: float
    """Processes; their mean over ``seconds`` where the width changed."""
    device: str
    encoder_digest: str
    """SHA-256 of the encoder's weights."""
    start_digest: str
    """SHA-256 of the weights that training started from."""
    final_losses: dict[str, float]
    code_version: str = __version__
    versions: dict[str, str] = field(default_factory=dict)
    python: str = field(default_factory=platform.python_version)
    finished_at: str = field(default_factory=now)


class CellStore:
    """One cell's corner of the store."""

    def __init__(self, store: Store, cell: str) -> None:
        self.store = store
        self.cell = cell
        self.folder = cell_folder(cell)

    def path(self, name: str) -> str:
        """Of a file in this cell's folder, relative to the store's root."""
        return f"{self.folder}/{name}"

    def declare(self, cell: Cell) -> None:
        """Write ``spec.json``, or refuse a folder whose spec is another cell's.

        Raises StoreError where the identity in the store does not hash to the cell's key.
        """
        if not self.store.exists(self.path("spec.json")):
            self.store.write_json(
                self.path("spec.json"), {"key": cell.key, "identity": cell.identity}
            )
            return
        found = self.store.read_json(self.path("spec.json"))
        if keys.key_of(found["identity"]) != cell.key:
            raise StoreError(
                f"{self.folder}/spec.json is not the spec of {cell.name} (its key would be "
                f"{keys.key_of(found['identity'])}); it was edited or copied: remove the folder"
            )

    @property
    def is_done(self) -> bool:
        """Whether everything was written; ``DONE`` comes last."""
        return self.store.exists(self.path("DONE"))

    def finish(self, record: Record) -> None:
        """Write ``record.json``, then the state, then ``DONE``."""
        self.store.write_json(self.path("record.json"), asdict(record))
        self.set_state("done", spent=1.0)
        self.store.write_bytes(self.path("DONE"), b"")

    def record(self) -> Record:
        """Of a finished cell. Raises StoreError if it is not finished."""
        record = self.record_if_done()
        if record is None:
            raise StoreError(f"cell {self.cell} is not done; `radsweep run` finishes it")
        return record

    def record_if_done(self) -> Record | None:
        """Of a finished cell; None of another."""
        if not self.is_done:
            return None
        return Record(**self.store.read_json(self.path("record.json")))

    def set_state(self, state: str, **facts: float | str | None) -> None:
        """Say where the cell stands, with facts: ``spent`` (share of the budget), ``reason``."""
        assert state in STATES
        self.store.write_json(self.path("state.json"), {"state": state, "at": now(), **facts})

    def state(self) -> dict[str, Any]:
        """The last that was said; ``running`` without a live lease reads ``preempted``."""
        if not self.store.exists(self.path("state.json")):
            return {"state": "waiting"}
        said: dict[str, Any] = self.store.read_json(self.path("state.json"))
        if said["state"] == "running" and not self._is_held():
            said["state"] = "preempted"
        return said

    def _is_held(self) -> bool:
        try:
            lease = self.store.read_json(self.path("lease.json"))
        except (AbsentError, json.JSONDecodeError):
            return False
        if time.time() - lease["beat"] >= STALE_AFTER_S:
            return False
        return lease["machine"] != machine() or is_alive(lease["pid"])

    @contextmanager
    def lease(self) -> Iterator[str | None]:
        """Hold this cell while the block runs; gives the holder's name, None if another holds it.

        A heartbeat renews the lease. One that went stale is taken over, and at once where its
        holder was a process of this machine that is gone; a former holder that lives finds out at
        its next beat and at ``check_lease``.
        """
        holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        if not self._claim(holder):
            yield None
            return
        stop = threading.Event()
        beats = threading.Thread(target=self._beat, args=(holder, stop), daemon=True)
        beats.start()
        try:
            yield holder
        finally:
            stop.set()
            beats.join()
            self._release(holder)

    def _release(self, holder: str) -> None:
        try:
            if self._holder() == holder:
                self.store.delete(self.path("lease.json"))
        except (OSError, StoreError) as fault:
            # It goes stale by itself; what the block raised is what matters.
            LOGGER.warning("%s: the lease stays, the store fails: %s", self.cell, fault)

    def _claim(self, holder: str) -> bool:
        lease = json.dumps(_lease(holder)).encode()
        if self.store.create_bytes(self.path("lease.json"), lease):
            return True
        if self._is_held():
            return False
        # Take a stale lease over. Two drivers may both get here: the last writer wins, the other
        # sees it after the pause and leaves.
        self.store.write_bytes(self.path("lease.json"), lease)
        time.sleep(0.2)
        return self._holder() == holder

    def _holder(self) -> str | None:
        try:
            lease: dict[str, str] = self.store.read_json(self.path("lease.json"))
        except (AbsentError, json.JSONDecodeError):
            return None
        return lease["holder"]

    def _beat(self, holder: str, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            try:
                if self._holder() != holder:
                    return
                self.store.write_json(self.path("lease.json"), _lease(holder))
            except Exception as fault:
                # Clouds' clients raise what they like. It may answer at the next beat; if not,
                # the lease goes stale, and is lost.
                LOGGER.warning("%s: no heartbeat, the store fails: %s", self.cell, fault)

    def check_lease(self, holder: str) -> None:
        """Raise LeaseLostError unless ``holder`` still holds the cell."""
        if self._holder() != holder:
            raise LeaseLostError(f"another driver took {self.cell} over; this one stops")


def finished(store: Store, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Those of these cells that are done, in their order."""
    done = together(lambda cell: CellStore(store, cell.name).is_done, cells)
    return tuple(cell for cell, is_done in zip(cells, done, strict=True) if is_done)


def finished_records(store: Store, cells: Sequence[Cell]) -> dict[Cell, Record]:
    """The records of those that are done, in their order."""
    found = together(lambda cell: CellStore(store, cell.name).record_if_done(), cells)
    pairs = zip(cells, found, strict=True)
    return {cell: record for cell, record in pairs if record is not None}
