"""The one training loop: read it from top to bottom.

Plain torch. It knows nothing of Ray, of the store or of how images are made; what differs between
paradigms is a method of ``Paradigm``.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from radsweep.corpus.example import Views
from radsweep.corpus.pool import Pool
from radsweep.errors import BudgetError, DivergedError, PreemptedError
from radsweep.models.batch_norm import held_moments
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain import schedule
from radsweep.pretrain.accumulate import average_gradients, backward_in_parts
from radsweep.pretrain.clipping import clip_gradients
from radsweep.pretrain.neighbours import Neighbours
from radsweep.pretrain.shard import average_scalars, is_sharded
from radsweep.pretrain.slowest import BackwardClock, Laggard, has_batch_norm, of_all_ranks
from radsweep.specs import Cell, Recipe

Row = dict[str, float | None]
"""Figures of the log by name; None where one cannot be known."""

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
    worker_seconds: float = 0.0
    """The same times the processes that each attempt had."""
    rows: list[Row] = field(default_factory=list)
    """The log: one row per reported step."""

    @property
    def workers(self) -> float:
        """Processes, their mean over the time; 0 before there is any."""
        return round(self.worker_seconds / self.seconds, 6) if self.seconds else 0.0


def make_optimiser(paradigm: Paradigm, recipe: Recipe) -> AdamW:
    """AdamW over the paradigm's groups, by the fused kernel: on a CPU in a quarter of the time."""
    return AdamW(paradigm.parameter_groups(recipe), lr=recipe.learning_rate, fused=True)


def share_spent(cell: Cell, steps: int | None, progress: Progress, ranks: Ranks) -> float:
    """Share of the budget spent so far: of steps, or of GPU-seconds (on which all ranks agree)."""
    if steps is not None:
        return progress.step / steps
    assert cell.budget.gpu_seconds is not None
    seconds = torch.tensor(progress.worker_seconds, device=ranks.device)
    if ranks.size > 1:
        torch.distributed.all_reduce(seconds, op=torch.distributed.ReduceOp.MAX)
    return min(1.0, float(seconds) / cell.budget.gpu_seconds)


