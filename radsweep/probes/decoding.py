"""What every segmentation probe shares: standardised maps in, a decoder trained, masks out."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Range,
    batches,
    cosine_rate,
    searched,
)

REDUCTION = 8
"""Mask pixels along a side of one cell of a decoder's grid."""

NOTHING = -4.0
"""Bias that a decoder's logits begin with: structures are rare, so begin by drawing nothing."""


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """How a decoder is trained: of every segmentation probe, and the same for every encoder."""

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 5e-3
    """Peak, of AdamW; the first that a search tries."""
    learning_rate_low: float = 1e-3
    learning_rate_high: float = 2e-2
    weight_decay: float = 1e-2
    weight_decay_low: float = 0.0
    weight_decay_high: float = 0.0
    """Above 0, the decay is searched too."""
    dice_weight: float = 1.0
    """Of the soft Dice loss, beside the cross-entropy."""
    predict_batch_size: int = 64

    def __post_init__(self) -> None:
        self.space()

    def space(self) -> dict[str, Range]:
        """What suits one encoder may not suit another: peak rate, and decay if it has a range."""
        low, high = self.learning_rate_low, self.learning_rate_high
        return {
            "learning_rate": Range(low=low, high=high, first=self.learning_rate),
            **searched(
                "weight_decay", self.weight_decay, self.weight_decay_low, self.weight_decay_high
            ),
        }


def grid_side(height: int, width: int) -> tuple[int, int]:
    """Cells of a decoder's grid down and across a mask of so many pixels."""
    return -(-height // REDUCTION), -(-width // REDUCTION)


def to_grid(level: Tensor, side: tuple[int, int]) -> Tensor:
    """Area-averaged where the level is finer than the grid, interpolated where it is coarser."""
    if level.shape[-2:] == side:
        return level
    if level.shape[-1] > side[1]:
        return F.adaptive_avg_pool2d(level, side)
    return F.interpolate(level, size=side, mode="bilinear", align_corners=False)


@final
class Adapter:
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
class FittedDecoder(Fitted):
    """A decoder behind its adapter."""

    def __init__(
        self, decoder: nn.Module, adapter: Adapter, size: tuple[int, int], batch_size: int
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


def train_decoder(
    decoder: nn.Module,
    adapter: Adapter,
    train: Labelled,
    val: Labelled,
    settings: DecoderSettings,
    choice: Choice,
    seed: int,
) -> FittedDecoder:
    """The decoder trained with cross-entropy and soft Dice; ``val_score`` is the pooled Dice.

    Args:
        decoder: levels [B, C, h, w] in, mask logits [B, classes, H', W'] out; is changed.
        adapter: gives it the levels.
        train: with targets uint8 [n, classes, H, W].
        val: the same.
        settings: steps, weights and sizes.
        choice: of their ``space``.
        seed: of the batches.
    """
    masks = train.targets
    size = masks.shape[2:]
    decoder.to(adapter.device).train()
    optimiser = torch.optim.AdamW(
        decoder.parameters(),
        lr=0.0,
        weight_decay=choice.get("weight_decay", settings.weight_decay),
        foreach=True,
    )
    order = batches(len(train.features), settings.batch_size, settings.steps, seed)
    for step, rows in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(step, settings.steps, choice["learning_rate"])
        logits = _to_size(decoder(adapter.maps(train.features, rows)), size)
        wanted = torch.from_numpy(masks[rows]).to(adapter.device).float()
        loss = _loss(logits, wanted, settings.dice_weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    fitted = FittedDecoder(decoder, adapter, size, settings.predict_batch_size)
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
