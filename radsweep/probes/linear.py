"""Logistic regression on pooled features: how much of the answer is linearly there?

Features are standardised on train. Every label gets its own L2 strength, the one with the least log
loss on val; no steps and no learning rate, hence no search: the optimum is the optimum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
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
    standardiser,
)
from radsweep.probes.logistic import logistic_path
from radsweep.specs import Scalar

VERSION = 2
"""Raised with those of ``few_shot`` and the other ``linear_*``, which compute this."""


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Of every linear probe."""

    strengths: int = 9
    """L2 strengths that are tried, spaced evenly on a logarithmic scale."""
    strength_low: float = 1e-3
    """Of the mean log loss over examples plus strength / 2 times the squared weights."""
    strength_high: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Settings(Strengths):
    """Of the linear probe."""

    vectors: str = "both"
    """``pooled``, ``mean`` or ``both``, one after the other (as DINOv2's linear evaluation, Oquab
    et al. 2023). ``linear_pooled`` and ``linear_mean`` answer beside it with one of them."""


@final
class _FittedLinear(Fitted):
    def __init__(
        self, settings: Settings, centre: Tensor, spread: Tensor, weights: Tensor, biases: Tensor
    ) -> None:
        self._settings = settings
        self._centre, self._spread = centre, spread
        self._weights, self._biases = weights, biases

    def predict(self, features: FrozenFeatures) -> NDArray[np.float32]:
        """Logits float32 [n, labels]."""
        vectors = _vectors(features, self._settings).to(self._centre.device)
        logits = (vectors - self._centre) / self._spread @ self._weights.T + self._biases
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result


class Linear(Probe):
    """L2-penalised logistic regressions, one for each label; not final: others fix its vectors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        return cls(read_linear("linear", given))

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are [n, labels]. ``val_score`` is minus the mean log loss."""
        settings = self._settings
        vectors = _vectors(train.features, settings).to(device)
        centre, spread = standardiser(vectors)
        low, high = np.log10(settings.strength_low), np.log10(settings.strength_high)
        strengths = torch.logspace(
            low, high, settings.strengths, dtype=vectors.dtype, device=device
        )
        path = logistic_path(
            (vectors - centre) / spread,
            torch.from_numpy(np.asarray(train.targets)).to(device),
            strengths,
        )
        logits = path.logits((_vectors(val.features, settings).to(device) - centre) / spread)
        losses = _log_loss(logits, torch.from_numpy(np.asarray(val.targets)).to(vectors))
        best = losses.argmin(dim=0)
        label = torch.arange(losses.shape[1], device=device)
        fitted = _FittedLinear(
            settings, centre, spread, path.weights[best, label], path.biases[best, label]
        )
        fitted.val_score = -float(losses[best, label].mean())
        return fitted


def read_linear(probe: str, given: Mapping[str, Scalar]) -> Settings:
    """The settings of a linear probe of that name. Raises SpecError where one is impossible."""
    settings: Settings = read_settings(Settings, probe, given)
    if settings.vectors not in ("pooled", "mean", "both"):
        raise SpecError(f"{probe}.vectors is {settings.vectors!r}; pooled, mean or both")
    if settings.strengths < 1 or not 0 < settings.strength_low <= settings.strength_high:
        raise SpecError(
            f"{probe}: {settings.strengths} strengths from {settings.strength_low} to "
            f"{settings.strength_high}; at least one, positive, low not above high"
        )
    return settings


def _vectors(features: FrozenFeatures, settings: Settings) -> Tensor:
    """float64 [n, D], [n, 2 D] or [n, E]."""
    if settings.vectors == "projected":
        if features.projected is None:
            raise SpecError(
                "the probe linear_projected needs images in a space shared with texts; it answers "
                "tasks that list it in text_probes"
            )
        return torch.from_numpy(features.projected).double()
    named = {"pooled": features.pooled, "mean": features.mean}
    wanted = ("pooled", "mean") if settings.vectors == "both" else (settings.vectors,)
    return torch.from_numpy(np.concatenate([named[name] for name in wanted], axis=1)).double()


def _log_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """[strengths, labels] means over known targets [n, labels]; logits [strengths, labels, n]."""
    known = torch.isfinite(targets).T
    wanted = targets.nan_to_num(0.0).T
    loss = torch.nn.functional.softplus(logits) - wanted * logits
    return (loss * known).sum(dim=2) / known.sum(dim=1)


PROBE = Linear
