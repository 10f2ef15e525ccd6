"""Which process keeps the others of its group waiting.

They wait for each other in every step, so that all steps take the slowest one's time and none of
them shows who it is. What a process does alone does: the backward pass, from its first gradient to
its last, between which nobody waits for anybody (gradients are summed beside it, or after it). Not
so where weights are in shares, or batch normalisation sums over all ranks layer by layer: there
nobody's own time is known.
"""

import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.distributed
from torch import Tensor, nn

SAMPLES = 6
"""Steps whose times are added up: one step may be slow by chance."""


@final
class BackwardClock:
    """Times the backward passes of one process that it is started for. Adds no wait of its own."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Listens to every parameter's gradient.

        Args:
            model: not sharded and without batch normalisation.
            device: of the model.
        """
        self._is_cuda = device.type == "cuda"
        self._marks: list[Any] = []
        """Of the first and the last gradient: seconds, or events on a GPU."""
        self._listens = False
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._mark)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """The step that begins is timed."""
        self._marks, self._listens = [], True

    def _mark(self, parameter: Tensor) -> None:
        if not self._listens:
            return
        now: Any = time.perf_counter()
        if self._is_cuda:
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
        self._marks = [*self._marks[:1], now]

    def seconds(self) -> float:
        """Of the step that was timed; on a GPU only after the host has waited for it. 0 if none."""
        marks, self._marks, self._listens = self._marks, [], False
        if len(marks) < 2:
            return 0.0
        first, last = marks
        return float(first.elapsed_time(last) / 1000 if self._is_cuda else last - first)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether its layers sum over all ranks in the backward pass."""
    kinds = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kinds) for module in model.modules())


@final
class Laggard:
    """The slowest process over the last ``SAMPLES`` timed steps."""

    def __init__(self) -> None:
        self._seen: deque[list[float]] = deque(maxlen=SAMPLES)

    def add(self, seconds: Sequence[float]) -> tuple[int, float] | None:
        """What every rank took in one more step, in rank order; see ``slowest``."""
        self._seen.append(list(seconds))
        return slowest([sum(each) for each in zip(*self._seen, strict=True)])


def slowest(seconds: Sequence[float]) -> tuple[int, float] | None:
    """The rank that takes longest, and how many times the others' median that is.

    None where there are no others, or they took no time.
    """
    if len(seconds) < 2:
        return None
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    others = statistics.median(each for i, each in enumerate(seconds) if i != rank)
    return (rank, seconds[rank] / others) if others > 0 else None


def of_all_ranks(values: Sequence[float], device: torch.device) -> list[tuple[float, ...]]:
    """Each value of every rank, in rank order. A collective, and waits for the device."""
    mine = torch.tensor(list(values), dtype=torch.float64).to(device, torch.float32)
    if not torch.distributed.is_initialized():
        return [(value,) for value in values]
    gathered = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, mine)
    return [tuple(column) for column in torch.stack(gathered).T.tolist()]
