"""Fit a form to points, choose among forms, and say in words what is wrong with a fit.

A fit is judged by what it predicts (the left-out largest scale, refitted without it), not by R2.
The search itself is in ``radsweep.laws.solver``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from radsweep.errors import SpecError
from radsweep.laws.forms import FORMS, FloatArray, Form
from radsweep.laws.solver import solve

FEW_SCALES = 4
ROUNDING = 1e-9
"""Errors that differ by less are equal: what a solver leaves of an exact fit differs by machine."""
GETS_WORSE = "gets worse with images"


@final
@dataclass(frozen=True)
class Fit:
    """A form with its parameters on one set of points, and how far to trust it."""

    form: Form
    theta: dict[str, float]
    """Parameters by name."""
    r2: float | None
    """Share of the (weighted) variance explained; None where the values do not vary."""
    rmse: float
    """Root mean square residual, in the value's unit."""
    aicc: float | None
    """Small-sample Akaike criterion, None where there are too few points for it."""
    leave_largest_out: float | None
    """|error| in predicting the largest scale from the smaller ones, None if these are too few."""
    flags: tuple[str, ...]
    """What a reader should know before using the fit, in words."""
    lower_is_better: bool
    """True if the values are losses, False if they are scores in [0, 1]."""

    def vector(self) -> FloatArray:
        """Parameters [p] in the form's order."""
        return np.array([self.theta[name] for name in self.form.parameters])

    def predict(self, images: FloatArray) -> FloatArray:
        """Values [n] (scores, or losses where lower is better) at images [n]."""
        error = self.form(np.asarray(images, dtype=np.float64), self.vector())
        return error if self.lower_is_better else 1.0 - error


