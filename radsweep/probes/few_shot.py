"""The linear probe from a handful of examples: how much does an encoder spare in labelling?

Of each label, ``examples`` images that have it and as many that lack it are shown, and as many of
val to choose the L2 strength by, since a large val would be the labels that are said to be lacking
(Perez et al. 2021). Which ones is drawn from the protocol's seed: all encoders see the same. Other
images count only towards the features' mean and deviation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from radsweep.errors import SpecError
from radsweep.probes.base import Choice, Fitted, Labelled, Probe, read_settings
from radsweep.probes.linear import Linear
from radsweep.specs import Scalar

VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the few-shot probe."""

    examples: int = 16
    """Of each label, with it and without it each; all where there are fewer."""
    vectors: str = "both"
    """As of the linear probe."""


@final
class FewShot(Probe):
    """``Linear`` on a few known labels."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._linear = Linear.build({"vectors": settings.vectors})

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "few_shot", given)
        if settings.examples < 1:
            raise SpecError(f"few_shot.examples is {settings.examples}; at least 1")
        return cls(settings)

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Linear.fit``."""
        examples = self._settings.examples
        few_train, few_val = (
            replace(one, targets=few(np.asarray(one.targets), examples, seed + part))
            for part, one in enumerate((train, val))
        )
        return self._linear.fit(few_train, few_val, choice, seed, device)


def few(targets: NDArray[np.float32], examples: int, seed: int) -> NDArray[np.float32]:
    """Targets [n, labels] with all but ``examples`` of each label and value made NaN.

    A label's draw hangs on its own targets, its place and the seed alone.
    """
    shown = np.full_like(targets, np.nan)
    for label, column in enumerate(targets.T):
        generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, label]))
        for value in (0, 1):
            places = generator.permutation(np.flatnonzero(column == value))[:examples]
            shown[places, label] = value
    return shown


PROBE = FewShot
