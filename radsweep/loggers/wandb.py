"""Curves in Weights & Biases: ``run --log-to wandb=FOLDER``, whose last name is the project.

Each cell is one run, of its name. Nothing leaves the machine unless ``WANDB_BASE_URL`` names a
server, on every training machine: without it files are kept in the folder, which ``wandb sync``
sends when told to. Neither code nor command, host or user is told in either case.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import final

# Read when a run begins: faults of the client itself would be reported to its makers.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from radsweep.errors import SpecError
from radsweep.loggers.base import Logger, in_groups


@final
class WeightsAndBiases(Logger):
    """Writes each figure as a metric over steps."""

    _run: wandb.Run | None = None

    def __init__(self, where: str, cell: str) -> None:
        """See ``Logger``."""
        super().__init__(where, cell)
        if "://" in where:
            raise SpecError(
                f"--log-to wandb={where} is no folder; give one (its last name is the project) "
                "and name a server by WANDB_BASE_URL"
            )

    def write(self, row: Mapping[str, float | None]) -> None:
        """See ``Logger.write``. What an attempt that was lost wrote stands: it is the same."""
        if self._run is None:
            Path(self.where).mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=Path(self.where).name,
                dir=self.where,
                name=self.cell,
                id=self.cell,
                resume="allow",
                reinit="create_new",
                mode="online" if "WANDB_BASE_URL" in os.environ else "offline",
                settings=wandb.Settings(
                    console="off",
                    disable_git=True,
                    host="not told",
                    save_code=False,
                    silent=True,
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                ),
            )
        figures = in_groups(row)
        step = int(figures.pop("step"))
        if step >= self._run.step:
            self._run.log(figures, step=step)

    def close(self) -> None:
        """See ``Logger.close``."""
        if self._run is not None:
            self._run.finish()


LOGGER = WeightsAndBiases
