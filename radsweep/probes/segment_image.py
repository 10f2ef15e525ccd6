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
from radsweep.probes.decoding import REDUCTION, Adapter, DecoderSettings, grid_side, train_decoder
from radsweep.probes.segment import make_decoder
from radsweep.specs import Scalar

VERSION = 1

IMAGES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Settings(DecoderSettings):
    """Of the control decoder."""

    encoder: bool = True
    """Whether it sees the encoder's maps beside the image."""
    width: int = 64
    """Channels of the decoder."""


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

    def space(self) -> dict[str, Range]:
        """See ``DecoderSettings.space``."""
        return self._settings.space()

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
        adapter = Adapter(train.features, device)
        inner = train_decoder(decoder, adapter, train, val, settings, choice, seed)
        return _FittedSegmentImage(inner, size, settings.encoder)


PROBE = SegmentImage
