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

    Raises SpecError where it is not of that form, or no logger is called so.
    """
    name, _, where = log_to.partition("=")
    if not name or not where:
        raise SpecError(
            f"--log-to {log_to!r} is not NAME=WHERE; for instance tensorboard=FOLDER (known: "
            f"{', '.join(parts.names('loggers'))})"
        )
    parts.check("loggers", name)
    return f"{name}={where if '://' in where else Path(where).absolute()}"


def open_logger(log_to: str, cell: str) -> Logger:
    """The logger that ``check_log_to`` passed, of a cell of this name."""
    name, _, where = log_to.partition("=")
    kind: type[Logger] = parts.find("loggers", name)
    return kind(where, cell)
