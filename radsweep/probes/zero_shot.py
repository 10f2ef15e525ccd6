"""Labels asked in words: no probe is trained, no label is shown.

Of each label two sentences are read by the encoder's own text tower, one that says it is there and
one that says it is not, and the image is nearer to one of them (CheXzero, Tiu et al. 2022, Nature
Biomedical Engineering 6:1399). The unit vectors of all templates of a sentence are averaged first
(prompt ensembling, Radford et al. 2021, section 3.1.4). The sentences are in
``radsweep.paradigms.prompts``. It answers where a protocol names its setting, and only of encoders
with a text tower. One whose start had no text tower, and that has seen no image yet, has a random
one: it is at chance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from radsweep.errors import SpecError
from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Probe,
    PromptSpace,
    read_settings,
)
from radsweep.specs import Scalar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the zero-shot probe."""

    templates: int = 4
    """Sentences that are averaged, the first ones of ``radsweep.paradigms.prompts``."""


@final
class _Asked(Fitted):
    def __init__(self, templates: int) -> None:
        self._templates = templates

    def predict(self, features: FrozenFeatures) -> NDArray[np.float32]:
        """Logits float32 [n, labels], see ``logits``."""
        if features.prompts is None:
            raise SpecError(
                "the probe zero_shot needs images and prompts in one space; it answers tasks that "
                "list it in text_probes"
            )
        return logits(features.prompts, self._templates)


@final
class ZeroShot(Probe):
    """Cosine to what is said of a label that is there, against one that is not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "zero_shot", given)
        if settings.templates < 1:
            raise SpecError(f"zero_shot.templates is {settings.templates}; at least 1")
        return cls(settings)

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """Trains nothing; ``val_score`` is minus the mean log loss on ``val``."""
        fitted = _Asked(self._settings.templates)
        targets, found = np.asarray(val.targets), fitted.predict(val.features)
        loss = np.logaddexp(0, found) - np.nan_to_num(targets) * found
        fitted.val_score = -float(loss[np.isfinite(targets)].mean())
        return fitted


def logits(space: PromptSpace, templates: int) -> NDArray[np.float32]:
    """Float32 [n, labels]: of "there" against "not there", as the softmax over the two has it.

    Args:
        space: n images and the prompts of each label.
        templates: how many of them are averaged, the first ones.

    Raises SpecError where there are fewer.
    """
    known = space.present.shape[1]
    if templates > known:
        raise SpecError(
            f"zero_shot.templates is {templates}; a label is said in {known} ways, so that at "
            f"most {known} can be averaged"
        )
    there, not_there = (
        _direction(prompts[:, :templates]) for prompts in (space.present, space.absent)
    )
    nearer: NDArray[np.float32] = (space.scale * (space.images @ (there - not_there).T)).astype(
        np.float32
    )
    return nearer


def _direction(prompts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors [labels, E] along the means of unit vectors [labels, prompts, E]."""
    mean = prompts.mean(axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (mean / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


PROBE = ZeroShot
