"""What a run tells others: a line of JSON for each thing that happens, and one POST at its end.

Names, states and figures only: no word of a patient is in either.
"""

import http.client
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from radsweep import __version__
from radsweep.errors import SpecError
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.record import now
from radsweep.sweep.results import read_records, read_sweep
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


def check_webhook(url: str) -> None:
    """Raises SpecError for what cannot be posted to, before compute is spent."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SpecError(f"--webhook is {url!r}; give an http:// or https:// address")


def outcome_message(sweep: Sweep, store: Store, outcome: Outcome) -> dict[str, Any]:
    """What the webhook is sent: names and figures. Reasons stay in the store.

    ``process_hours`` are of all the sweep's finished cells; ``usd`` is their price by the plan that
    ``radsweep plan`` kept, null without one and where a cell ran on CPUs, whose hours have no price
    there.
    """
    records = read_records(sweep, store).values()
    trained = [record for record in records if record.seconds]
    hours = sum(record.seconds * record.workers for record in trained) / 3600
    plan = read_sweep(sweep, store)["plan"]
    on_gpu = all(record.gpu_seconds > 0 for record in trained)
    return {
        "sweep": sweep.name,
        "at": now(),
        "is_complete": outcome.is_complete,
        "trained": list(outcome.trained),
        "failed": [name for name, _ in outcome.failures],
        "score_rows": outcome.scores,
        "process_hours": hours,
        "usd": hours * plan["usd_per_device_hour"] if plan and on_gpu else None,
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
