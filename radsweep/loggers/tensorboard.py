"""Curves in TensorBoard: ``run --log-to tensorboard=FOLDER``, then ``tensorboard --logdir FOLDER``.

Event files of one cell lie in ``FOLDER/<cell's name>``. On a cluster the folder is one that every
training machine writes to.
"""

from collections.abc import Mapping
from typing import final

from tensorboardX import SummaryWriter

from radsweep.loggers.base import Logger, in_groups

FLUSH_SECONDS = 10


@final
class TensorBoard(Logger):
    """Writes each figure as a scalar over steps."""

    _writer: SummaryWriter | None = None

    def write(self, row: Mapping[str, float | None]) -> None:
        """See ``Logger.write``. What an attempt that was lost wrote from here on is taken back."""
        figures = in_groups(row)
        step = int(figures.pop("step"))
        if self._writer is None:
            folder = f"{self.where}/{self.cell}"
            self._writer = SummaryWriter(folder, purge_step=step, flush_secs=FLUSH_SECONDS)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See ``Logger.close``."""
        if self._writer is not None:
            self._writer.close()


LOGGER = TensorBoard
