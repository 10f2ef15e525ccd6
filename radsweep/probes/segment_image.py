"""A control: the decoder of ``segment`` that sees the x-ray itself, beside the encoder or alone.

Beside the encoder it tells whether the encoder's grid is too coarse for thin structures; alone
(``encoder`` off) it tells what a decoder of this size draws from pixels without any encoder, which
an encoder has to beat. The image enters as one more level: the 8 x 8 pixels of each cell of the
decoder's grid as channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from radsweep.errors import SpecError
from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Probe,
    Range,
    read_settings,
)
from radsweep.probes.decoding import REDUCTION, Adapter, Training, grid_side, train_decoder
from radsweep.probes.segment import make_decoder
from radsweep.specs import Scalar

VERSION = 1

IMAGES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the control decoder."""

    encoder: bool = True
    """Whether it sees the encoder's maps beside the image."""
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
class _FittedSegmentImage(Fitted):
    def __init__(self, inner: Fitted, size: tuple[int, int], encoder: bool) -> None:
        self._inner, self._size, self._encoder = inner, size, encoder
        self.val_score = inner.val_score

    def predict(self, features: FrozenFeatures) -> NDArray[np.uint8]:
        """Masks uint8 [n, classes, H, W]."""
        masks: NDArray[np.uint8] = self._inner.predict(
            _with_image(features, self._size, self._encoder)
        )
        return masks


def _with_image(features: FrozenFeatures, size: tuple[int, int], encoder: bool) -> FrozenFeatures:
    """The features with the image as a last level float16 [n, 64, h, w], or with it alone."""
    assert features.images is not None
    height, width = (REDUCTION * cells for cells in grid_side(*size))
    parts = []
    for start in range(0, len(features), IMAGES_AT_ONCE):
        part = torch.from_numpy(features.images[start : start + IMAGES_AT_ONCE])[:, None].float()
        if part.shape[-2:] != size:
            part = F.interpolate(
                part, size=size, mode="bilinear", align_corners=False, antialias=True
            )
        padded = F.pad(part / 255, (0, width - size[1], 0, height - size[0]))
        parts.append(F.pixel_unshuffle(padded, REDUCTION).half().numpy())
    level = np.concatenate(parts)
    return replace(features, maps=(*features.maps, level) if encoder else (level,))


@final
class SegmentImage(Probe):
    """The decoder of ``segment`` with the image as one more level."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "segment_image", given)
        if min(settings.steps, settings.batch_size, settings.width // 2) < 1:
            raise SpecError(
                "segment_image: steps, batch_size must be at least 1 and width at least 2"
            )
        return cls(settings)

    @property
    def reads_images(self) -> bool:
        """True."""
        return True

    @property
    def token_side(self) -> int:
        """0: it reads whole maps."""
        return 0

    def space(self) -> dict[str, Range]:
        """The peak learning rate, as ``segment``."""
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
        size = (train.targets.shape[2], train.targets.shape[3])
        train, val = (
            replace(one, features=_with_image(one.features, size, settings.encoder))
            for one in (train, val)
        )
        decoder = make_decoder(train, settings.width, seed)
        training = Training(
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=choice["learning_rate"],
            weight_decay=settings.weight_decay,
            dice_weight=settings.dice_weight,
            predict_batch_size=settings.predict_batch_size,
        )
        adapter = Adapter(train.features, device)
        inner = train_decoder(decoder, adapter, train, val, training, seed)
        return _FittedSegmentImage(inner, size, settings.encoder)


PROBE = SegmentImage
