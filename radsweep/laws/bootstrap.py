"""Everything uncertain about a law, from one set of draws: band, crossing, forecast, crossover.

Draw i is the same resample of test patients for every scale and every encoder, so a law is refitted
to draw i of all its points and two laws can be compared draw by draw. The form is chosen once, on
the scores themselves; where rivals fit about as well, some draws follow them instead
(``radsweep.laws.plausible``). Intervals are 2.5 and 97.5 percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from radsweep.errors import SpecError
from radsweep.laws.fit import Fit, fit
from radsweep.laws.forms import FloatArray, Form
from radsweep.laws.solver import solve

TAILS = (0.025, 0.975)
# Order statistic (D + 1) q: between the two ends lies 95 % on average, whatever D. The usual
# interpolation leaves 94.4 % of 300 draws (Hyndman and Fan 1996, definition 6).
EXPECTED: Final = "weibull"
CROSSOVER_POINTS = 200
DECADE = 10
BEYOND_A_DECADE = "more than ten times the largest scale: no fit of these points supports it"
BEYOND_THE_DATA = "this is an extrapolation beyond the data, not a measurement"
ALREADY = "already at the smallest scale"
NEVER = "never inside the data"
NOT_WITHIN_A_DECADE = "not reached within ten times the largest scale"
OUTSIDE_THE_RANGE = "the law leaves the range 0 to 1 here"


@final
@dataclass(frozen=True)
class Interval:
    """A number with its 95 % percentile interval."""

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True)
class Forecast:
    """A law's score at some number of images."""

    images: float
    value: Interval
    warning: str | None


@final
@dataclass(frozen=True)
class Crossing:
    """Where a law comes to beat the open weights, over the draws; only inside the data."""

    images: float | None
    """Crossing of the law itself; None with ``words`` where it is not inside the data."""
    low: float | None
    """None: at or below the smallest scale."""
    high: float | None
    """None: not inside the data."""
    already: float
    """Share of draws that beat the open weights at the smallest scale."""
    inside: float
    """Share of draws that cross between the smallest and the largest scale."""
    words: str | None


@final
@dataclass(frozen=True)
class Needed:
    """The images that a law needs to reach a score, over the draws."""

    images: float | None
    """None with ``words`` at or below the smallest scale, and past ten times the largest."""
    low: float | None
    """None: at or below the smallest scale, or nowhere."""
    high: float | None
    """None: not within ten times the largest scale."""
    reached: float
    """Share of draws that reach the score within ten times the largest scale."""
    words: str | None


@final
@dataclass(frozen=True)
class Crossover:
    """Where one law overtakes another, inside the range that both were measured on."""

    images: float | None
    low: float | None
    high: float | None
    share: float
    """Share of draws in which the order changes inside the range."""


@final
@dataclass(frozen=True)
class Variance:
    """The two layers of noise in a curve's scores, as variances of a scale's mean score."""

    sampling: float
    """From the test patients: variance over the draws, mean over scales."""
    seeds: float | None
    """From training again: variance between seeds over their number; None with one seed."""


def interval(value: float, draws: FloatArray) -> Interval:
    """A value with the percentile interval of its draws [D]."""
    low, high = np.quantile(draws, TAILS, method=EXPECTED)
    return Interval(value, float(low), float(high))


def variance(values: Sequence[FloatArray], draws: Sequence[FloatArray]) -> Variance:
    """Variance components of scales with scores [S] and draws [S, D] each (S may differ)."""
    sampling = float(np.mean([d.mean(axis=0).var(ddof=1) for d in draws]))
    between = [v.var(ddof=1) / len(v) for v in values if len(v) > 1]
    return Variance(sampling, float(np.mean(between)) if between else None)


@final
@dataclass(frozen=True)
class Rival:
    """A form that fits about as well as the chosen one, on the draws that follow it."""

    form: Form
    theta: FloatArray
    """[R, p'] parameters per draw that follows it."""
    rows: NDArray[np.intp]
    """[R] which draws these are."""
    weight: float
    """Its share of the draws."""


