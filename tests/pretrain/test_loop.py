"""The loop spends exactly its budget, and a killed cell goes on as if nothing had happened."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsweep.corpus.example import Views
from radsweep.errors import BudgetError, DivergedError, PreemptedError, SpecError
from radsweep.pretrain import checkpoint, schedule
from radsweep.pretrain.loop import Progress, Ranks, make_optimiser, pretrain
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.pretrain.toy import Toy

STEPS = 25


def toy_cell(**changes: object) -> Cell:
    recipe: dict[str, object] = {
        "paradigm": "tests.pretrain.toy",
        "encoder": "toy",
        "image_size": 4,
        "learning_rate": 0.01,
    }
    return Cell(
        recipe=Recipe(**(recipe | changes)),  # type: ignore[arg-type]
        subset=Subset(corpus="toy@1", images=32),
        budget=Budget(steps=STEPS, batch_size=8),
    )


def batches(first_step: int, steps: int = STEPS) -> Iterator[Views]:
    for step in range(first_step, steps):
        generator = np.random.default_rng(step)
        yield {
            "image": generator.integers(0, 256, (8, 1, 4, 4), dtype=np.uint8),
            "position": np.arange(8) + 8 * step,
        }


def train(
    folder: Path,
    *,
    pause: float = 0.0,
    reached: Any = None,
    must_leave: Callable[[], bool] = lambda: False,
    keep_every_steps: int | None = None,
    store: Store | None = None,
    taken: Callable[[int], None] = lambda step: None,
) -> tuple[Toy, Progress]:
    """Train the toy cell to its end from whatever checkpoint is in the folder.

    ``taken`` is told each step before its batch is given.
    """
    cell, corner = toy_cell(), CellStore(store or Store(str(folder)), "toy")
    torch.manual_seed(1)
    paradigm = Toy()
    optimiser = make_optimiser(paradigm, cell.recipe)
    cpu = torch.device("cpu")
    progress = checkpoint.load(corner, paradigm, optimiser, cpu, 0)

    def slow(source: Iterator[Views]) -> Iterator[Views]:
        for batch in source:
            taken(int(batch["position"][0]) // 8)
            if reached is not None:
                reached.value = batch["position"][0] // 8
            time.sleep(pause)
            yield batch

    with checkpoint.Checkpoints(corner, keep_every_steps) as checkpoints:
        pretrain(
            cell, paradigm, optimiser, slow(batches(progress.step)), steps=STEPS,
            progress=progress, ranks=Ranks(), report=lambda row: None, checkpoint_steps=4,
            checkpoint=lambda: checkpoints.save(
                checkpoint.gather(paradigm, optimiser, cpu, 0), progress
            ),
            must_leave=must_leave,
        )  # fmt: skip
    return paradigm, progress


def test_a_cell_spends_its_budget_and_logs_what_it_spent(tmp_path: Path) -> None:
    _, progress = train(tmp_path)
    assert progress.step == STEPS
    assert [row["step"] for row in progress.rows] == [10, 20, 25]
    assert progress.rows[-1]["images_seen"] == STEPS * 8
    assert progress.rows[-1]["spent"] == 1.0
    for row in progress.rows:
        assert row["loss"] == pytest.approx(row["loss_mean"] + row["loss_teacher"])
    # The teacher's term follows a moving target; the mean is what the toy learns.
    assert progress.rows[-1]["loss_mean"] < 0.75 * progress.rows[0]["loss_mean"]


def until_killed(folder: Path, reached: Any) -> None:
    """In a process of its own: train, and say which batch was last asked for."""
    torch.set_num_threads(1)
    train(folder, pause=0.005, reached=reached)


def kill_at(folder: Path, step: int, generator: np.random.Generator) -> None:
    """Train in another process, and kill it within some milliseconds of this step, wherever it is:
    in the step, or writing a checkpoint."""
    # A server that has imported torch once makes each process in no time, and shares nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    reached = context.Value("i", -1, lock=False)
    process = context.Process(target=until_killed, args=(folder, reached))
    process.start()
    deadline = time.monotonic() + 60
    while reached.value < step:
        assert process.is_alive() and time.monotonic() < deadline, "it ended before it was killed"
        time.sleep(0.0005)
    time.sleep(0.01 * generator.random())
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kills", "seed"), [(3, 0), *(pytest.param(10, s, marks=pytest.mark.slow) for s in (1, 2))]
)
def test_a_killed_cell_ends_with_the_very_weights_of_an_uninterrupted_one(
    kills: int, seed: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(seed)
    whole, _ = train(tmp_path / "whole")
    # Not the last steps: the process must be alive when the signal comes.
    for step in sorted(generator.choice(STEPS - 5, kills, replace=False).tolist()):
        kill_at(tmp_path / "killed", step, generator)
    resumed, progress = train(tmp_path / "killed")
    assert progress.step == STEPS
    assert [row["step"] for row in progress.rows] == [10, 20, 25]
    for (name, one), (_, other) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name


def test_a_cell_that_must_leave_keeps_a_checkpoint_first_and_goes_on_to_the_very_weights(
    tmp_path: Path,
) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(PreemptedError, match="left at step 10"):
        train(tmp_path / "left", must_leave=lambda: True)
    # Not the last of every fourth step: the one at which it was told.
    names = Store(str(tmp_path / "left")).names("cells/toy/checkpoints")
    assert names[-1] == f"{10:09d}.pt"
    went_on, progress = train(tmp_path / "left")
    assert progress.step == STEPS
    for name, value in whole.state_dict().items():
        assert torch.equal(value, went_on.state_dict()[name]), name


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    train(tmp_path)
    assert Store(str(tmp_path)).names("cells/toy/checkpoints") == ["000000020.pt", "000000024.pt"]


def test_checkpoints_at_multiples_of_a_step_stay_for_good(tmp_path: Path) -> None:
    train(tmp_path, keep_every_steps=8)
    kept = [8, 16, 20, 24]
    assert Store(str(tmp_path)).names("cells/toy/checkpoints") == [f"{n:09d}.pt" for n in kept]


def run_with(source: Iterator[Views], **changes: object) -> None:
    cell = toy_cell(**changes)
    torch.manual_seed(1)
    paradigm = Toy()
    pretrain(
        cell, paradigm, make_optimiser(paradigm, cell.recipe), source, steps=STEPS,
        progress=Progress(), ranks=Ranks(), report=lambda row: None, checkpoint=lambda: None,
        checkpoint_steps=100,
    )  # fmt: skip


def test_a_stream_that_ends_early_is_an_error() -> None:
    with pytest.raises(BudgetError, match="ended after 3 of 25 steps"):
        run_with(batches(0, 3))


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DivergedError, match="lower learning_rate"):
        run_with(batches(0), learning_rate=1e30, clip_norm=None)


def test_schedules_follow_the_share_of_the_budget() -> None:
    recipe = toy_cell(warmup=0.2, weight_decay=0.04, weight_decay_end=0.4).recipe
    rates = [schedule.learning_rate(recipe, share) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.005, 0.0])
    decays = [schedule.weight_decay(recipe, share) for share in (0.0, 0.5, 1.0)]
    assert decays == pytest.approx([0.04, 0.22, 0.4])


def test_a_constant_rate_cools_down_at_the_end() -> None:
    recipe = toy_cell(warmup=0.1, cooldown=0.2, final_learning_rate=0.002).recipe
    rates = [schedule.learning_rate(recipe, share) for share in (0.05, 0.1, 0.5, 0.8, 0.9, 1.0)]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.006, 0.002])
    with pytest.raises(SpecError, match=r"cooldown is 0\.95"):
        toy_cell(warmup=0.1, cooldown=0.95)
    assert toy_cell(cooldown=0.2).key != toy_cell().key != toy_cell(cooldown=0.3).key


def test_a_budget_in_seconds_ends_by_the_clock() -> None:
    cell = Cell(
        recipe=toy_cell().recipe, subset=Subset(corpus="toy@1", images=32),
        budget=Budget(gpu_seconds=0.2, batch_size=8),
    )  # fmt: skip
    torch.manual_seed(1)
    paradigm, progress = Toy(), Progress()
    pretrain(
        cell, paradigm, make_optimiser(paradigm, cell.recipe), batches(0, 10**6), steps=None,
        progress=progress, ranks=Ranks(), report=lambda row: None, checkpoint=lambda: None,
        checkpoint_steps=10**6,
    )  # fmt: skip
    assert progress.seconds >= 0.2 and progress.step > 1
