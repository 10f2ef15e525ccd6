"""What is attached to a frozen encoder to answer a task, and what it gets to see of the encoder.

NumPy and torch only. A probe has the same capacity, the same steps and the same random start for
every
encoder: its seed comes from the protocol and the task, never from the encoder.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.specs import Scalar

Choice: TypeAlias = dict[str, float]
"""What a search may vary, by name; empty for a probe without a search space."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """A positive number that is searched on a logarithmic scale, from its default first."""

    low: float
    high: float
    first: float
    """Tried before any other, so that a search of one trial is the default."""
    is_whole: bool = False
    """Whole numbers only."""


def searched(
    name: str, first: float, low: float, high: float, *, is_whole: bool = False
) -> dict[str, Range]:
    """A space of one number, or an empty one where ``high`` is 0: it is not searched.

    Raises SpecError unless 0 < low <= first <= high.
    """
    if high == 0:
        return {}
    if not 0 < low <= first <= high:
        raise SpecError(
            f"{name} is {first:g}, but is searched from {low:g} to {high:g}: set {name}_low above "
            f"0 and the default inside, or leave {name}_high at 0 to search it not at all"
        )
    return {name: Range(low=low, high=high, first=first, is_whole=is_whole)}


@dataclass(frozen=True, kw_only=True)
class SharedSpace:
    """Images and reports where an encoder learned to match them; all vectors have length 1."""

    images: NDArray[np.float32]
    """[n, E]."""
    reports: NDArray[np.float32]
    """[m, E]: of the m different reports."""
    report_of: NDArray[np.int64]
    """[n]: which of them an image has."""


@dataclass(frozen=True, kw_only=True)
class PromptSpace:
    """Images and prompts where an encoder learned to match texts; all vectors have length 1."""

    images: NDArray[np.float32]
    """[n, E]."""
    present: NDArray[np.float32]
    """[labels, prompts, E]: what is said where a label is there."""
    absent: NDArray[np.float32]
    """[labels, prompts, E]: what is said where it is not."""
    scale: float
    """The learned factor on cosines: one over the temperature."""


@dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """What a frozen encoder says of n images. Only what the task needs is there."""

    pooled: NDArray[np.float32]
    """[n, D]: what the encoder's own pooling gives (class token, or normed mean)."""
    mean: NDArray[np.float32]
    """[n, D]: mean over the last level's positions."""
    tokens: NDArray[np.float16] | None = None
    """[n, T, C]: the last level's map pooled to a grid of T = side * side positions."""
    maps: tuple[NDArray[np.float16], ...] = ()
    """Four levels [n, C, h, w]: one grid for a ViT, a pyramid for a hierarchical encoder."""
    images: NDArray[np.uint8] | None = None
    """[n, H, W]: the x-rays themselves, for a probe that ``reads_images``."""

    shared: SharedSpace | None = None
    """For a task that asks images for reports."""
    prompts: PromptSpace | None = None
    """For a probe that asks images for labels in words."""
    projected: NDArray[np.float32] | None = None
    """[n, E]: ``pooled`` in the space shared with texts, of length 1; for a probe that
    ``reads_projection``."""

    def __len__(self) -> int:
        return len(self.pooled)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Features of one split with the task's targets: labels, masks or texts."""

    features: FrozenFeatures
    targets: Any
    """float32 [n, labels] with NaN where unknown; uint8 [n, classes, H, W]; or a list of n
    texts."""


class Fitted(ABC):
    """A probe after training on one encoder."""

    val_score: float
    """What a search maximises; never seen by test."""

    @abstractmethod
    def predict(self, features: FrozenFeatures) -> Any:
        """Logits float32 [n, labels], masks uint8 [n, classes, H, W] or n texts."""


class Probe(ABC):
    """Abstract; each is final. Its module has ``VERSION``, ``Settings``, ``PROBE = Class``."""

    @classmethod
    @abstractmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """From the protocol's settings of this probe. Raises SpecError where one is impossible."""

    @property
    def token_side(self) -> int:
        """Side of the grid of visual tokens that it wants; 0 if it reads none, as most do."""
        return 0

    @property
    def reads_images(self) -> bool:
        """Whether it wants the x-rays beside the features: controls do."""
        return False

    @property
    def reads_projection(self) -> bool:
        """Whether it wants images where an encoder learned to match texts."""
        return False

    def space(self) -> dict[str, Range]:
        """What a search varies; empty where nothing is left to choose."""
        return {}

    @abstractmethod
    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """Train on ``train``, judge on ``val``; the same arguments give the same on one device.

        Args:
            train: never holds a patient of ``val``.
            val: what ``val_score`` is measured on.
            choice: one value for each name of ``space()``.
            seed: 64-bit, of the protocol and the task.
            device: where it computes.
        """


def read_settings(kind: type[Any], probe: str, given: Mapping[str, Scalar]) -> Any:
    """The dataclass ``kind`` with its defaults replaced; a number keeps the type of its default.

    Raises SpecError for a value of another type than the default's.
    """
    values = {}
    defaults = {field.name: field.default for field in fields(kind)}
    for name, value in given.items():
        default = defaults[name]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and type(value) is not type(default):
            raise SpecError(
                f"setting {probe}.{name} is {value!r}; it must be a {type(default).__name__}, "
                f"like its default {default!r}"
            )
        values[name] = value
    return kind(**values)


def standardiser(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each column of values [n, D], and deviation of at least 1e-6."""
    return values.mean(dim=0), values.std(dim=0, correction=0).clamp_min(1e-6)


def cosine_rate(step: int, steps: int, peak: float, warmup: float = 0.1) -> float:
    """Learning rate of a step: a linear rise over ``warmup`` of them, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, steps - rise))))


def batches(images: int, batch_size: int, steps: int, seed: int) -> list[NDArray[np.int64]]:
    """Positions of each step's batch: permutations end to end, from the arguments alone."""
    size = min(batch_size, images)
    generator = np.random.Generator(np.random.Philox(seed))
    visits = -(-steps * size // images)
    order = np.concatenate([generator.permutation(images) for _ in range(visits)])
    return [order[step * size : (step + 1) * size] for step in range(steps)]
