"""The functional forms that a score may follow as in-domain images grow.

Every form gives the *error* (1 - value for a score in [0, 1]; the loss itself for a loss) at
``images`` unique in-domain images. A form is split into its few non-linear parameters (its
``axes``) and a part that is linear once these are fixed, so that the fit searches the axes only and
solves the rest exactly: variable projection, Golub and Pereyra 1973 (SIAM J. Numer. Anal. 10(2)).
A new law is one more final dataclass here and one more entry in ``FORMS``.

Shapes: B draws, G candidate shapes, n points, m axes, k linear coefficients, p parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Axis:
    """The range of one non-linear parameter and how finely the grid covers it."""

    name: str
    low: float
    high: float
    count: int
    is_log: bool

    def ends(self) -> tuple[float, float]:
        """The range in the coordinate in which the grid is even (the log where ``is_log``)."""
        if self.is_log:
            return math.log(self.low), math.log(self.high)
        return self.low, self.high

    def outer(self, coordinate: FloatArray) -> FloatArray:
        """Map a grid coordinate back to the parameter."""
        return np.exp(coordinate) if self.is_log else coordinate


# Exponents reported for image-text pretraining lie between 0.05 and 0.25 (Cherti et al. 2023,
# table 2, and later work); 1.5 leaves room for steep toy curves and marks a fit as suspect there.
EXPONENT = Axis("exponent", 0.01, 1.5, 60, False)


class Form(ABC):
    """One law: error as a function of images, and how to solve for its parameters."""

    name: ClassVar[str]
    """How the form is called in tables and sentences."""
    formula: ClassVar[str]
    """The formula, in the parameters' names."""
    parameters: ClassVar[tuple[str, ...]]
    """The p entries of theta, in order."""
    fitted: ClassVar[int]
    """How many of the parameters are fitted (the anchor's starting error is given, not fitted)."""
    linear: ClassVar[tuple[str, ...]]
    """The k parameters that are linear once the axes are fixed."""
    non_negative: ClassVar[tuple[bool, ...]]
    """Which of the linear parameters may not fall below 0."""
    is_anchored: ClassVar[bool]
    """True if the law starts at the open weights' error at 0 images."""

    @abstractmethod
    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The m non-linear parameters, with ranges that may depend on images [n]."""

    @abstractmethod
    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Design [..., n, k] and fixed offset [..., n] for shapes [..., m] and starts [...]."""

    @abstractmethod
    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Parameters [..., p] from shapes [..., m], solved coefficients [..., k], starts [...]."""

    @abstractmethod
    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n] at images [n] for parameters [..., p]."""

    @abstractmethod
    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Images [...] at which the law comes down to ``error`` [...]; inf where it never does."""


def _power(images: FloatArray, exponent: FloatArray) -> FloatArray:
    """(images / smallest images) ** -exponent, [..., n]; the scaling keeps the design near 1."""
    power: FloatArray = np.exp(-exponent[..., None] * np.log(images / images.min()))
    return power


def _inverse_power(ratio: FloatArray, exponent: FloatArray) -> FloatArray:
    """Solve ratio = n ** -exponent; inf where no n does (ratio not positive) or n overflows."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        images = np.exp(-np.log(ratio) / exponent)
    return np.where(ratio > 0, images, np.inf)


@final
@dataclass(frozen=True)
class PowerLaw(Form):
    """error = amplitude * images ** -exponent: no floor (Hestness et al. 2017, section 3)."""

    name = "power law"
    formula = "error = amplitude * images^-exponent"
    parameters = ("amplitude", "exponent")
    fitted = 2
    linear = ("amplitude",)
    non_negative = (True,)
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The exponent."""
        return (EXPONENT,)

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """One column, the power."""
        return _power(images, shape[..., 0])[..., None], np.zeros(len(images))

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the scaling by the smallest scale."""
        exponent = shape[..., 0]
        return np.stack([solved[..., 0] * images.min() ** exponent, exponent], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]."""
        return theta[..., :1] * images ** -theta[..., 1:2]

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(theta[..., 0] > 0, error / theta[..., 0], 0.0)
        return _inverse_power(ratio, theta[..., 1])


@final
@dataclass(frozen=True)
class PowerLawWithFloor(Form):
    """error = floor + amplitude * images ** -exponent: saturates (Hoffmann et al. 2022)."""

    name = "power law with floor"
    formula = "error = floor + amplitude * images^-exponent"
    parameters = ("floor", "amplitude", "exponent")
    fitted = 3
    linear = ("floor", "amplitude")
    non_negative = (True, True)
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The exponent."""
        return (EXPONENT,)

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Two columns, a constant and the power."""
        power = _power(images, shape[..., 0])
        return np.stack([np.ones_like(power), power], axis=-1), np.zeros(len(images))

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the scaling by the smallest scale."""
        exponent = shape[..., 0]
        amplitude = solved[..., 1] * images.min() ** exponent
        return np.stack([solved[..., 0], amplitude, exponent], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]."""
        return theta[..., :1] + theta[..., 1:2] * images ** -theta[..., 2:3]

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form; inf at or below the floor."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(theta[..., 1] > 0, (error - theta[..., 0]) / theta[..., 1], 0.0)
        return _inverse_power(ratio, theta[..., 2])


@final
@dataclass(frozen=True)
class LogLinear(Form):
    """error = level - gain * ln(images), that is value = (1 - level) + gain * ln(images)."""

    name = "log-linear"
    formula = "error = level - gain * ln(images)"
    parameters = ("level", "gain")
    fitted = 2
    linear = ("level", "gain")
    non_negative = (False, False)
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """None: the form is linear."""
        return ()

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """A constant and minus the logarithm, centred on the mean for a well-posed solve."""
        logs = np.log(images)
        columns = np.stack([np.ones_like(logs), logs.mean() - logs], axis=-1)
        return np.broadcast_to(columns, (*shape.shape[:-1], *columns.shape)), np.zeros(len(images))

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the centring."""
        gain = solved[..., 1]
        return np.stack([solved[..., 0] + gain * np.log(images).mean(), gain], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]; not confined to [0, 1]."""
        return theta[..., :1] - theta[..., 1:2] * np.log(images)

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form; inf where the gain is not positive."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            images = np.exp((theta[..., 0] - error) / theta[..., 1])
        return np.where(theta[..., 1] > 0, images, np.inf)


@final
@dataclass(frozen=True)
class Anchored(Form):
    """error = floor + (start - floor) * (1 + images / worth) ** -exponent.

    Finite at 0 images, where it equals ``start``, the open weights' error, which is given and not
    fitted. ``worth`` is the number of in-domain images that the open weights are worth (the idea of
    data transferred, Hernandez et al. 2021, in the shifted power law of Zhai et al. 2022,
    a * (C + d)^-b + c). A floor above the start describes scores that fall.
    """

    name = "anchored at the open weights"
    formula = "error = floor + (start - floor) * (1 + images / worth_images)^-exponent"
    parameters = ("floor", "worth_images", "exponent", "start")
    fitted = 3
    linear = ("floor",)
    non_negative = (True,)
    is_anchored = True

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The worth (a hundredth of the smallest to ten times the largest) and the exponent."""
        worth = Axis("worth_images", float(images.min()) / 100, float(images.max()) * 10, 21, True)
        return (worth, Axis("exponent", EXPONENT.low, EXPONENT.high, 20, False))

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """One column, what the start has lost; the rest of the start is the offset."""
        if start is None:
            raise ValueError("the anchored form needs the open weights' error")
        kept = np.exp(-shape[..., 1:2] * np.log1p(images / shape[..., 0:1]))
        return (1.0 - kept)[..., None], start[..., None] * kept

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Floor, worth, exponent and the given start."""
        if start is None:
            raise ValueError("the anchored form needs the open weights' error")
        parts = (solved[..., 0], shape[..., 0], shape[..., 1], start)
        return np.stack(np.broadcast_arrays(*parts), axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]; images may be 0."""
        floor, worth, exponent, start = (theta[..., i : i + 1] for i in range(4))
        return floor + (start - floor) * np.exp(-exponent * np.log1p(images / worth))

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form; 0 at the start, inf at or below the floor and for a law that rises."""
        floor, worth, exponent, start = (theta[..., i] for i in range(4))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(start > floor, (error - floor) / (start - floor), 0.0)
        grown = _inverse_power(ratio, exponent)
        return np.where(np.isfinite(grown), np.maximum(worth * (grown - 1.0), 0.0), np.inf)


POWER_LAW = PowerLaw()
POWER_LAW_WITH_FLOOR = PowerLawWithFloor()
LOG_LINEAR = LogLinear()
ANCHORED = Anchored()

FORMS: tuple[Form, ...] = (POWER_LAW, POWER_LAW_WITH_FLOOR, LOG_LINEAR, ANCHORED)
"""Every form, in the order in which ties are broken."""
