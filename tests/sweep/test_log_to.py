"""Curves that go live while a sweep runs on Ray, by one process and by two."""

from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.loggers.events import read_scalars
from tests.sweep.test_resume import run, trained_cells, write_sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_asked_to_shows_its_log_live(
    workers: int, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file, store = write_sweep(tmp_path / "live.py", '(recipe("clip"),)', steps=25), new_store()
    halves = ("--cpus", 0.5, "--stream-cpus", "0.5:1")
    run(file, store, "--workers", workers, *halves, "--log-to", "tensorboard=curves")
    (cell,) = trained_cells(file)
    # In the folder of whoever started it, and nothing of the baseline, which takes no step.
    assert [folder.name for folder in (tmp_path / "curves").iterdir()] == [cell.name]
    log = store.read_table(CellStore(store, cell.name).path("steps.parquet"))
    assert set(log["stream_cpus"]) <= {0.5, 1.0}
    found = read_scalars(tmp_path / "curves")
    assert found["loss"] == pytest.approx(dict(zip(log["step"], log["loss"], strict=True)))
    assert list(found["loss"]) == [10, 20, 25]
