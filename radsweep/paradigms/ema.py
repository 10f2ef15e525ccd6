"""A teacher that is a moving average of its student, and the schedules that go with it."""

import math
from collections.abc import Sequence

import torch
from torch import nn


def ramp(start: float, end: float, spent: float, share: float) -> float:
    """Linear from ``start`` to ``end`` over the first ``share`` of the budget, then ``end``."""
    return end if spent >= share else start + (end - start) * spent / share


def cosine(start: float, end: float, spent: float) -> float:
    """From ``start`` to ``end`` along half a cosine over the whole budget."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * spent))


@torch.no_grad()
def follow(teachers: Sequence[nn.Module], students: Sequence[nn.Module], momentum: float) -> None:
    """Teacher = momentum * teacher + (1 - momentum) * student, for all parameters in one kernel."""
    mine: list[torch.Tensor] = [p for module in teachers for p in module.parameters()]
    theirs: list[torch.Tensor] = [p for module in students for p in module.parameters()]
    assert len(mine) == len(theirs)
    torch._foreach_lerp_(mine, theirs, 1 - momentum)


def copy_frozen(teacher: nn.Module, student: nn.Module) -> None:
    """Give the teacher the student's weights, and take gradients away from it."""
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
