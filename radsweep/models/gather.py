"""Sums and gathers over ranks that pass gradients, so that a global batch is one batch.

The convention is DistributedDataParallel's, which averages gradients over ranks: a loss that every
rank makes from its own rows against everybody's, each rank's mean over its rows, has the
single-process value and gradient when it is averaged over ranks. Without torch.distributed
everything here is the identity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_BY_ITSELF: ContextVar[bool] = ContextVar("by_itself", default=False)


@contextmanager
def by_itself() -> Iterator[None]:
    """Within, this process is the only rank: nothing waits for others or is added to theirs."""
    before = _BY_ITSELF.set(True)
    try:
        yield
    finally:
        _BY_ITSELF.reset(before)


def world() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) without torch.distributed."""
    if _BY_ITSELF.get():
        return 0, 1
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every rank's loss saw these rows: what they all say is added up, and this rank keeps its
        # share.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.count
        return total[first : first + ctx.count]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows in rank order, [W n, ...] of n rows each, with gradients."""
    if world()[1] == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of ``value`` over ranks, on every rank. Differentiable."""
    if world()[1] == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """The elementwise largest over ranks. Not differentiable."""
    if world()[1] == 1:
        return value
    largest = value.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest
