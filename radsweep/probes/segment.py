"""A small convolutional decoder on frozen maps: can structures be traced from them?

Every encoder gets the same decoder behind one adapter: each of its levels is standardised,
projected to ``width`` by a 1x1 convolution and brought to one grid, an eighth of the mask's side,
so that a ViT and a pyramid meet on equal terms. Sub-pixel convolutions (Shi et al. 2016) then take
the grid up to the mask's own size, so that a tube one pixel wide can be drawn from patches of
eight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.probes.base import (
    Choice,
    Fitted,
    Labelled,
    Probe,
    Range,
    read_settings,
)
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
    """Of the segmentation probe."""

    width: int = 64
    """Channels of the decoder."""


@final
class Decoder(nn.Module):
    """Maps of one encoder in, mask logits [B, classes, 8 side, 8 side] out."""

    def __init__(self, widths: list[int], width: int, classes: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.side = side
        # The part that is equal for all encoders comes first, so that it starts from the same
        # weights.
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.rise = nn.Conv2d(width, 4 * (width // 2), 1)
        self.refine = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.draw = nn.Conv2d(width // 2, classes * (REDUCTION // 2) ** 2, 1)
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Levels float32 [B, C, h, w], one for each of ``widths``."""
        levels = [
            to_grid(project(level), self.side)
            for project, level in zip(self.project, maps, strict=True)
        ]
        grid = torch.stack(levels).sum(dim=0)
        grid = grid + self.mix(F.gelu(grid))
        fine = F.pixel_shuffle(self.rise(F.gelu(grid)), 2)
        fine = fine + self.refine(F.gelu(fine))
        return F.pixel_shuffle(self.draw(F.gelu(fine)), REDUCTION // 2)


@final
class Segment(Probe):
    """The decoder, trained with cross-entropy and soft Dice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "segment", given)
        if min(settings.steps, settings.batch_size, settings.width // 2) < 1:
            raise SpecError("segment: steps, batch_size must be at least 1 and width at least 2")
        return cls(settings)

    def space(self) -> dict[str, Range]:
        """See ``DecoderSettings.space``."""
        return self._settings.space()

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are uint8 [n, classes, H, W]. ``val_score``: pooled Dice."""
        settings = self._settings
        adapter = Adapter(train.features, device)
        decoder = make_decoder(train, settings.width, seed)
        return train_decoder(decoder, adapter, train, val, settings, choice, seed)


def make_decoder(train: Labelled, width: int, seed: int) -> Decoder:
    """A decoder of ``width`` channels for the maps and masks of ``train``, weights from ``seed``.

    What is equal for all encoders starts from the same weights for all of them.
    """
    masks = train.targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        widths = [level.shape[1] for level in train.features.maps]
        decoder = Decoder(widths, width, masks.shape[1], grid_side(*masks.shape[2:]))
        nn.init.constant_(decoder.draw.bias, NOTHING)  # type: ignore[arg-type]
    return decoder


PROBE = Segment
