"""What a run tells others: a line of JSON for each thing that happens, and one POST at its end.

Names, states and figures only: no word of a patient is in either.
"""

import http.client
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from radsweep import __version__
from radsweep.errors import SpecError, StoreError
from radsweep.pretrain.metrics import tell_spent
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import sweep_file
from radsweep.store.record import CellStore, Record, now
from radsweep.sweep.results import read_records
from radsweep.sweep.run import Observer, Outcome

ANSWER_SECONDS = 10.0


class Journal:
    """An observer that writes a line of JSON per event and passes each on to another observer."""

    def __init__(self, sweep: str, file: TextIO, then: Observer) -> None:
        """Lines are flushed one by one, so that who follows the file sees them.

        Args:
            sweep: its name, repeated in every line.
            file: open for writing; it is not closed.
            then: is told everything as well.
        """
        self._sweep, self._file, self._then = sweep, file, then

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """The run begins."""
        self._write("run_began", cells=[cell.name for cell in cells], done_before=done)
        self._then.cells(cells, done)

    def cell_began(self, cell: Cell) -> None:
        """A cell's turn came."""
        self._write("cell_began", cell=cell.name)
        self._then.cell_began(cell)

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A cell left the queue."""
        self._write("cell_ended", cell=cell.name, state=state, reason=reason)
        self._then.cell_ended(cell, state, reason)

    def grid(self, done: int, total: int) -> None:
        """Units of the evaluation ended."""
        self._write("evaluated", done=done, total=total)
        self._then.grid(done, total)

    def _write(self, event: str, **facts: object) -> None:
        line = {"at": now(), "sweep": self._sweep, "event": event, **facts}
        # One call: cells end in threads of their own.
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@contextmanager
def journal(sweep: str, file: Path | None, then: Observer) -> Iterator[Observer]:
    """A ``Journal`` that appends to ``file`` for the block; ``then`` alone where there is none."""
    if file is None:
        yield then
        return
    with file.open("a") as lines:
        yield Journal(sweep, lines, then)


class Bill:
    """An observer that tells Prometheus what the sweep's finished cells took, as each ends.

    Silent without a kept plan, which knows the price, and of cells on CPUs.
    """

    def __init__(self, sweep: Sweep, store: Store, then: Observer) -> None:
        """Reads what was spent before.

        Args:
            sweep: whose cells are paid for.
            store: with their records, and with the plan.
            then: is told everything as well.
        """
        self._sweep, self._store, self._then = sweep.name, store, then
        self._price = kept_price(sweep, store)
        self._hours = 0.0 if self._price is None else _gpu_hours(read_records(sweep, store))

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """The run begins."""
        self._then.cells(cells, done)

    def cell_began(self, cell: Cell) -> None:
        """A cell's turn came."""
        self._then.cell_began(cell)

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A cell left the queue."""
        self._then.cell_ended(cell, state, reason)
        if self._price is None or state != "done":
            return
        # A store that does not answer costs the figure its cell, and the run nothing.
        with suppress(OSError, StoreError):
            self._hours += _gpu_hours({cell.name: CellStore(self._store, cell.name).record()})
        if self._hours:
            tell_spent(self._sweep, self._hours * self._price)

    def grid(self, done: int, total: int) -> None:
        """Units of the evaluation ended."""
        self._then.grid(done, total)


def kept_price(sweep: Sweep, store: Store) -> float | None:
    """USD of a device-hour, by the plan that was kept; None without one."""
    plan = sweep_file(sweep.name, "plan.json")
    if not store.exists(plan):
        return None
    price: float = store.read_json(plan)["usd_per_device_hour"]
    return price


def _gpu_hours(records: dict[str, Record]) -> float:
    return sum(record.gpu_seconds for record in records.values()) / 3600


def check_webhook(url: str) -> None:
    """Raises SpecError for what cannot be posted to, before compute is spent."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SpecError(f"--webhook is {url!r}; give an http:// or https:// address")


def outcome_message(sweep: Sweep, store: Store, outcome: Outcome) -> dict[str, Any]:
    """What the webhook is sent: names and figures. Reasons stay in the store.

    ``process_hours`` are of all the sweep's finished cells; ``usd`` is their price by the plan that
    was kept, null without one and where a cell ran on CPUs, whose hours have no price
    there.
    """
    records = read_records(sweep, store).values()
    trained = [record for record in records if record.seconds]
    hours = sum(record.seconds * record.workers for record in trained) / 3600
    price = kept_price(sweep, store)
    on_gpu = all(record.gpu_seconds > 0 for record in trained)
    return {
        "sweep": sweep.name,
        "at": now(),
        "is_complete": outcome.is_complete,
        "trained": list(outcome.trained),
        "failed": [name for name, _ in outcome.failures],
        "score_rows": outcome.scores,
        "process_hours": hours,
        "usd": hours * price if price is not None and on_gpu else None,
        "radsweep": __version__,
    }


def post(url: str, message: dict[str, Any]) -> str | None:
    """POST it once as JSON; why it was not taken, or None. Never raises for the other side's fault.

    Args:
        url: see ``check_webhook``.
        message: JSON values.
    """
    request = urllib.request.Request(
        url,
        data=json.dumps(message).encode(),
        headers={"Content-Type": "application/json", "User-Agent": f"radsweep/{__version__}"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return None
    except (OSError, http.client.HTTPException) as fault:
        return f"{type(fault).__name__}: {fault}"
