"""Curves in TensorBoard: ``run --log-to tensorboard=FOLDER``, then ``tensorboard --logdir FOLDER``.

Event files of one cell lie in ``FOLDER/<cell's name>``. On a cluster the folder is one that every
training machine writes to.
"""

from collections.abc import Mapping
from typing import final

from tensorboardX import SummaryWriter

from radsweep.loggers.base import Logger

GROUPS = ("loss", "schedule", "monitor")
"""Beginnings of figures' names that become groups of charts."""
FLUSH_SECONDS = 10


@final
class TensorBoard(Logger):
    """Writes each figure as a scalar over steps."""

    _writer: SummaryWriter | None = None

    def write(self, row: Mapping[str, float | None]) -> None:
        """See ``Logger.write``. What an attempt that was lost wrote from here on is taken back."""
        step = row["step"]
        assert step is not None
        if self._writer is None:
            folder = f"{self.where}/{self.cell}"
            self._writer = SummaryWriter(folder, purge_step=int(step), flush_secs=FLUSH_SECONDS)
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(_tag(name), value, int(step))

    def close(self) -> None:
        """See ``Logger.close``."""
        if self._writer is not None:
            self._writer.close()


def _tag(figure: str) -> str:
    group, _, rest = figure.partition("_")
    return f"{group}/{rest}" if rest and group in GROUPS else figure


LOGGER = TensorBoard
