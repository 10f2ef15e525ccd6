"""A logger that keeps which steps were trained, those of lost attempts too: for ``chaos``."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import final

from radsweep.loggers.base import Logger


@final
class StepsSeen(Logger):
    """A line for each row, in a file of this process alone: nothing is lost where it is killed."""

    def write(self, row: Mapping[str, float | None]) -> None:
        """The step of the row."""
        folder = Path(self.where) / self.cell
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / str(os.getpid())).open("a") as file:
            file.write(f"{row['step']}\n")

    def close(self) -> None:
        """Nothing is open."""


LOGGER = StepsSeen


def rows_of(folder: Path) -> Counter[str]:
    """How often each step of a cell was logged."""
    return Counter(step for file in folder.iterdir() for step in file.read_text().split())
