"""Which forms of law the scores cannot tell apart, and what an interval over all of them is.

A sweep has few scales, so several forms fit it about as well and part only beyond it: an interval
that takes the chosen form for granted is too narrow there by far. A form is first judged by how it
predicts the left-out largest scale, then by Akaike's criterion with the noise that the draws know
(the deviance is r' C^-1 r, C the draws' covariance, plus twice the parameters). The draws of all
forms that stand are mixed in proportion to exp(-criterion / 2), Akaike's weights (Buckland, Burnham
and Augustin 1997, "Model selection: an integral part of inference", Biometrics 53(2), section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from radsweep.laws.bootstrap import Bootstrapped, Rival, bootstrap
from radsweep.laws.curves import SeedNoise
from radsweep.laws.fit import Fit, fit, held_parameters
from radsweep.laws.forms import FloatArray, Form
from radsweep.laws.solver import solve

# A form is out where its own scores refute it at 0.1 % (chi-square), and where the left-out largest
# scale does by three standard errors more than it refutes the best predictor.
FAR = 0.001
REFUTED = 3.0
# Degrees of freedom from which the scatter about a law says something of its size.
FEWEST_FREE = 2
MISSES = "no form of law passes as near the scores as their noise allows"
DRAWS_FOR_AN_ERROR = 200
STEP = 1e-5
# Of the covariance's mean variance: what keeps it invertible where scales share all their noise.
RIDGE = 1e-6
GOLDEN = (math.sqrt(5) - 1) / 2


@final
@dataclass(frozen=True)
class Scores:
    """The scores that forms are held against, with their noise."""

    images: FloatArray
    """[n] distinct, rising scales."""
    values: FloatArray
    """[n] in [0, 1]."""
    draws: FloatArray
    """[D, n]; they must vary."""
    anchor: float | None = None
    """The open weights' score, for anchored forms."""
    anchor_draws: FloatArray | None = None
    """[D]."""

    def errors(self) -> FloatArray:
        """Draws as errors [D, n], within the range that an error has."""
        return 1.0 - np.clip(self.draws, 0.0, 1.0)

    def starts(self, form: Form) -> FloatArray | None:
        """[D] draws of the open weights' error, for an anchored form."""
        if not form.is_anchored or self.anchor_draws is None:
            return None
        return 1.0 - self.anchor_draws

    def bootstrap(self, form: Form, rows: NDArray[np.intp]) -> Bootstrapped:
        """The form on the scores and on some of their draws."""
        starts = None if self.anchor_draws is None else self.anchor_draws[rows]
        return bootstrap(
            *(form, self.images, self.draws[rows], self.values),
            anchor=self.anchor,
            anchor_draws=starts,
        )


@final
@dataclass(frozen=True)
class Candidate:
    """A form on one curve, and what the curve says for it."""

    fit: Fit
    deviance: float
    """Squared distance of scores and law in units of the draws' noise."""
    free: int
    """Scales less parameters."""
    left_out_error: float | None
    """Standard error of ``fit.leave_largest_out``; None where that is None."""

    @property
    def criterion(self) -> float:
        """Akaike's, with known noise: lower is better."""
        return self.deviance + 2 * self.fit.form.fitted

    @property
    def is_near(self) -> bool:
        """Whether the noise that the draws know may explain how far the scores lie from the law."""
        return self.free < 1 or float(chi2.sf(self.deviance, self.free)) > FAR


def _left_out_error(form: Form, scores: Scores) -> float:
    """How far the miss of the largest scale varies over (the first) draws."""
    errors, starts = scores.errors()[:DRAWS_FOR_AN_ERROR], scores.starts(form)
    begin = None if starts is None else starts[:DRAWS_FOR_AN_ERROR]
    theta, _ = solve(form, scores.images[:-1], errors[:, :-1], start=begin)
    return float((form(scores.images[-1:], theta)[:, 0] - errors[:, -1]).std(ddof=1))