def to_device(
    views: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], device: torch.device
) -> dict[str, Tensor]:
    """NumPy views as tensors; copies, since the stream's arrays may be read-only.

    For a GPU into pinned memory: from any other the host would wait until the device had taken it.
    """
    pinned = device.type == "cuda"
    return {
        name: torch.tensor(array, pin_memory=pinned).to(device, non_blocking=True)
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
    report: Callable[[Row], None],
    checkpoint: Callable[[], None],
    checkpoint_steps: int,
    neighbours: Neighbours | None = None,
    peak_images_per_second: float | None = None,
    pool: Pool | None = None,
    images_at_once: int | None = None,
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
    must_leave: Callable[[], bool] = lambda: False,
) -> None:
    """Spend what is left of the budget; ``progress`` is where it starts and where it ends.

    Args:
        cell: whose recipe and budget these are.
        paradigm: on its device; or each rank's share of it, see ``shard``.
        optimiser: over its parameters.
        batches: this rank's shares of the global batches, from step ``progress.step`` on.
        steps: in all, or None for a budget in GPU-seconds.
        progress: changed in place.
        ranks: this process among those that train the cell.
        report: is given a row of figures every ``REPORT_STEPS`` steps.
        checkpoint: saves ``progress`` and all state; every rank calls it at the same steps.
        checkpoint_steps: steps between checkpoints.
        neighbours: of some images at the start, which the encoder is held against now and then;
            None holds it against nothing.
        peak_images_per_second: at which all devices would multiply as fast as they ever can, for
            ``mfu``; None where nobody knows.
        pool: of CPUs that make the batches, for ``stream_cpus``; None makes them here.
        images_at_once: of a rank's share; None encodes it as a whole. Fewer need less memory and a
            second forward pass, and give the same gradient.
        activation_checkpointing: whether blocks of towers compute activations anew in the backward
            pass: less memory and more time, the same loss and gradient.
        compile_blocks: whether PyTorch compiles blocks of towers; sums in another order, and other
            paths dropped.
        must_leave: whether this machine, or that of another rank, is about to be taken away; asked
            every ``REPORT_STEPS`` steps, and must answer all ranks alike.

    Raises DivergedError where the loss is not finite, CollapsedError where the paradigm says so,
    BudgetError where the batches end before the budget does, and PreemptedError, with a checkpoint
    kept, where it must leave.
    """
    recipe = cell.recipe
    whole = images_at_once is None or images_at_once * ranks.size >= cell.budget.batch_size
    sharded = is_sharded(paradigm)
    alike = ranks.size > 1 and whole and not sharded
    wrapped = DistributedDataParallel(paradigm) if alike else paradigm
    paradigm.train()
    for tower in paradigm.towers() if activation_checkpointing else ():
        tower.checkpoint_activations()
    for tower in paradigm.towers() if compile_blocks else ():
        tower.compile_blocks()
    is_timed = ranks.size > 1 and not sharded and not has_batch_norm(paradigm)
    clock = BackwardClock(paradigm, ranks.device) if is_timed else None
    laggard = Laggard()
    incoming = iter(batches)
    waited, began, last_report = 0.0, time.perf_counter(), progress.step
    spent = share_spent(cell, steps, progress, ranks)

    def autocast() -> torch.autocast:
        return torch.autocast(ranks.device.type, torch.bfloat16, recipe.precision == "bf16")

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

        if clock is not None and (progress.step + 1) % REPORT_STEPS == 0:
            clock.start()
        rate, decay = schedule.apply(optimiser, recipe, spent)
        optimiser.zero_grad(set_to_none=True)
        if whole:
            with autocast():
                terms: dict[str, Tensor] = wrapped(batch, spent)
            with held_moments(paradigm) if activation_checkpointing else nullcontext():
                torch.autograd.backward(torch.stack(list(terms.values())).sum())
            if sharded:
                average_scalars(paradigm)
        else:
            assert images_at_once is not None
            terms = backward_in_parts(paradigm, batch, spent, images_at_once, autocast)
            average_gradients(paradigm, ranks.size)
        clip_gradients(paradigm, recipe)
        paradigm.before_update(spent)
        optimiser.step()
        used = paradigm.schedules(spent)
        progress.step += 1
        took = time.perf_counter() - asked
        progress.seconds += took
        progress.worker_seconds += took * ranks.size
        spent = share_spent(cell, steps, progress, ranks)
        paradigm.after_step(spent)

        if progress.step % REPORT_STEPS == 0 or spent >= 1.0:
            elapsed, taken = time.perf_counter() - began, progress.step - last_report
            per_second = taken * cell.budget.batch_size / elapsed
            losses = loss_figures(terms, ranks)
            alone = 0.0 if clock is None else clock.seconds()
            cpus = 0.0 if pool is None else pool.cpus
            waits, backwards, pools = of_all_ranks((waited, alone, cpus), ranks.device)
            slowest, times = laggard.add(backwards) or (None, None)
            row: Row = {
                "step": progress.step,
                "images_seen": progress.step * cell.budget.batch_size,
                "spent": spent,
                **losses,
                "learning_rate": rate,
                "weight_decay": decay,
                **{f"schedule_{name}": value for name, value in used.items()},
                "images_per_second": per_second,
                "mfu": None
                if peak_images_per_second is None
                else per_second / peak_images_per_second,
                # Of the rank that waits longest: the others wait for it.
                "data_wait": min(1.0, max(waits) / elapsed),
                "data_wait_seconds": max(waits),
                "stream_cpus": pools[waits.index(max(waits))] or None,
                "seconds": progress.seconds,
                "workers": ranks.size,
                "slowest_rank": slowest,
                "slowest_times": times,
            }
            progress.rows.append(row)
            examine(cell, paradigm, row, neighbours, progress.step, spent)
            report(row)
            waited, began, last_report = 0.0, time.perf_counter(), progress.step
            if spent < 1.0 and must_leave():
                checkpoint()
                raise PreemptedError(f"{cell.name}: left at step {progress.step}, and will go on")
        if progress.step % checkpoint_steps == 0 and spent < 1.0:
            checkpoint()


def loss_figures(terms: Mapping[str, Tensor], ranks: Ranks) -> Row:
    """``loss`` and each ``loss_<term>``: of the global batch, and so the same on every rank."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    if ranks.size > 1:
        torch.distributed.all_reduce(values)
        values /= ranks.size
    by_name = dict(zip(terms, values.tolist(), strict=True))
    return {"loss": sum(by_name.values())} | {f"loss_{n}": v for n, v in by_name.items()}


def examine(
    cell: Cell,
    paradigm: Paradigm,
    row: Row,
    neighbours: Neighbours | None,
    step: int,
    spent: float,
) -> None:
    """Add monitors to the row, which is in the log already, and judge it.

    Raises DivergedError where the loss is not finite, and what ``Paradigm.judge`` and
    ``Neighbours.judge`` raise.
    """
    loss = row["loss"]
    if loss is None or not math.isfinite(loss):
        raise DivergedError(
            f"{cell.name}: the loss is {loss} at step {row['step']}; lower "
            f"learning_rate (now {cell.recipe.learning_rate:g}) or set clip_norm"
        )
    figures = paradigm.monitors()
    row.update({f"monitor_{name}": value for name, value in figures.items()})
    kept = None if neighbours is None else neighbours.kept(paradigm, step)
    if kept is not None:
        row["monitor_kept_neighbours"] = kept
    paradigm.judge(figures)
    if neighbours is not None and kept is not None:
        neighbours.judge(kept, spent)
