"""A linear map from frozen features to mask pixels: is the structure there without any decoding?

A 1x1 convolution, as in DINOv2's linear segmentation (Oquab et al. 2023, section 7.4), from every
standardised level. Each cell of a grid an eighth of the mask's side gives the logits of its own 8 x
8 pixels, so that a tube of one pixel is not blurred by interpolation. What it cannot draw, a
decoder has to know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.probes.base import Choice, Fitted, Labelled, Probe, Range, read_settings
from radsweep.probes.decoding import (
    NOTHING,
    REDUCTION,
    Adapter,
    DecoderSettings,
    grid_side,
    to_grid,
    train_decoder,
)
from radsweep.specs import Scalar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Settings(DecoderSettings):
    """Of the linear segmentation probe: those of every decoder."""


@final
class _Pixels(nn.Module):
    """Levels [B, C, h, w] in, logits [B, classes, 8 side, 8 side] out, linear in the levels."""

    def __init__(self, widths: list[int], classes: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.side = side
        each = classes * REDUCTION**2
        self.project = nn.ModuleList(
            nn.Conv2d(channels, each, 1, bias=False) for channels in widths
        )
        self.bias = nn.Parameter(torch.full((each, 1, 1), NOTHING))
        for project in self.project:
            nn.init.zeros_(project.weight)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        # Projected first and brought to the grid after, which is the same and far smaller.
        levels = [
            to_grid(project(level), self.side)
            for project, level in zip(self.project, maps, strict=True)
        ]
        return F.pixel_shuffle(torch.stack(levels).sum(dim=0) + self.bias, REDUCTION)


@final
class SegmentLinear(Probe):
    """One linear layer, trained as ``segment``'s decoder is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "segment_linear", given)
        if min(settings.steps, settings.batch_size) < 1:
            raise SpecError("segment_linear: steps and batch_size must be at least 1")
        return cls(settings)

    def space(self) -> dict[str, Range]:
        """See ``DecoderSettings.space``."""
        return self._settings.space()

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are uint8 [n, classes, H, W]. ``val_score``: pooled Dice.

        The problem is convex but for the Dice, and begins at zero weights: the seed draws batches.
        """
        settings = self._settings
        masks = train.targets
        widths = [level.shape[1] for level in train.features.maps]
        decoder = _Pixels(widths, masks.shape[1], grid_side(*masks.shape[2:]))
        adapter = Adapter(train.features, device)
        return train_decoder(decoder, adapter, train, val, settings, choice, seed)


PROBE = SegmentLinear
