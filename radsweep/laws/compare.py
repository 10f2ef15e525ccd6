"""Paired differences between paradigms, each with its interval and a p value held over them all.

Two paradigms are compared on the same resamples of the same patients, so that what is hard in a
test set cancels. Many such comparisons stand on one page; Holm 1979 ("A simple sequentially
rejective multiple test procedure") keeps the chance of a single false one among them below 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import final

import numpy as np
from scipy.stats import norm

from radsweep.laws.analysis import Analysis, by_task, paired
from radsweep.laws.bootstrap import Interval, interval
from radsweep.laws.curves import Curve
from radsweep.laws.forms import FloatArray

ALPHA = 0.05
# Standard errors between the ends of a 95 % interval.
ENDS_APART = 2 * float(norm.ppf(0.975))


@final
@dataclass(frozen=True)
class Comparison:
    """One paradigm's score minus another's, at one scale of one task."""

    curve: Curve
    """Of the first paradigm."""
    other: Curve
    images: int
    span: Interval | None
    """The difference with its 95 % interval; None without enough paired resamples."""
    value: float
    p: float | None
    """Two-sided; None without an interval."""
    p_holm: float | None
    """Corrected over all comparisons that were made together."""

    @property
    def is_decided(self) -> bool:
        """Whether the difference stands after the correction."""
        return self.p_holm is not None and self.p_holm <= ALPHA


def holm(p_values: Sequence[float]) -> FloatArray:
    """Holm's adjusted p values [m], in the order given: compare them with the level itself."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def one_sided(span: Interval, margin: float = 0.0) -> float:
    """The p value of "not above ``margin``" against "above it".

    A normal test whose standard error is the 95 % interval's width over that of a normal: a few
    hundred resamples resolve an interval, but not the small p values that a correction asks for.
    """
    error = (span.high - span.low) / ENDS_APART
    if error == 0:
        return 0.0 if span.value > margin else 1.0
    return float(norm.sf((span.value - margin) / error))


def two_sided(span: Interval) -> float:
    """The p value of "no difference"."""
    if span.low == span.high:
        return 1.0 if span.value == 0 else 0.0
    above = one_sided(span)
    return min(2 * min(above, 1 - above), 1.0)


def difference(first: Analysis, second: Analysis, images: int) -> Comparison | None:
    """First minus second at one scale (0: the open weights); None where either has no score there.

    ``p_holm`` is that of this comparison alone.
    """
    curves = (first.curve, second.curve)
    found = []
    for curve in curves:
        known = (*curve.scales, *([curve.open_weights] if curve.open_weights else []))
        here = [scale for scale in known if scale.images == images]
        if not here:
            return None
        found.append(here[0])
    draws = paired(curves[0], found[0], found[1], curves[1])
    value = found[0].value - found[1].value
    span = None if draws is None else interval(value, draws)
    p = None if span is None else two_sided(span)
    return Comparison(*curves, images, span, value, p, p)


def comparisons(analyses: Sequence[Analysis]) -> tuple[Comparison, ...]:
    """Every pair of paradigms at every scale that both have, task by task, corrected together.

    The family that Holm's correction covers is all of them: every task, pair and scale.
    """
    found = []
    for group in by_task(analyses).values():
        for first, second in combinations(group, 2):
            for scale in first.curve.scales:
                one = difference(first, second, scale.images)
                if one is not None:
                    found.append(one)
    tested = [i for i, one in enumerate(found) if one.p is not None]
    adjusted = holm([found[i].p or 0.0 for i in tested])
    for i, p in zip(tested, adjusted, strict=True):
        found[i] = replace(found[i], p_holm=float(p))
    return tuple(found)
