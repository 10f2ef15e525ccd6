"""Forms that five scales cannot support, or that other tables need: logit, shifted, broken.

They are tried on tables with many sizes (``radsweep.laws.table``) and named explicitly elsewhere; a
sweep's few scales are left to the forms of ``radsweep.laws.forms``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import expit, logit

from radsweep.laws.forms import EXPONENT, FORMS, Axis, FloatArray, Form

# A gain of 1.5 per e-fold of images takes an error from 0.9 to 0.1 within a factor of 20.
STEEPEST = 1.5
FARTHEST_LOGIT = 8.0
SHARPNESS = 2.0
BISECTIONS = 70
SMALLEST, LARGEST = 1e-3, 1e18


def _shift(images: FloatArray) -> Axis:
    return Axis("shift_images", float(images.min()) / 100, float(images.max()) * 10, 21, True)


@final
@dataclass(frozen=True)
class LogitLinear(Form):
    """The logit of the error falls with the logarithm of images: stays between 0 and 1 anywhere.

    The natural scale of an accuracy-like score, on which a step from 0.98 to 0.99 is as large as
    one from 0.50 to 0.67. Without linear parameters; the axes are the logit in the middle of the
    scales, and the gain.
    """

    name = "logit-linear"
    formula = "error = 1 / (1 + exp(-(level - gain * ln(images))))"
    parameters = ("level", "gain")
    fitted = 2
    linear = ()
    non_negative = ()
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The logit at the geometric mean of the scales, and the gain."""
        return (
            Axis("middle", -FARTHEST_LOGIT, FARTHEST_LOGIT, 33, False),
            Axis("gain", -STEEPEST, STEEPEST, 31, False),
        )

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """No column; the law itself is the offset."""
        logs = np.log(images)
        law = expit(shape[..., :1] - shape[..., 1:2] * (logs - logs.mean()))
        return np.zeros((*law.shape, 0)), law

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the centring."""
        level = shape[..., 0] + shape[..., 1] * np.log(images).mean()
        return np.stack([level, shape[..., 1]], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]."""
        law: FloatArray = expit(theta[..., :1] - theta[..., 1:2] * np.log(images))
        return law

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form; inf where the gain is not positive."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            images = np.exp((theta[..., 0] - logit(error)) / theta[..., 1])
        return np.where((theta[..., 1] > 0) & (error > 0), images, np.inf)


@final
@dataclass(frozen=True)
class Shifted(Form):
    """error = floor + amplitude * (images + shift) ** -exponent (Zhai et al. 2022, section 2.1)."""

    name = "shifted power law"
    formula = "error = floor + amplitude * (images + shift_images)^-exponent"
    parameters = ("floor", "amplitude", "shift_images", "exponent")
    fitted = 4
    linear = ("floor", "amplitude")
    non_negative = (True, True)
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """The shift and the exponent."""
        return (_shift(images), Axis("exponent", EXPONENT.low, EXPONENT.high, 20, False))

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """A constant and the shifted power, 1 at the smallest scale."""
        shift, exponent = shape[..., 0:1], shape[..., 1:2]
        power = np.exp(-exponent * np.log((images + shift) / (images.min() + shift)))
        return np.stack([np.ones_like(power), power], axis=-1), np.zeros(len(images))

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the scaling by the smallest scale."""
        amplitude = solved[..., 1] * (images.min() + shape[..., 0]) ** shape[..., 1]
        return np.stack([solved[..., 0], amplitude, shape[..., 0], shape[..., 1]], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]; images may be 0."""
        floor, amplitude, shift, exponent = (theta[..., i : i + 1] for i in range(4))
        law: FloatArray = floor + amplitude * (images + shift) ** -exponent
        return law

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """Closed form, not below 0; inf at or below the floor."""
        floor, amplitude, shift, exponent = (theta[..., i] for i in range(4))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            grown = np.exp(-np.log((error - floor) / amplitude) / exponent)
        reached = (error > floor) & (amplitude > 0)
        return np.where(reached, np.maximum(grown - shift, 0.0), np.inf)


@final
@dataclass(frozen=True)
class Broken(Form):
    """A power law whose exponent changes at a break (Caballero et al. 2023, one, no floor)."""

    name = "broken power law"
    formula = (
        "error = amplitude * images^-before "
        "* (1 + (images / break_images)^s)^((before - after) / s), s = 2"
    )
    parameters = ("amplitude", "before", "after", "break_images")
    fitted = 4
    linear = ("amplitude",)
    non_negative = (True,)
    is_anchored = False

    def axes(self, images: FloatArray) -> tuple[Axis, ...]:
        """Both exponents and the break, which lies between the scales."""
        return (
            Axis("before", EXPONENT.low, EXPONENT.high, 13, False),
            Axis("after", EXPONENT.low, EXPONENT.high, 13, False),
            Axis("break_images", float(images.min()), float(images.max()) * 1.001, 11, True),
        )

    def _power(self, images: FloatArray, shape: FloatArray) -> FloatArray:
        before, after, where = (shape[..., i : i + 1] for i in range(3))
        bend = np.log1p((images / where) ** SHARPNESS) / SHARPNESS
        power: FloatArray = np.exp(-before * np.log(images / where) + (before - after) * bend)
        return power

    def terms(
        self, images: FloatArray, shape: FloatArray, start: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """One column, near 1 at the break."""
        return self._power(images, shape)[..., None], np.zeros(len(images))

    def theta(
        self, images: FloatArray, shape: FloatArray, solved: FloatArray, start: FloatArray | None
    ) -> FloatArray:
        """Undo the scaling by the break."""
        before, after, where = (shape[..., i] for i in range(3))
        return np.stack([solved[..., 0] * where**before, before, after, where], axis=-1)

    def __call__(self, images: FloatArray, theta: FloatArray) -> FloatArray:
        """Error [..., n]."""
        scaled = theta[..., :1] * theta[..., 3:4] ** -theta[..., 1:2]
        return scaled * self._power(images, theta[..., 1:4])

    def images_at(self, error: FloatArray, theta: FloatArray) -> FloatArray:
        """By bisection over the logarithm of images, as both exponents are above 0."""
        low = np.full(np.shape(error), np.log(SMALLEST))
        high = np.full(np.shape(error), np.log(LARGEST))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = self(np.exp(middle)[..., None], theta)[..., 0] > error
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.where(high < np.log(LARGEST), np.exp((low + high) / 2), np.inf)


LOGIT_LINEAR = LogitLinear()
SHIFTED = Shifted()
BROKEN = Broken()

ALL_FORMS: tuple[Form, ...] = (*FORMS, LOGIT_LINEAR, SHIFTED, BROKEN)
"""Every form there is, in the order in which ties are broken."""