@final
@dataclass(frozen=True)
class Bootstrapped:
    """One law on its scores and on D resamples of them."""

    fit: Fit
    theta: FloatArray
    """[D, p] parameters per draw."""
    images: FloatArray
    """[n] scales."""
    rivals: tuple[Rival, ...] = ()
    """Other forms, and the draws that follow them instead."""

    def _values(self, images: FloatArray) -> FloatArray:
        where = np.asarray(images, dtype=np.float64)
        errors = self.fit.form(where, self.theta)
        for rival in self.rivals:
            errors[rival.rows] = rival.form(where, rival.theta)
        return errors if self.fit.lower_is_better else 1.0 - errors

    def _images_at(self, error: float, errors: FloatArray) -> FloatArray:
        """Where the law comes down to ``error`` and its draws to theirs [D]: [1 + D]."""
        draws = self.fit.form.images_at(errors, self.theta)
        for rival in self.rivals:
            draws[rival.rows] = rival.form.images_at(errors[rival.rows], rival.theta)
        law = self.fit.form.images_at(np.array([error]), self.fit.vector()[None])
        return np.concatenate([law, draws])

    def forms(self) -> tuple[Form, ...]:
        """The chosen form, and its rivals'."""
        return (self.fit.form, *(rival.form for rival in self.rivals))

    def weights(self) -> dict[str, float]:
        """The share of the draws that follow each form, the chosen one first."""
        others = {rival.form.name: rival.weight for rival in self.rivals}
        return {self.fit.form.name: 1.0 - sum(others.values()), **others}

    def parameters(self) -> dict[str, Interval]:
        """Every parameter of the chosen form with its interval, given that form."""
        return {
            name: interval(self.fit.theta[name], self.theta[:, i])
            for i, name in enumerate(self.fit.form.parameters)
        }

    def band(self, images: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Law, lower and upper end of its pointwise interval, each [G], at images [G]."""
        low, high = np.quantile(self._values(images), TAILS, axis=0, method=EXPECTED)
        return self.fit.predict(images), low, high

    def gain_per_doubling(self) -> Interval:
        """What the last doubling inside the data bought: law(largest) - law(largest / 2)."""
        ends = np.array([self.images.max() / 2, self.images.max()])
        value = self.fit.predict(ends)
        draws = self._values(ends)
        return interval(float(value[1] - value[0]), draws[:, 1] - draws[:, 0])

    def forecast(self, images: float) -> Forecast:
        """The law at ``images``, with a warning beyond the data, a stronger one past a decade."""
        where = np.array([images])
        value = interval(float(self.fit.predict(where)[0]), self._values(where)[:, 0])
        warning = None
        if images > DECADE * self.images.max():
            warning = BEYOND_A_DECADE
        elif images > self.images.max():
            warning = BEYOND_THE_DATA
        if not self.fit.lower_is_better and not 0 <= value.value <= 1:
            warning = f"{OUTSIDE_THE_RANGE}; {warning}" if warning else OUTSIDE_THE_RANGE
        return Forecast(images, value, warning)

    def images_for(self, value: float) -> Needed:
        """The images that the law needs to reach a score (or to come down to a loss).

        Beyond ten times the largest scale there is no number, only words: a draw whose law gets
        there later, or never, leaves the interval open upwards.
        """
        target = value if self.fit.lower_is_better else 1.0 - value
        where = self._images_at(target, np.full(len(self.theta), target))
        limit = DECADE * self.images.max()
        where = np.where(where <= limit, where, np.inf)
        low, high = np.quantile(where[1:], TAILS, method="inverted_cdf")
        words = None
        if not np.isfinite(where[0]):
            words = NOT_WITHIN_A_DECADE
        elif where[0] <= self.images.min():
            words = ALREADY
        elif where[0] > self.images.max():
            words = BEYOND_THE_DATA
        has_number = words is None or words == BEYOND_THE_DATA
        return Needed(
            images=float(where[0]) if has_number else None,
            low=float(low) if self.images.min() < low < np.inf else None,
            high=float(high) if np.isfinite(high) else None,
            reached=float(np.isfinite(where[1:]).mean()),
            words=words,
        )

    def images_to_beat(self, value: float, draws: FloatArray) -> Crossing:
        """The images from which the law beats the open weights' score ``value``, with draws [D].

        Raises:
            SpecError: the law is anchored at the open weights (it crosses them at 0 images by
                construction), or the draws do not pair.
        """
        if any(form.is_anchored for form in self.forms()):
            raise SpecError("a law anchored at the open weights says nothing on when it beats them")
        if len(draws) != len(self.theta):
            raise SpecError(f"{len(draws)} draws of the open weights do not pair {len(self.theta)}")
        smallest, largest = self.images.min(), self.images.max()
        ends = np.array([smallest])
        first = np.concatenate([self.fit.predict(ends), self._values(ends)[:, 0]])
        known = np.append(value, draws)
        already = first < known if self.fit.lower_is_better else first > known
        targets = known if self.fit.lower_is_better else 1.0 - known
        crossing = self._images_at(float(targets[0]), targets[1:])
        inside = ~already & (crossing <= largest)
        where = np.where(already, 0.0, np.where(inside, crossing, np.inf))
        # The inverted CDF picks one of the draws, so infinities need no arithmetic.
        low, high = np.quantile(where[1:], TAILS, method="inverted_cdf")
        words = None
        if already[0]:
            words = ALREADY
        elif not inside[0]:
            words = NEVER
        return Crossing(
            images=float(where[0]) if words is None else None,
            low=float(low) if 0 < low < np.inf else None,
            high=float(high) if 0 < high < np.inf else None,
            already=float(already[1:].mean()),
            inside=float(inside[1:].mean()),
            words=words,
        )


def bootstrap(
    form: Form,
    images: FloatArray,
    draws: FloatArray,
    values: FloatArray,
    *,
    sigma: FloatArray | None = None,
    anchor: float | None = None,
    anchor_draws: FloatArray | None = None,
    lower_is_better: bool = False,
) -> Bootstrapped:
    """Fit a form to values [n] at distinct, rising images [n] and to every row of draws [D, n].

    Args:
        form: the law, chosen beforehand.
        images: scales, above 0.
        draws: the same scores under D patient (and seed) resamples, see ``curves.mix_seeds``.
        values: the scores themselves.
        sigma: standard error per scale; None weighs all alike.
        anchor: the open weights' score, for an anchored form.
        anchor_draws: [D] its resamples.
        lower_is_better: values are losses.

    Raises:
        SpecError: as ``fit``; draws that do not fit the points, are missing or too few.
    """
    x = np.asarray(images, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[1] != len(x) or len(draws) < 2:
        raise SpecError(f"draws {draws.shape} do not fit {len(x)} scales; expected [draws, scales]")
    if not np.isfinite(draws).all():
        raise SpecError("draws hold NaN or infinite numbers; drop these resamples for all scales")
    if (np.diff(x) <= 0).any():
        raise SpecError("the scales of a bootstrap must be distinct and rising; average the seeds")
    central = fit(form, x, values, sigma=sigma, anchor=anchor, lower_is_better=lower_is_better)
    start = None
    if form.is_anchored:
        if anchor_draws is None or anchor_draws.shape != (len(draws),):
            raise SpecError(f"the form '{form.name}' needs one draw of the open weights per draw")
        start = anchor_draws if lower_is_better else 1.0 - anchor_draws
    # Stretched seed resamples can step outside the range that a score has.
    errors = np.maximum(draws, 0.0) if lower_is_better else 1.0 - np.clip(draws, 0.0, 1.0)
    weights = None if sigma is None else 1.0 / sigma**2 / np.mean(1.0 / sigma**2)
    theta, _ = solve(form, x, errors, weights=weights, start=start)
    return Bootstrapped(central, theta, x)


def crossover(first: Bootstrapped, second: Bootstrapped) -> Crossover:
    """Where the order of two laws changes, on the range measured for both, draw by draw.

    Raises:
        SpecError: the draws do not pair.
    """
    if len(first.theta) != len(second.theta):
        raise SpecError(f"{len(first.theta)} and {len(second.theta)} draws cannot be paired")
    low = max(first.images.min(), second.images.min())
    high = min(first.images.max(), second.images.max())
    if low >= high:
        return Crossover(None, None, None, 0.0)
    grid = np.geomspace(low, high, CROSSOVER_POINTS)
    point = first.fit.predict(grid) - second.fit.predict(grid)
    gaps = np.concatenate([point[None], first._values(grid) - second._values(grid)])
    changed = np.sign(gaps) != np.sign(gaps[:, :1])
    has = changed.any(axis=1)
    after = np.maximum(changed.argmax(axis=1), 1)
    rows = np.arange(len(gaps))
    left, right = gaps[rows, after - 1], gaps[rows, after]
    part = np.where(has, left / np.where(has, left - right, 1.0), 0.0)
    logs = np.log(grid)
    where = np.exp(logs[after - 1] + part * (logs[after] - logs[after - 1]))
    where = np.where(has, where, np.inf)
    if not has[0]:
        return Crossover(None, None, None, float(has[1:].mean()))
    ends = np.quantile(where[1:], TAILS, method="inverted_cdf")
    bounds = [float(end) if np.isfinite(end) else None for end in ends]
    return Crossover(float(where[0]), bounds[0], bounds[1], float(has[1:].mean()))
