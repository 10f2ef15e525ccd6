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

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Probe,
    Range,
    batches,
    cosine_rate,
    read_settings,
)
from radsweep.specs import Scalar

VERSION = 1

REDUCTION = 8
"""Mask pixels along a side of one cell of the decoder's grid."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the segmentation probe."""

    steps: int = 1000
    batch_size: int = 16
    width: int = 64
    """Channels of the decoder."""
    learning_rate: float = 5e-3
    """Peak, of AdamW; the first that a search tries."""
    learning_rate_low: float = 1e-3
    learning_rate_high: float = 2e-2
    weight_decay: float = 1e-2
    dice_weight: float = 1.0
    """Of the soft Dice loss, beside the cross-entropy."""
    predict_batch_size: int = 64


@final
class _Decoder(nn.Module):
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
        levels = [
            _to_grid(project(level), self.side)
            for project, level in zip(self.project, maps, strict=True)
        ]
        grid = torch.stack(levels).sum(dim=0)
        grid = grid + self.mix(F.gelu(grid))
        fine = F.pixel_shuffle(self.rise(F.gelu(grid)), 2)
        fine = fine + self.refine(F.gelu(fine))
        return F.pixel_shuffle(self.draw(F.gelu(fine)), REDUCTION // 2)


def _to_grid(level: Tensor, side: tuple[int, int]) -> Tensor:
    """Area-averaged where the level is finer than the grid, interpolated where it is coarser."""
    if level.shape[-2:] == side:
        return level
    if level.shape[-1] > side[1]:
        return F.adaptive_avg_pool2d(level, side)
    return F.interpolate(level, size=side, mode="bilinear", align_corners=False)


@final
class _FittedSegment(Fitted):
    def __init__(
        self, decoder: _Decoder, adapter: "_Adapter", size: tuple[int, int], batch_size: int
    ) -> None:
        self._decoder, self._adapter = decoder, adapter
        self._size, self._batch_size = size, batch_size

    @torch.inference_mode()
    def predict(self, features: FrozenFeatures) -> NDArray[np.uint8]:
        """Masks uint8 [n, classes, H, W]: where the logit is above 0."""
        self._decoder.eval()
        parts = []
        for start in range(0, len(features), self._batch_size):
            rows = np.arange(start, min(start + self._batch_size, len(features)))
            logits = _to_size(self._decoder(self._adapter.maps(features, rows)), self._size)
            parts.append((logits > 0).to(torch.uint8).cpu().numpy())
        return np.concatenate(parts)


@final
class _Adapter:
    """Standardises each channel of each level by its moments over the training images."""

    def __init__(self, train: FrozenFeatures, device: torch.device) -> None:
        self.device = device
        self.centre, self.scale = [], []
        for level in train.maps:
            # In slices, since a float32 copy of all maps at once may not fit.
            sums = np.zeros((2, level.shape[1]))
            for start in range(0, len(level), 64):
                part = level[start : start + 64].astype(np.float32)
                sums += np.stack([part.sum(axis=(0, 2, 3)), np.square(part).sum(axis=(0, 2, 3))])
            mean, square = sums / (level.size / level.shape[1])
            spread = np.sqrt(np.maximum(square - mean**2, 1e-12))
            self.centre.append(_channels(mean, device))
            self.scale.append(_channels(1 / spread, device))

    def maps(self, features: FrozenFeatures, rows: NDArray[np.int64]) -> list[Tensor]:
        """Standardised float32 levels [B, C, h, w] of some rows."""
        return [
            (torch.from_numpy(level[rows]).to(self.device).float() - centre) * scale
            for level, centre, scale in zip(features.maps, self.centre, self.scale, strict=True)
        ]


def _channels(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)[None, :, None, None]


def _to_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


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

    @property
    def token_side(self) -> int:
        """0: it reads whole maps."""
        return 0

    def space(self) -> dict[str, Range]:
        """The peak learning rate: what suits one encoder's features may not suit another's."""
        settings = self._settings
        return {
            "learning_rate": Range(
                low=settings.learning_rate_low,
                high=settings.learning_rate_high,
                first=settings.learning_rate,
            )
        }

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are uint8 [n, classes, H, W]. ``val_score``: pooled Dice."""
        settings = self._settings
        masks = train.targets
        height, width = masks.shape[2:]
        side = (-(-height // REDUCTION), -(-width // REDUCTION))
        adapter = _Adapter(train.features, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            widths = [level.shape[1] for level in train.features.maps]
            decoder = _Decoder(widths, settings.width, masks.shape[1], side)
            # Structures are rare: begin by drawing nothing.
            nn.init.constant_(decoder.draw.bias, -4.0)  # type: ignore[arg-type]
        decoder.to(device).train()
        optimiser = torch.optim.AdamW(
            decoder.parameters(), lr=0.0, weight_decay=settings.weight_decay, foreach=True
        )
        order = batches(len(train.features), settings.batch_size, settings.steps, seed)
        for step, rows in enumerate(order):
            for group in optimiser.param_groups:
                group["lr"] = cosine_rate(step, settings.steps, choice["learning_rate"])
            logits = _to_size(decoder(adapter.maps(train.features, rows)), (height, width))
            wanted = torch.from_numpy(masks[rows]).to(device).float()
            loss = _loss(logits, wanted, settings.dice_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        fitted = _FittedSegment(decoder, adapter, (height, width), settings.predict_batch_size)
        fitted.val_score = _pooled_dice(val.targets, fitted.predict(val.features))
        return fitted


def _loss(logits: Tensor, wanted: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy plus soft Dice of the batch as a whole: an empty mask is no special case."""
    probability = torch.sigmoid(logits)
    shared = (probability * wanted).sum(dim=(0, 2, 3))
    areas = probability.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3))
    dice = 1 - ((2 * shared + 1) / (areas + 1)).mean()
    return F.binary_cross_entropy_with_logits(logits, wanted) + dice_weight * dice


def _pooled_dice(target: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    """Mean over classes of Dice with areas summed over images; a class that is nowhere counts 0."""
    shared = (target & predicted).sum(axis=(0, 2, 3), dtype=np.int64)
    areas = target.sum(axis=(0, 2, 3), dtype=np.int64) + predicted.sum(
        axis=(0, 2, 3), dtype=np.int64
    )
    return float((2 * shared / np.maximum(areas, 1)).mean())


PROBE = Segment
