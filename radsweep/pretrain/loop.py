"""The one training loop: read it from top to bottom.

Plain torch. It knows nothing of Ray, of the store or of how images are made; what differs between
paradigms is a method of ``Paradigm``.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from radsweep.corpus.example import Views
from radsweep.errors import BudgetError, DivergedError
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain import schedule
from radsweep.specs import Cell, Recipe

REPORT_STEPS = 10
"""Steps between log rows: reading a loss makes the host wait for the device."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train one cell."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass
class Progress:
    """Where a cell stands."""

    step: int = 0
    """Optimiser steps taken."""
    seconds: float = 0.0
    """Of training, over all attempts."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The log: one row per reported step."""


def make_optimiser(paradigm: Paradigm, recipe: Recipe) -> AdamW:
    """AdamW over the paradigm's groups; the fused kernel on a GPU."""
    groups = paradigm.parameter_groups(recipe)
    return AdamW(groups, lr=recipe.learning_rate, fused=next(paradigm.parameters()).is_cuda)


def share_spent(cell: Cell, steps: int | None, progress: Progress, ranks: Ranks) -> float:
    """Share of the budget spent so far: of steps, or of GPU-seconds (on which all ranks agree)."""
    if steps is not None:
        return progress.step / steps
    assert cell.budget.gpu_seconds is not None
    seconds = torch.tensor(progress.seconds, device=ranks.device)
    if ranks.size > 1:
        torch.distributed.all_reduce(seconds, op=torch.distributed.ReduceOp.MAX)
    return min(1.0, float(seconds) * ranks.size / cell.budget.gpu_seconds)


def to_device(
    views: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], device: torch.device
) -> dict[str, Tensor]:
    """NumPy views as tensors; copies, since the stream's arrays may be read-only."""
    return {
        name: torch.tensor(array).to(device, non_blocking=True)
        for name, array in views.items()
        if name != "position"
    }


def pretrain(
    cell: Cell,
    paradigm: Paradigm,
    optimiser: AdamW,
    batches: Iterable[Views],
    *,
    steps: int | None,
    progress: Progress,
    ranks: Ranks,
    report: Callable[[dict[str, float]], None],
    checkpoint: Callable[[], None],
    checkpoint_steps: int,
) -> None:
    """Spend what is left of the budget; ``progress`` is where it starts and where it ends.

    Args:
        cell: whose recipe and budget these are.
        paradigm: on its device.
        optimiser: over its parameters.
        batches: this rank's shares of the global batches, from step ``progress.step`` on.
        steps: in all, or None for a budget in GPU-seconds.
        progress: changed in place.
        ranks: this process among those that train the cell.
        report: is given a row of figures every ``REPORT_STEPS`` steps.
        checkpoint: saves ``progress`` and all state; every rank calls it at the same steps.
        checkpoint_steps: steps between checkpoints.

    Raises DivergedError where the loss is not finite, CollapsedError where the paradigm says so,
    and BudgetError where the batches end before the budget does.
    """
    recipe, clip_norm = cell.recipe, cell.recipe.clip_norm
    trained = DistributedDataParallel(paradigm) if ranks.size > 1 else paradigm
    paradigm.train()
    incoming = iter(batches)
    waited, began, last_report = 0.0, time.perf_counter(), progress.step
    spent = share_spent(cell, steps, progress, ranks)
    while spent < 1.0:
        asked = time.perf_counter()
        views = next(incoming, None)
        if views is None:
            raise BudgetError(
                f"{cell.name}: the stream ended after {progress.step} of {steps} steps; a cell "
                "that spends less than its budget may not enter the results"
            )
        waited += time.perf_counter() - asked
        batch = to_device(views, ranks.device)

        rate = schedule.apply(optimiser, recipe, spent)
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            terms: dict[str, Tensor] = trained(batch, spent)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(paradigm.parameters(), clip_norm)
        paradigm.before_update(spent)
        optimiser.step()
        progress.step += 1
        progress.seconds += time.perf_counter() - asked
        spent = share_spent(cell, steps, progress, ranks)
        paradigm.after_step(spent)

        if progress.step % REPORT_STEPS == 0 or spent >= 1.0:
            values = {f"loss_{name}": float(term.detach()) for name, term in terms.items()}
            total = sum(values.values())
            if not np.isfinite(total):
                raise DivergedError(
                    f"{cell.name}: the loss is {total} at step {progress.step}; lower "
                    f"learning_rate (now {recipe.learning_rate:g}) or set clip_norm"
                )
            elapsed, taken = time.perf_counter() - began, progress.step - last_report
            row = {
                "step": progress.step,
                "images_seen": progress.step * cell.budget.batch_size,
                "spent": spent,
                "loss": total,
                **values,
                "learning_rate": rate,
                "images_per_second": taken * cell.budget.batch_size / elapsed,
                "data_wait": waited / elapsed,
                "seconds": progress.seconds,
                **{f"monitor_{name}": value for name, value in paradigm.monitors().items()},
            }
            progress.rows.append(row)
            report(row)
            waited, began, last_report = 0.0, time.perf_counter(), progress.step
        if progress.step % checkpoint_steps == 0 and spent < 1.0:
            checkpoint()
