"""Steps take the slowest rank's time on every rank; the log says whose it is."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsweep.pretrain.loop import REPORT_STEPS, Progress, Ranks, Row, make_optimiser, pretrain
from radsweep.pretrain.slowest import SAMPLES, Laggard, slowest
from radsweep.specs import Budget, Cell, Subset
from tests.paradigms.tiny import batch, build, recipe
from tests.processes import together

COUNT, STEPS, SLOW = 8, REPORT_STEPS, 1
SLOW_SECONDS = 0.1
WAYS: dict[str, dict[str, Any]] = {
    "clip": {},
    "clip in parts": {"images_at_once": 2},
    "dinov2": {},
    "dinov2 with activations computed anew": {"activation_checkpointing": True},
}


def train(way: str, rank: int, is_slow: str) -> list[Row]:
    """The log of a rank of two, of which one computes or reads slowly."""
    made = recipe(way.split()[0])
    paradigm, share = build(made), COUNT // 2
    whole = {name: value.numpy() for name, value in batch(paradigm, COUNT).items()}
    mine = {name: value[rank * share : (rank + 1) * share] for name, value in whole.items()}
    if rank == SLOW and is_slow == "device":
        blocks = (m for n, m in paradigm.named_modules() if n.endswith("blocks.0"))
        learns = next(one for one in blocks if next(one.parameters()).requires_grad)
        learns.register_full_backward_hook(lambda *_: time.sleep(SLOW_SECONDS))

    def batches() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for _ in range(STEPS):
            time.sleep(SLOW_SECONDS if rank == SLOW and is_slow == "stream" else 0.0)
            yield mine

    cell = Cell(
        recipe=made,
        subset=Subset(corpus="toy@1", images=COUNT),
        budget=Budget(steps=STEPS, batch_size=COUNT),
    )
    progress = Progress()
    pretrain(
        cell,
        paradigm,
        make_optimiser(paradigm, made),
        batches(),
        steps=STEPS,
        progress=progress,
        ranks=Ranks(rank=rank, size=2),
        report=lambda row: None,
        checkpoint=lambda: None,
        checkpoint_steps=10**6,
        **WAYS[way],
    )
    return progress.rows


def _rank(rank: int, folder: str) -> None:
    found = {way: train(way, rank, "device") for way in WAYS}
    torch.save(found | {"stream": train("clip", rank, "stream")}, Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Row]]]:
    folder = tmp_path_factory.mktemp("slowest")
    together(_rank, 2, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("way", WAYS)
def test_the_rank_that_computes_slowly_is_named_on_every_rank(
    way: str, logs: list[dict[str, list[Row]]]
) -> None:
    for log in logs:
        (row,) = log[way]
        assert row["slowest_rank"] == SLOW
        assert row["slowest_times"] is not None and row["slowest_times"] > 1.3
    first, second = (log[way][0]["slowest_times"] for log in logs)
    assert first == second


def test_every_rank_logs_the_wait_of_the_one_whose_images_come_slowly(
    logs: list[dict[str, list[Row]]],
) -> None:
    for log in logs:
        (row,) = log["stream"]
        assert row["data_wait_seconds"] is not None and row["data_wait"] is not None
        assert row["data_wait_seconds"] >= STEPS * SLOW_SECONDS
        assert 0.5 < row["data_wait"] <= 1.0


def test_one_is_compared_with_the_median_of_the_others() -> None:
    assert slowest([1.0, 1.1, 2.2, 0.9]) == (2, pytest.approx(2.2))
    assert slowest([3.0, 1.0]) == (0, 3.0)
    assert slowest([1.0]) is None
    # As where weights are in shares, and nobody's own time can be told.
    assert slowest([0.0, 0.0]) is None


def test_one_slow_step_is_forgotten_and_a_slow_rank_is_not() -> None:
    laggard = Laggard()
    found = [laggard.add([1.0, 7.0 if step == 0 else 1.0]) for step in range(SAMPLES + 1)]
    assert found[0] == (1, 7.0)
    assert found[SAMPLES - 1] == (1, (SAMPLES + 6) / SAMPLES)
    assert found[SAMPLES] is not None and found[SAMPLES][1] == 1.0
