"""Nearest neighbours in a frozen encoder's space: are x-rays that mean the same near each other?

Nothing is trained and nothing is searched, so that no probe's luck is in it. Each of the nearest
training images by cosine votes for its own labels with weight exp(similarity / temperature) (Wu et
al. 2018, section 3.4, as in DINO, Caron et al. 2021, section 4.1). Vectors are centred on the
training mean first, since those of one body part point much the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Probe,
    read_settings,
)
from radsweep.specs import Scalar

VERSION = 1

IMAGES_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the nearest-neighbour probe."""

    vectors: str = "pooled"
    """``pooled`` or ``mean``."""
    neighbours: int = 20
    """DINO's best for ImageNet; fewer where there are fewer training images."""
    temperature: float = 0.07


@final
class _FittedNeighbours(Fitted):
    def __init__(self, settings: Settings, train: Labelled, device: torch.device) -> None:
        self._settings, self._device = settings, device
        vectors = _vectors(train.features, settings).to(device)
        self._centre = vectors.mean(dim=0)
        self._known_vectors = F.normalize(vectors - self._centre, dim=1)
        targets = torch.from_numpy(np.asarray(train.targets)).to(device)
        self._known = torch.isfinite(targets).float()
        self._positive = targets.nan_to_num(0.0)
        self._prior = self._positive.sum(dim=0) / self._known.sum(dim=0).clamp_min(1)

    def predict(self, features: FrozenFeatures) -> NDArray[np.float32]:
        """Log odds float32 [n, labels] of the votes, with one vote more for the prevalence."""
        vectors = _vectors(features, self._settings).to(self._device)
        vectors = F.normalize(vectors - self._centre, dim=1)
        parts = [
            self._log_odds(vectors[start : start + IMAGES_AT_ONCE])
            for start in range(0, len(vectors), IMAGES_AT_ONCE)
        ]
        logits: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return logits

    def _log_odds(self, vectors: Tensor) -> Tensor:
        nearest = min(self._settings.neighbours, len(self._known_vectors))
        similarity, places = (vectors @ self._known_vectors.T).topk(nearest, dim=1)
        # Relative to the nearest, which votes with weight 1.
        votes = ((similarity - similarity[:, :1]) / self._settings.temperature).exp()[:, :, None]
        known = (votes * self._known[places]).sum(dim=1)
        positive = (votes * self._positive[places]).sum(dim=1)
        prior = self._prior.clamp(1e-6, 1 - 1e-6)
        return ((positive + prior) / (known - positive + 1 - prior)).log()


@final
class Neighbours(Probe):
    """Weighted votes of the nearest training images."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "knn", given)
        if settings.vectors not in ("pooled", "mean"):
            raise SpecError(f"knn.vectors is {settings.vectors!r}; pooled or mean")
        if settings.neighbours < 1 or settings.temperature <= 0:
            raise SpecError(
                f"knn: {settings.neighbours} neighbours at temperature {settings.temperature}; at "
                "least one, and a temperature above 0"
            )
        return cls(settings)

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are [n, labels]. ``val_score`` is minus the mean log loss."""
        fitted = _FittedNeighbours(self._settings, train, device)
        targets = np.asarray(val.targets)
        logits = fitted.predict(val.features)
        loss = np.logaddexp(0, logits) - np.nan_to_num(targets) * logits
        fitted.val_score = -float(loss[np.isfinite(targets)].mean())
        return fitted


def _vectors(features: FrozenFeatures, settings: Settings) -> Tensor:
    """float32 [n, D]."""
    named = {"pooled": features.pooled, "mean": features.mean}
    return torch.from_numpy(named[settings.vectors]).float()


PROBE = Neighbours
