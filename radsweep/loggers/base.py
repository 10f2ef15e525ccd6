"""What a program that shows curves while a cell runs must be told by.

The log of record is ``steps.parquet`` in the store; this is for those who watch. Off unless asked
for, and given numbers and the cell's name alone: never an image, a text or an identifier.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from radsweep import parts
from radsweep.errors import SpecError


class Logger(ABC):
    """Of one cell, in the process that trains it (its first rank)."""

    def __init__(self, where: str, cell: str) -> None:
        """Open nothing yet: a cell without steps leaves nothing.

        Args:
            where: what was given after the logger's name; an absolute path, or a URL.
            cell: its name.

        Raises SpecError for a place that it cannot write to, whatever the cell.
        """
        self.where, self.cell = where, cell

    @abstractmethod
    def write(self, row: Mapping[str, float | None]) -> None:
        """Show one row of the log: figures by name, ``step`` among them, None where not known.

        A cell that was lost comes again to steps that were written before.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave nothing unwritten; called once, however the cell ends."""


def check_log_to(log_to: str) -> str:
    """``NAME=WHERE``, a folder's path made absolute, since workers run in folders of their own.

    Raises SpecError where it is not of that form, no logger is called so, what it writes with is
    not installed, or it cannot write there.
    """
    name, _, where = log_to.partition("=")
    if not name or not where:
        raise SpecError(
            f"--log-to {log_to!r} is not NAME=WHERE; for instance tensorboard=FOLDER (known: "
            f"{', '.join(parts.names('loggers'))})"
        )
    where = where if "://" in where else str(Path(where).absolute())
    _kind(name)(where, cell="")
    return f"{name}={where}"


def open_logger(log_to: str, cell: str) -> Logger:
    """The logger that ``check_log_to`` passed, of a cell of this name."""
    name, _, where = log_to.partition("=")
    return _kind(name)(where, cell)


def _kind(name: str) -> type[Logger]:
    try:
        kind: type[Logger] = parts.find("loggers", name)
    except ModuleNotFoundError as fault:
        package = fault.name if "." in name else f"'radsweep[{name}]'"
        raise SpecError(
            f"--log-to {name} needs {fault.name}, which is not installed: pip install {package}, "
            "here and on every training machine"
        ) from fault
    return kind


GROUPS = ("loss", "schedule", "monitor")
"""Beginnings of figures' names that become groups of charts."""


def in_groups(row: Mapping[str, float | None]) -> dict[str, float]:
    """The figures of a row that are known, ``loss_dino`` as ``loss/dino``."""
    return {_grouped(name): value for name, value in row.items() if value is not None}


def _grouped(figure: str) -> str:
    group, _, rest = figure.partition("_")
    return f"{group}/{rest}" if rest and group in GROUPS else figure
