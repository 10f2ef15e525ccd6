"""UPerNet's decoder on frozen maps: what is gained by seeing the whole film at several scales?

The head is transformers' (Xiao et al. 2018, arXiv 1807.10221): pooling at four scales of the
coarsest level, a feature pyramid over all four, one fused map. Every encoder gets the same head:
its levels are standardised, projected to ``width`` by a 1x1 convolution and brought to an eighth, a
16th, a 32nd and a 64th of the mask's side, whether it has a pyramid or one grid of patches. Each
cell of the fused map gives the logits of its own 8 x 8 pixels, as in ``segment_linear``, so that a
tube of one pixel is not blurred by interpolation. Batch normalisation is over a batch in training
and by running moments after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetHead

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
    """Of the UPerNet probe."""

    width: int = 64
    """Channels of the decoder, as ``segment``'s; published models have 512."""


@final
class Decoder(nn.Module):
    """Maps of one encoder in, mask logits [B, classes, 8 side, 8 side] out."""

    def __init__(self, widths: list[int], width: int, classes: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.sides = [_halved(side, level) for level in range(len(widths))]
        config = UperNetConfig(hidden_size=width)
        config.num_labels = classes * REDUCTION**2
        # The part that is equal for all encoders comes first, so that it starts from the same
        # weights.
        self.head = UperNetHead(config, [width] * len(widths))  # type: ignore[no-untyped-call]
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Levels float32 [B, C, h, w], one for each of ``widths``."""
        levels = [
            to_grid(project(level), side)
            for project, level, side in zip(self.project, maps, self.sides, strict=True)
        ]
        return F.pixel_shuffle(self.head(levels), REDUCTION)


def _halved(side: tuple[int, int], times: int) -> tuple[int, int]:
    return -(-side[0] // 2**times), -(-side[1] // 2**times)


@final
class SegmentUperNet(Probe):
    """The decoder, trained as ``segment``'s is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "segment_upernet", given)
        if min(settings.steps, settings.width) < 1 or settings.batch_size < 2:
            raise SpecError(
                "segment_upernet: steps and width must be at least 1, and batch_size at least 2, "
                "since it normalises over the batch"
            )
        return cls(settings)

    def space(self) -> dict[str, Range]:
        """See ``DecoderSettings.space``."""
        return self._settings.space()

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are uint8 [n, classes, H, W]. ``val_score``: pooled Dice."""
        settings, masks = self._settings, train.targets
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            widths = [level.shape[1] for level in train.features.maps]
            side = grid_side(*masks.shape[2:])
            decoder = Decoder(widths, settings.width, masks.shape[1], side)
            nn.init.constant_(decoder.head.classifier.bias, NOTHING)  # type: ignore[arg-type]
        adapter = Adapter(train.features, device)
        return train_decoder(decoder, adapter, train, val, settings, choice, seed)


PROBE = SegmentUperNet
