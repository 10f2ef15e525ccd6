"""A cell in MLflow: read back by MLflow's own client from a database on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from radsweep.errors import SpecError
from radsweep.loggers.base import check_log_to, open_logger
from tests.loggers.test_loggers import rows

mlflow = pytest.importorskip("mlflow")

CELL = "clip-30k-s0-0123456789"


def write(log_to: str, given: list[dict[str, float | None]], cell: str = CELL) -> None:
    logger = open_logger(log_to, cell)
    for row in given:
        logger.write(row)
    logger.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_cell_is_one_run_and_one_that_was_lost_shows_each_step_once(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path / 'runs.db'}"
    log_to = check_log_to(f"mlflow={where}")
    assert log_to == f"mlflow={where}" and not (tmp_path / "runs.db").exists()
    first = [{**row, "spent": row["step"] / 100} for row in rows(10, 50, loss=2.0)]
    again = [{**row, "spent": row["step"] / 100} for row in rows(30, 70, loss=2.0)]
    write(log_to, first)
    write(log_to, again)
    write(log_to, first, "unicl-30k-s0-0123456789")
    client = mlflow.MlflowClient(where)
    place = client.get_experiment_by_name("radsweep").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([place])}
    assert runs.keys() == {CELL, "unicl-30k-s0-0123456789"}
    run = runs[CELL]
    # It did not come to the end of its budget.
    assert run.info.status == "KILLED" and not run.data.params
    assert run.data.metrics.keys() == {"loss", "loss/dino", "images_seen", "spent"}
    told = {name: value for name, value in run.data.tags.items() if value != CELL}
    assert not told
    for name, expected in (("loss", lambda n: 2.0), ("loss/dino", lambda n: 2.0 / n)):
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == [10, 20, 30, 40, 50, 60]
        assert all(metric.value == pytest.approx(expected(metric.step)) for metric in history)


def test_a_cell_that_came_to_its_end_is_a_finished_run(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path / 'runs.db'}"
    write(f"mlflow={where}", [{"step": 100, "loss": 1.0, "spent": 1.0}])
    client = mlflow.MlflowClient(where)
    (run,) = client.search_runs([client.get_experiment_by_name("radsweep").experiment_id])
    assert run.info.status == "FINISHED"


def test_what_is_no_place_for_all_workers_is_refused_before_a_cell_starts(tmp_path: Path) -> None:
    for where in (tmp_path, f"file://{tmp_path}", "sqlite:///runs.db", "sqlite://", "http://"):
        with pytest.raises(SpecError, match=r"is no server's URL .*sqlite:////scratch/runs.db"):
            check_log_to(f"mlflow={where}")


def test_its_makers_are_told_nothing_of_the_use() -> None:
    ask = (
        "from radsweep.loggers.mlflow import LOGGER;"
        "from mlflow.telemetry.client import get_telemetry_client;"
        "print(get_telemetry_client())"
    )
    # By itself it tells nothing where it is tested.
    quiet = ("PYTEST", "CI", "MLFLOW", "GITHUB", "DO_NOT_TRACK")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    ran = subprocess.run(
        [sys.executable, "-c", ask], env=ours, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "None"