def deviance(law: Fit, scores: Scores) -> float:
    """The least, over the parameters, of r' C^-1 r: one Gauss-Newton step from the fit.

    The fit weighs all scales alike; what noise they share (the test patients') moves them together
    and is no evidence against a form. An anchored form has the open weights among its points.
    Parameters on a bound stay there.
    """
    form, theta, images = law.form, law.vector(), scores.images
    errors, columns, starts = 1.0 - scores.values, scores.errors(), scores.starts(form)
    if starts is not None and scores.anchor is not None:
        errors = np.append(errors, 1.0 - scores.anchor)
        columns = np.column_stack([columns, starts])

    def predicted(at: FloatArray) -> FloatArray:
        law_here = form(images, at)
        return law_here if starts is None else np.append(law_here, at[-1])

    here = predicted(theta)
    held = held_parameters(form, images, theta)
    slopes = []
    for i, name in enumerate(form.parameters):
        if name not in held:
            step = STEP * max(abs(theta[i]), 1e-3)
            slopes.append((predicted(theta + step * np.eye(len(theta))[i]) - here) / step)
    covariance = np.cov(columns, rowvar=False)
    covariance += np.eye(len(errors)) * RIDGE * np.trace(covariance) / len(errors)
    root = np.linalg.cholesky(covariance)
    target = np.linalg.solve(root, errors - here)
    lengths = np.zeros(0)
    if slopes:
        design = np.linalg.solve(root, np.stack(slopes, axis=1))
        lengths = np.linalg.norm(design, axis=0)
    if lengths.any():
        design = design[:, lengths > 0] / lengths[lengths > 0]
        target = target - design @ np.linalg.lstsq(design, target, rcond=1e-9)[0]
    return float(np.sum(target**2))


def candidates(forms: Sequence[Form], scores: Scores) -> tuple[Candidate, ...]:
    """Every form of ``forms`` that the scores can carry, in their order.

    Raises:
        SpecError: as ``radsweep.laws.fit.fit``.
    """
    found = []
    for form in forms:
        if form.fitted > len(scores.images) or (form.is_anchored and scores.anchor is None):
            continue
        law = fit(form, scores.images, scores.values, anchor=scores.anchor)
        is_judged = law.leave_largest_out is not None
        error = _left_out_error(form, scores) if is_judged else None
        free = len(scores.images) - form.fitted
        found.append(Candidate(law, deviance(law, scores), free, error))
    return tuple(found)


def scatter(found: Sequence[Candidate], draws: FloatArray) -> SeedNoise | None:
    """The variance between runs as the scores [n] show it about the best law; None if they cannot.

    For scores that were trained once, whose noise nothing else tells, and for those that no law
    comes near. ``held`` is what the draws [D, n] hold of it: their noise that scales do not share.
    """
    usable = [one for one in found if one.free >= FEWEST_FREE]
    if not usable:
        return None
    nearest = min(usable, key=lambda one: one.criterion)
    apart = draws - draws.mean(axis=1, keepdims=True)
    scales = draws.shape[1]
    held = float(apart.var(axis=0, ddof=1).mean()) * scales / (scales - 1)
    return SeedNoise(held * nearest.deviance / nearest.free, nearest.free, held)


def standing(found: Sequence[Candidate]) -> list[Candidate]:
    """Those that neither their own scores nor the left-out largest scale refute, the best first.

    A form far from its own scores may still hit the largest one by luck, so it is out before that
    is asked; unless no form is near them. Forms that the scales cannot judge (too few to leave one
    out) stand only if none can be judged, then the one with the fewest parameters.
    """
    near = [one for one in found if one.is_near] or found
    judged = [(one, one.fit.leave_largest_out, one.left_out_error) for one in near]
    tested = [(o, missed, e) for o, missed, e in judged if missed is not None and e is not None]
    if not tested:
        return sorted(near, key=lambda one: (one.fit.form.fitted, one.deviance))[:1]
    least = min(missed for _, missed, _ in tested)
    kept = [one for one, missed, error in tested if missed - least <= REFUTED * error]
    return sorted(kept, key=lambda one: (one.criterion, one.fit.form.fitted))


def weights(found: Sequence[Candidate]) -> FloatArray:
    """Akaike's weights of the candidates, summing to 1."""
    criteria = np.array([one.criterion for one in found])
    raw = np.exp(-(criteria - criteria.min()) / 2)
    shares: FloatArray = raw / raw.sum()
    return shares


def mixed(found: Sequence[Candidate], scores: Scores) -> Bootstrapped:
    """The best candidate's law on all draws, with its rivals' on those that follow them.

    Draw i follows one form, chosen by the i-th point of the golden-ratio sequence (evenly spread
    for any number of draws) against the cumulative weights.
    """
    kept = standing(found)
    places = np.arange(len(scores.draws)) * GOLDEN % 1.0
    taken = np.searchsorted(np.cumsum(weights(kept))[:-1], places, side="right")
    law = scores.bootstrap(kept[0].fit.form, np.arange(len(scores.draws)))
    rivals = []
    for i, one in enumerate(kept[1:], start=1):
        rows = np.flatnonzero(taken == i)
        if len(rows) > 1:
            theta = scores.bootstrap(one.fit.form, rows).theta
            rivals.append(Rival(one.fit.form, theta, rows, len(rows) / len(places)))
    return replace(law, rivals=tuple(rivals))
