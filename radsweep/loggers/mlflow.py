"""Curves in MLflow: ``run --log-to mlflow=URL``, a server's or, on one machine, a database's.

Each cell is one run, of its name, in the experiment ``radsweep``. Who may write is said by MLflow's
own environment variables, on every training machine. Its makers are told nothing of the use.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import final

# Read at the import. By its own defaults a server that is away is waited for for a quarter of an
# hour, and by the other processes of a group as well.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

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
    _is_whole = False

    def __init__(self, where: str, cell: str) -> None:
        """See ``Logger``; MLflow itself gave up plain folders."""
        super().__init__(where, cell)
        if not re.match(r"https?://.|sqlite:////.", where):
            raise SpecError(
                f"--log-to mlflow={where} is no server's URL (http:// or https://) nor, for one "
                "machine, a database with its whole path (sqlite:////scratch/runs.db)"
            )

    def write(self, row: Mapping[str, float | None]) -> None:
        """See ``Logger.write``. What an attempt that was lost wrote stands: it is the same."""
        if self._client is None:
            self._client = MlflowClient(self.where)
            self._run, self._last_step = _run_of(self._client, self.cell)
        figures = in_groups(row)
        self._is_whole = figures["spent"] >= 1.0
        step, now = int(figures.pop("step")), int(time.time() * 1000)
        if step > self._last_step:
            metrics = [Metric(name, value, now, step) for name, value in figures.items()]
            self._client.log_batch(self._run, metrics)

    def close(self) -> None:
        """See ``Logger.close``. A run that did not come to its end may go on later."""
        if self._client is not None:
            self._client.set_terminated(self._run, "FINISHED" if self._is_whole else "KILLED")


def _run_of(client: MlflowClient, cell: str) -> tuple[str, int]:
    """The cell's run, made where there is none, and the last step that it knows."""
    place = _experiment(client)
    for run in client.search_runs([place], f"attributes.run_name = '{cell}'"):
        client.update_run(run.info.run_id, status="RUNNING")
        known = client.get_metric_history(run.info.run_id, "spent")
        return run.info.run_id, max((metric.step for metric in known), default=-1)
    return client.create_run(place, run_name=cell).info.run_id, -1


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT))
        except MlflowException:
            # Another cell was first.
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return str(found.experiment_id)


LOGGER = Mlflow
