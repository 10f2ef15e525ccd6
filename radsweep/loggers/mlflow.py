"""Curves in MLflow: ``run --log-to mlflow=URL``, a server's or ``sqlite:////shared/runs.db``.

Each cell is one run, of its name, in the experiment ``radsweep``. Who may write is said by MLflow's
own environment variables, on every training machine.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import final

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from radsweep.errors import SpecError
from radsweep.loggers.base import Logger, in_groups

EXPERIMENT = "radsweep"


@final
class Mlflow(Logger):
    """Writes each figure as a metric over steps."""

    _client: MlflowClient | None = None

    def __init__(self, where: str, cell: str) -> None:
        """See ``Logger``."""
        super().__init__(where, cell)
        if "://" not in where or where.startswith("file:"):
            raise SpecError(
                f"--log-to mlflow={where} is a folder, which MLflow writes to no longer; give a "
                f"server's URL, or sqlite:///{where}/runs.db"
            )

    def write(self, row: Mapping[str, float | None]) -> None:
        """See ``Logger.write``. What an attempt that was lost wrote stands: it is the same."""
        if self._client is None:
            self._client = MlflowClient(self.where)
            self._run, self._last_step = _run_of(self._client, self.cell)
        figures = in_groups(row)
        step, now = int(figures.pop("step")), int(time.time() * 1000)
        if step > self._last_step:
            metrics = [Metric(name, value, now, step) for name, value in figures.items()]
            self._client.log_batch(self._run, metrics)

    def close(self) -> None:
        """See ``Logger.close``."""
        if self._client is not None:
            self._client.set_terminated(self._run)


def _run_of(client: MlflowClient, cell: str) -> tuple[str, int]:
    """The cell's run, made where there is none, and the last step that it knows."""
    with suppress(MlflowException):  # Made before, or by another cell just now.
        client.create_experiment(EXPERIMENT)
    place = client.get_experiment_by_name(EXPERIMENT).experiment_id
    for run in client.search_runs([place], f"attributes.run_name = '{cell}'"):
        client.update_run(run.info.run_id, status="RUNNING")
        known = client.get_metric_history(run.info.run_id, "spent")
        return run.info.run_id, max((metric.step for metric in known), default=-1)
    return client.create_run(place, run_name=cell).info.run_id, -1


LOGGER = Mlflow
