"""Analyse one curve: paired differences, whether it rises, its law; shared by text and charts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from radsweep.laws.bootstrap import Bootstrapped, Interval, Variance, interval, variance
from radsweep.laws.curves import FEWEST_DRAWS, Curve, Scale, curves, headline
from radsweep.laws.fit import Fit, best, why_no_law
from radsweep.laws.forms import FORMS, FloatArray
from radsweep.laws.plausible import MISSES, Scores, candidates, mixed, scatter

# A change of a score in [0, 1] below this is called no change: it is under the reading of the
# second decimal, in which such scores are reported.
NEGLIGIBLE = 0.01

PLAIN_FORMS = tuple(form for form in FORMS if not form.is_anchored)

RISES = "rises"
FALLS = "falls"
FLAT = "flat"
UNDECIDED = "undecided"


@final
@dataclass(frozen=True)
class Difference:
    """A score at one scale minus the open weights' score, paired by resample."""

    images: int
    value: float
    interval: Interval | None
    """None without draws."""


@final
@dataclass(frozen=True)
class Trend:
    """Whether scores rise with images, and on what that rests."""

    verdict: str
    """``rises``, ``falls``, ``flat`` (any change is negligible) or ``undecided``."""
    change: Interval | None
    """Largest scale minus smallest, paired; None without draws or with one scale."""
    rank_correlation: float | None
    """Spearman's, over scales; None below 3 scales or where scores are all equal."""


@final
@dataclass(frozen=True)
class Analysis:
    """What one curve supports; None stands wherever it supports nothing."""

    curve: Curve
    differences: tuple[Difference, ...]
    trend: Trend
    fit: Fit | None
    law: Bootstrapped | None
    """The fit's draws."""
    plain_law: Bootstrapped | None
    """The best law that is not anchored, which can say where it crosses the open weights."""
    no_law: str | None
    """Why there is no law, in words."""
    noise: Variance | None
    open_weights_draws: FloatArray | None
    """[D'] draws that pair with the laws' draws."""


def paired(
    curve: Curve, scale: Scale, other: Scale, other_curve: Curve | None = None
) -> FloatArray | None:
    """[D'] draws of scale minus other, over the resamples usable in both; None if too few."""
    first = curve.mixed(scale)
    second = (other_curve or curve).mixed(other)
    if first is None or second is None or len(first) != len(second):
        return None
    gaps = first - second
    gaps = gaps[np.isfinite(gaps)]
    return gaps if len(gaps) >= FEWEST_DRAWS else None


def spread(curve: Curve, scale: Scale) -> Interval | None:
    """A scale's mean score with its interval over patients and seeds; None without draws."""
    draws = curve.mixed(scale)
    if draws is None or np.isfinite(draws).sum() < FEWEST_DRAWS:
        return None
    return interval(scale.value, draws[np.isfinite(draws)])


def _differences(curve: Curve) -> tuple[Difference, ...]:
    found = []
    if curve.open_weights is not None:
        for scale in curve.scales:
            gap = scale.value - curve.open_weights.value
            draws = paired(curve, scale, curve.open_weights)
            span = None if draws is None else interval(gap, draws)
            found.append(Difference(scale.images, gap, span))
    return tuple(found)


def _trend(curve: Curve) -> Trend:
    if len(curve.scales) < 2:
        return Trend(UNDECIDED, None, None)
    first, last = curve.scales[0], curve.scales[-1]
    values = curve.values
    ranks = None
    if len(values) > 2 and np.ptp(values) > 0:
        ranks = float(spearmanr(curve.images, values).statistic)
    draws = paired(curve, last, first)
    if draws is None:
        return Trend(UNDECIDED, None, ranks)
    change = interval(last.value - first.value, draws)
    verdict = UNDECIDED
    if change.low > 0 and (ranks is None or ranks > 0):
        verdict = RISES
    elif change.high < 0 and (ranks is None or ranks < 0):
        verdict = FALLS
    elif max(abs(change.low), abs(change.high)) < NEGLIGIBLE:
        verdict = FLAT
    return Trend(verdict, change, ranks)


