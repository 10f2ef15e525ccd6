"""Does an encoder still find alike what its starting weights found alike?

Of each of a few images, the share of its nearest neighbours at the start that are among its nearest
now: an online kNN against step 0 that needs no labels. It falls as an encoder learns, and to what
chance gives only where nothing is left that the start knew. Like a probe on standardised features
it does not see how small the differences between images have become. Measured outside the budget,
in evaluation mode, and without a random number: training is the same bits with and without it.
"""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from radsweep.errors import CollapsedError
from radsweep.models.gather import gather_rows
from radsweep.paradigms.base import Paradigm
from radsweep.specs import RANDOM_START, Cell

IMAGES = 128
"""The subset's first: the same ones for every scale, paradigm and seed of a sweep."""
NEAREST_SHARE = 25
"""One in so many images counts as near, so that chance gives 4 percent whatever their number."""
LEAST_IMAGES = 2 * NEAREST_SHARE
"""Of a subset that is watched."""
COST = 0.005
"""Of the training FLOPs between two measurements, at most."""
AT_ONCE = 16
"""Images of a forward pass without a graph: less memory than a step takes."""
JUDGED_FROM = 0.3
"""Share of the budget, as ``dinov2.Settings.collapse_after``."""
LOST = 1.5
"""Times chance, up to which nothing is left. Unrelated features stay below 97 times in 100; two
random encoders of unlike kinds had 16 percent in common, four times chance, on x-rays of 64 px."""


def nearest(features: Tensor, count: int) -> Tensor:
    """Int64 [n, count]: each row's nearest others by the cosine of centred rows [n, D]."""
    rows = F.normalize((features - features.mean(dim=0)).double(), dim=1)
    return (rows @ rows.T).fill_diagonal_(-torch.inf).topk(count, dim=1).indices


def overlap(before: Tensor, now: Tensor) -> float:
    """Share of the neighbours [n, k] of before that are among those of now, in [0, 1]."""
    return float((before[:, :, None] == now[:, None, :]).any(dim=2).double().mean())


def steps_between(
    images: int, forward: float, per_image: float, batch_size: int, multiple_of: int
) -> int:
    """Optimiser steps between measurements, so that these cost ``COST`` of them at most.

    Args:
        images: that are encoded for one.
        forward: FLOPs of the encoder's way over one image.
        per_image: training FLOPs of one image.
        batch_size: images of a step.
        multiple_of: steps between log rows.
    """
    steps = images * forward / (COST * per_image * batch_size)
    return multiple_of * math.ceil(steps / multiple_of)


@final
class Neighbours:
    """Of one cell, on every rank; all calls are collectives."""

    def __init__(
        self, cell: Cell, paradigm: Paradigm, images: Tensor, count: int, every_steps: int
    ) -> None:
        """Remember what is near what now, while ``paradigm`` has its starting weights.

        Args:
            cell: whose precision counts.
            paradigm: on its device.
            images: uint8 or float in [0, 1], [m, 1, S, S]: this rank's share, as many on each.
            count: images in all; what the ranks' shares have beyond repeats the last one.
            every_steps: steps between measurements.
        """
        self._cell, self._images, self._count = cell, images, count
        self._every_steps, self._near = every_steps, count // NEAREST_SHARE
        self._start = nearest(self._features(paradigm), self._near)

    @torch.no_grad()
    def _features(self, paradigm: Paradigm) -> Tensor:
        device = next(paradigm.parameters()).device
        paradigm.eval()
        bf16 = self._cell.recipe.precision == "bf16"
        # What is compiled is compiled for training's shapes.
        with (
            torch.compiler.set_stance("force_eager"),
            torch.autocast(device.type, torch.bfloat16, bf16),
        ):
            parts = torch.split(self._images, AT_ONCE)
            encoded = torch.cat([paradigm.encode(part.to(device)) for part in parts])
        paradigm.train()
        return gather_rows(encoded.float())[: self._count].cpu()

    def kept(self, paradigm: Paradigm, step: int) -> float | None:
        """Share of the starting weights' neighbours that it has too; None at most steps."""
        if step % self._every_steps:
            return None
        return overlap(self._start, nearest(self._features(paradigm), self._near))

    def judge(self, kept: float, spent: float) -> None:
        """Raise CollapsedError where no more are kept than by chance, once a share is spent.

        Not of a cell that began with random weights: they know nothing that is to be kept.
        """
        recipe, chance = self._cell.recipe, self._near / (self._count - 1)
        if recipe.start_from == RANDOM_START or spent < JUDGED_FROM or kept > LOST * chance:
            return
        raise CollapsedError(
            f"{self._cell.name}: after {spent:.0%} of the budget an image keeps {kept:.1%} of the "
            f"nearest neighbours that it had with the starting weights, and {chance:.1%} are chance"
            ": nothing is left of what they knew. Lower learning_rate (now "
            f"{recipe.learning_rate:g}) or raise warmup (now {recipe.warmup:g})"
        )
