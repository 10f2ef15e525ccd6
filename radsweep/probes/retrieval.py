"""Retrieval in the space where images and reports meet: ranks by cosine, nothing is trained."""

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
    SharedSpace,
    read_settings,
)
from radsweep.specs import Scalar

VERSION = 1

REPORTS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Settings:
    """None."""


@final
class _Ranker(Fitted):
    def __init__(self, device: torch.device, val_score: float) -> None:
        self._device, self.val_score = device, val_score

    def predict(self, features: FrozenFeatures) -> NDArray[np.float64]:
        """Ranks float64 [n, 2], see ``ranks``."""
        return ranks(_shared(features), self._device)


@final
class Retrieval(Probe):
    """Ranks of the first right answer, image to report and report to image."""

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``; it has no settings."""
        read_settings(Settings, "retrieval", given)
        return cls()

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """Trains nothing; ``val_score`` is minus the mean logarithm of the ranks on ``val``."""
        found = ranks(_shared(val.features), device)
        return _Ranker(device, -float(np.log(found).mean()))


def _shared(features: FrozenFeatures) -> SharedSpace:
    if features.shared is None:
        raise SpecError(
            "the probe retrieval needs images and reports in one space; it answers exam_retrieval"
        )
    return features.shared


def ranks(space: SharedSpace, device: torch.device) -> NDArray[np.float64]:
    """Ranks float64 [n, 2] of the first right answer, 1 the best; ties count one half.

    Column 0: of an image's report among the m different reports. Column 1: of the best of the
    images that have a report, among it and all images that do not.

    Args:
        space: unit vectors of n images and m reports.
        device: where it computes.
    """
    images = torch.from_numpy(space.images).to(device).double()
    reports = torch.from_numpy(space.reports).to(device).double()
    report_of = torch.from_numpy(space.report_of).to(device)
    own = (images * reports[report_of]).sum(dim=1)
    best = torch.full((len(reports),), -torch.inf, dtype=own.dtype, device=device)
    best.scatter_reduce_(0, report_of, own, "amax")
    to_report, to_image = torch.ones_like(own), torch.ones_like(best)
    for start in range(0, len(reports), REPORTS_AT_ONCE):
        stop = min(start + REPORTS_AT_ONCE, len(reports))
        cosines = images @ reports[start:stop].T
        wrong = report_of[:, None] != torch.arange(start, stop, device=device)
        to_report += _before(cosines, own[:, None], wrong).sum(dim=1)
        to_image[start:stop] += _before(cosines, best[None, start:stop], wrong).sum(dim=0)
    return torch.stack([to_report, to_image[report_of]], dim=1).cpu().numpy()


def _before(cosines: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """[n, m] 1 where a wrong answer is nearer than the right one, 0.5 where it is as near."""
    near = torch.where((cosines - right).abs() <= SAME, 0.5, (cosines > right).double())
    return near * wrong


SAME = 1e-9
"""Cosines no further apart are a tie: two sums of one product differ by rounding."""

PROBE = Retrieval