def _usable_draws(curve: Curve) -> tuple[FloatArray | None, FloatArray | None]:
    """Draws of all scales [D', n] and of the open weights [D'], over resamples usable in all."""
    columns = [curve.mixed(scale) for scale in curve.scales]
    base = None if curve.open_weights is None else curve.mixed(curve.open_weights)
    present = [c for c in columns if c is not None]
    everything = [*present, base] if base is not None else present
    if not present or len(present) < len(columns) or len({len(c) for c in everything}) != 1:
        return None, None
    usable = np.isfinite(np.stack(everything)).all(axis=0)
    if usable.sum() < FEWEST_DRAWS:
        return None, None
    return np.stack(present, axis=1)[usable], None if base is None else base[usable]


def _why_no_law(curve: Curve) -> str | None:
    values = curve.values
    if len(values) and (values.min() < 0 or values.max() > 1):
        return f"{curve.metric_title} is not a score between 0 and 1"
    return why_no_law(curve.images, values)


def analyse_curve(curve: Curve) -> Analysis:
    """Everything that one curve supports; never raises for a curve that supports nothing."""
    differences, trend = _differences(curve), _trend(curve)
    draws, base_draws = _usable_draws(curve)
    layers = [s.draws for s in curve.scales if s.draws is not None and np.isfinite(s.draws).all()]
    noise = None
    if draws is not None and len(layers) == len(curve.scales):
        noise = variance([scale.values for scale in curve.scales], layers)
    reason = _why_no_law(curve)
    if reason is not None:
        return Analysis(curve, differences, trend, None, None, None, reason, noise, base_draws)
    images, values = curve.images, curve.values
    anchor = None if curve.open_weights is None else curve.open_weights.value
    anchored = anchor is not None and 0 <= anchor <= 1 and (draws is None or base_draws is not None)
    if draws is None or draws.std() == 0:
        forms = FORMS if anchored else PLAIN_FORMS
        chosen = best(images, values, anchor=anchor, forms=forms)
        return Analysis(curve, differences, trend, chosen, None, None, None, noise, None)

    start = (anchor, base_draws) if anchored else ()
    scores = Scores(images, values, draws, *start)
    found = candidates(FORMS, scores)
    is_far = not any(one.is_near for one in found)
    if is_far or curve.seed_noise is None:
        wider = scatter(found, draws)
        if wider is not None:
            scores = replace(scores, draws=curve.widened(draws, wider))
            found = candidates(FORMS, scores)
    law = mixed(found, scores)
    plain_law = law
    if any(form.is_anchored for form in law.forms()):
        plain_law = mixed([one for one in found if not one.fit.form.is_anchored], scores)
    if is_far and curve.seed_noise is not None:
        law = replace(law, fit=replace(law.fit, flags=(*law.fit.flags, MISSES)))
    return Analysis(curve, differences, trend, law.fit, law, plain_law, None, noise, base_draws)


def analyse(scores: pl.DataFrame) -> tuple[Analysis, ...]:
    """Every headline curve of a score table, analysed; sorted by sweep, task, metric, paradigm.

    Raises:
        SpecError: the table lacks a column or holds two cells in one place (``curves``).
    """
    return tuple(_remembered(curve) for curve in curves(headline(scores)))


# An open page asks again every few seconds, and of its curves few have changed.
_MEMORY: dict[bytes, Analysis] = {}
_MEMORY_CURVES = 500


def _remembered(curve: Curve) -> Analysis:
    """``analyse_curve``, or its answer to exactly the same curve before."""
    known = (*curve.scales, *((curve.open_weights,) if curve.open_weights else ()))
    digest = hashlib.sha256(
        repr((replace(curve, scales=(), open_weights=None), len(known))).encode()
    )
    for scale in known:
        digest.update(f"{scale.images} {scale.values.tolist()}".encode())
        digest.update(b"" if scale.draws is None else scale.draws.tobytes())
    key = digest.digest()
    found = _MEMORY.get(key)
    if found is None:
        found = analyse_curve(curve)
        if len(_MEMORY) >= _MEMORY_CURVES:
            _MEMORY.clear()
        _MEMORY[key] = found
    return found


def by_task(analyses: Sequence[Analysis]) -> dict[tuple[str, str, str, str], list[Analysis]]:
    """Group analyses by (sweep, task, probe, metric), in their order."""
    groups: dict[tuple[str, str, str, str], list[Analysis]] = {}
    for one in analyses:
        curve = one.curve
        groups.setdefault((curve.sweep, curve.task, curve.probe, curve.metric), []).append(one)
    return groups
