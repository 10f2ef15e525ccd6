"""Log rows that go live: all numbers of a row, at their steps, and nothing else."""

import time
from pathlib import Path

import numpy as np
import pytest

from radsweep.errors import SpecError
from radsweep.loggers.base import check_log_to, open_logger
from radsweep.pretrain.cell import fit
from radsweep.pretrain.loop import Ranks
from radsweep.specs import Budget, Cell, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate.toy import CORPUS, write_corpus
from tests.loggers.events import read_scalars
from tests.paradigms.tiny import recipe
from tests.pretrain.test_cell import BATCH, batches


def rows(first: int, last: int, loss: float) -> list[dict[str, float | None]]:
    return [
        {"step": step, "loss": loss, "loss_dino": loss / step, "mfu": None, "images_seen": 8 * step}
        for step in range(first, last, 10)
    ]


def write(folder: Path, given: list[dict[str, float | None]]) -> None:
    logger = open_logger(check_log_to(f"tensorboard={folder}"), "clip-30k-s0-0123456789")
    for row in given:
        logger.write(row)
    logger.close()


def lost_and_gone_on(folder: Path) -> dict[str, dict[int, float]]:
    """What should be seen of a cell that was lost after step 40 and went on after step 20."""
    write(folder, rows(10, 50, loss=2.0))
    # Names of event files have whole seconds, and TensorBoard reads them by name.
    time.sleep(1.1)
    write(folder, rows(30, 70, loss=1.0))
    losses = {10: 2.0, 20: 2.0, 30: 1.0, 40: 1.0, 50: 1.0, 60: 1.0}
    return {
        "loss": losses,
        "loss/dino": {step: loss / step for step, loss in losses.items()},
        "images_seen": {step: 8.0 * step for step in losses},
    }


def assert_close(found: dict[str, dict[int, float]], expected: dict[str, dict[int, float]]) -> None:
    assert found.keys() == expected.keys()
    for tag, steps in expected.items():
        assert found[tag] == pytest.approx(steps, rel=1e-6)


def test_a_cell_that_was_lost_shows_each_step_once(tmp_path: Path) -> None:
    expected = lost_and_gone_on(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["clip-30k-s0-0123456789"]
    assert_close(read_scalars(tmp_path), expected)


def test_tensorboard_itself_reads_the_same(tmp_path: Path) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(module)
    expected = lost_and_gone_on(tmp_path)
    read = accumulator.EventAccumulator(str(tmp_path / "clip-30k-s0-0123456789")).Reload()
    found = {
        tag: {event.step: event.value for event in read.Scalars(tag)}
        for tag in read.Tags()["scalars"]
    }
    assert_close(found, expected)


def test_every_number_of_the_log_of_record_goes_live_and_no_word_of_the_corpus(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path / "store"))
    write_corpus(store)
    cell = Cell(
        recipe=recipe("dinov2"), subset=Subset(corpus=CORPUS, images=4),
        budget=Budget(steps=25, batch_size=BATCH),
    )  # fmt: skip
    logger = open_logger(f"tensorboard={tmp_path / 'live'}", cell.name)
    fit(cell, store, Ranks(), batches, checkpoint_steps=10**6, report=logger.write)
    logger.close()
    found = read_scalars(tmp_path / "live")
    log = store.read_table(CellStore(store, cell.name).path("steps.parquet"))
    known = [name for name in log.columns if name != "step" and log[name].null_count() == 0]
    assert len(found) == len(known) > 15
    assert found["loss/dino"] == pytest.approx(
        dict(zip(log["step"], log["loss_dino"], strict=True))
    )
    assert all(list(steps) == [10, 20, 25] for steps in found.values())
    assert np.isfinite([value for steps in found.values() for value in steps.values()]).all()
    (file,) = (tmp_path / "live").rglob("events.*")
    words = file.read_bytes()
    assert cell.name.encode() not in words and b"pretrain00" not in words


@pytest.mark.parametrize(
    ("log_to", "reason"),
    [
        ("tensorboard", "not NAME=WHERE.*known: mlflow, tensorboard, wandb"),
        ("tensorboard=", "not NAME=WHERE"),
        ("=folder", "not NAME=WHERE"),
        ("tensorbord=folder", "no logger named 'tensorbord'; did you mean 'tensorboard'"),
        ("their.mlflow=folder", "no module 'their.mlflow' for a logger"),
    ],
)
def test_what_cannot_be_logged_to_is_refused_before_a_cell_starts(log_to: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        check_log_to(log_to)


def test_a_folder_is_the_same_for_workers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_log_to("tensorboard=curves") == f"tensorboard={tmp_path / 'curves'}"
    assert check_log_to("tensorboard=s3://bucket/curves") == "tensorboard=s3://bucket/curves"