def checked(
    images: Sequence[float] | FloatArray,
    values: Sequence[float] | FloatArray,
    *,
    lower_is_better: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Images [n] and errors [n] as float64, sorted by images.

    Raises:
        SpecError: lengths differ, a number is missing, images are not positive, or a score lies
            outside [0, 1] (a loss: below 0).
    """
    x = np.asarray(images, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise SpecError(f"a law needs one value per scale, got {x.shape} images, {y.shape} values")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        bad = int((~np.isfinite(x) | ~np.isfinite(y)).sum())
        raise SpecError(
            f"{bad} of {len(x)} points are NaN or infinite; drop them or repair the table, "
            "a law is not fitted around a missing number"
        )
    if len(x) and x.min() <= 0:
        raise SpecError(
            f"a law needs images above 0, got {x.min():g}; "
            "the open weights (0 images) are the anchor"
        )
    if len(y) and (y.min() < 0 or (y.max() > 1 and not lower_is_better)):
        raise SpecError(
            f"values lie in [{y.min():g}, {y.max():g}]; laws are fitted on scores in [0, 1], or on "
            "losses of at least 0 with lower_is_better"
        )
    order = np.argsort(x, kind="stable")
    return x[order], (y if lower_is_better else 1.0 - y)[order]


def why_no_law(images: FloatArray, values: FloatArray) -> str | None:
    """Why no law stands on these points [n], as a phrase; None if one may be fitted.

    Two scales always lie on a law of two parameters, and nothing is left to test it by.
    """
    scales = len(np.unique(images))
    if not scales:
        return "no score is usable"
    if scales == 1:
        return "there are scores at 1 scale only"
    if np.ptp(values) == 0:
        return "the scores are identical at every scale"
    if scales == 2:
        return "there are scores at 2 scales only, and every law passes through two points"
    return None


def held_parameters(form: Form, images: FloatArray, theta: FloatArray) -> dict[str, float]:
    """The parameters of a fit theta [p] that sit on a bound, by name, with that bound."""
    axes = [axis for axis in form.axes(images) if axis.name in form.parameters]
    bounds = {axis.name: (axis.low, axis.high) for axis in axes}
    for name, signed in zip(form.linear, form.non_negative, strict=True):
        if signed:
            bounds[name] = (0.0, math.inf)
    held = {}
    for name, ends in bounds.items():
        value = theta[form.parameters.index(name)]
        for bound in ends:
            if math.isfinite(bound) and abs(value - bound) <= 1e-6 * max(abs(bound), 1e-3):
                held[name] = bound
    return held


def _flags(form: Form, images: FloatArray, errors: FloatArray, theta: FloatArray) -> list[str]:
    scales = np.unique(images)
    means = np.array([errors[images == scale].mean() for scale in scales])
    steps = np.diff(means)
    flags = []
    if len(scales) < FEW_SCALES:
        flags.append(f"fewer than {FEW_SCALES} scales ({len(scales)})")
    if np.ptp(errors) == 0:
        flags.append("values all equal")
    elif (steps >= 0).all():
        flags.append(GETS_WORSE)
    elif (steps > 0).any():
        flags.append("not monotone")
    for name, bound in held_parameters(form, images, theta).items():
        flags.append(f"{name.replace('_', ' ')} sits on its bound {bound:g}")
    return flags


def _leave_largest_out(
    form: Form, images: FloatArray, errors: FloatArray, weights: FloatArray, start: float | None
) -> float | None:
    kept = images < images.max()
    if len(np.unique(images[kept])) < max(form.fitted, 2):
        return None
    begin = None if start is None else np.array([start])
    theta, _ = solve(form, images[kept], errors[None, kept], weights=weights[kept], start=begin)
    predicted = form(images[-1:], theta[0])[0]
    return float(abs(predicted - errors[~kept].mean()))


def _aicc(misfit: float, count: int, fitted: int) -> float | None:
    """AICc; the noise variance counts as a parameter (Burnham and Anderson 2002, section 2.4)."""
    parameters = fitted + 1
    if count - parameters - 1 <= 0:
        return None
    penalty = 2 * parameters * (1 + (parameters + 1) / (count - parameters - 1))
    # A perfect fit has no finite likelihood.
    return count * math.log(max(misfit / count, ROUNDING**2)) + penalty


def fit(
    form: Form,
    images: Sequence[float] | FloatArray,
    values: Sequence[float] | FloatArray,
    *,
    sigma: Sequence[float] | FloatArray | None = None,
    anchor: float | None = None,
    lower_is_better: bool = False,
) -> Fit:
    """Fit one form to values [n] at images [n]; a scale may occur several times (training seeds).

    Args:
        form: the law, from ``radsweep.laws.forms``.
        images: unique in-domain images, above 0.
        values: scores in [0, 1], or losses of at least 0 with ``lower_is_better``.
        sigma: standard error of each value; None weighs all alike.
        anchor: the open weights' value (0 images), which an anchored form needs.
        lower_is_better: values are losses.

    Raises:
        SpecError: unusable numbers (``checked``), fewer distinct scales than fitted parameters,
            a standard error that is not above 0, or an anchored form without an anchor.
    """
    x, errors = checked(images, values, lower_is_better=lower_is_better)
    scales = len(np.unique(x))
    if scales < form.fitted:
        raise SpecError(
            f"the {form.name} has {form.fitted} parameters and the curve {scales} scale(s); "
            "add scales or take a form with fewer parameters"
        )
    weights = np.ones(len(x))
    if sigma is not None:
        spread = np.asarray(sigma, dtype=np.float64)
        if spread.shape != x.shape or not (np.isfinite(spread).all() and spread.min() > 0):
            raise SpecError("sigma needs one standard error above 0 per value, in the same order")
        order = np.argsort(np.asarray(images, dtype=np.float64), kind="stable")
        weights = 1.0 / spread[order] ** 2
        weights = weights / weights.mean()
    start = None
    if form.is_anchored:
        if anchor is None or not math.isfinite(anchor):
            raise SpecError(f"the form '{form.name}' needs the open weights' value as anchor")
        start = anchor if lower_is_better else 1.0 - anchor
    begin = None if start is None else np.array([start])
    theta, misfits = solve(form, x, errors[None], weights=weights, start=begin)
    misfit = float(misfits[0])
    centre = np.average(errors, weights=weights)
    total = float(np.sum(weights * (errors - centre) ** 2))
    return Fit(
        form=form,
        theta={name: float(theta[0, i]) for i, name in enumerate(form.parameters)},
        r2=1.0 - misfit / total if np.ptp(errors) > 0 else None,
        rmse=float(np.sqrt(np.mean((errors - form(x, theta[0])) ** 2))),
        aicc=_aicc(misfit, len(x), form.fitted),
        leave_largest_out=_leave_largest_out(form, x, errors, weights, start),
        flags=tuple(_flags(form, x, errors, theta[0])),
        lower_is_better=lower_is_better,
    )


def best(
    images: Sequence[float] | FloatArray,
    values: Sequence[float] | FloatArray,
    *,
    sigma: Sequence[float] | FloatArray | None = None,
    anchor: float | None = None,
    forms: Sequence[Form] = FORMS,
    lower_is_better: bool = False,
) -> Fit:
    """The form that best predicts the left-out largest scale; ties go to AICc, then to simplicity.

    Two forms tie when their left-out errors differ by less than the standard error of the largest
    scale (``sigma``; without it by less than rounding): such a difference is noise. Forms that
    the points cannot judge (too few scales to leave one out) are taken only if none can be judged,
    then the one with the fewest parameters.

    Raises:
        SpecError: as ``fit``, and where no form can be fitted.
    """
    x, _ = checked(images, values, lower_is_better=lower_is_better)
    scales = len(np.unique(x))
    usable = [f for f in forms if f.fitted <= scales and (anchor is not None or not f.is_anchored)]
    if not usable:
        raise SpecError(f"no law can be fitted to {scales} scale(s); at least 2 are needed")
    fits = [
        fit(f, images, values, sigma=sigma, anchor=anchor, lower_is_better=lower_is_better)
        for f in usable
    ]
    judged = [(f, f.leave_largest_out) for f in fits if f.leave_largest_out is not None]
    if not judged:
        return min(fits, key=lambda f: (f.form.fitted, f.rmse))
    largest = int(np.argmax(np.asarray(images, dtype=np.float64)))
    noise = 0.0 if sigma is None else float(np.asarray(sigma, dtype=np.float64)[largest])
    tolerance = max(noise, ROUNDING)
    lowest = min(error for _, error in judged)
    tied = [f for f, error in judged if error <= lowest + tolerance]
    return min(tied, key=lambda f: (math.inf if f.aicc is None else f.aicc, f.form.fitted))
