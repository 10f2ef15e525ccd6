"""The joint law in size and data, loss = E + A / size^alpha + B / data^beta, fitted as published.

The form is that of Hoffmann et al. 2022 ("Training compute-optimal large language models", section
3.3): the Huber loss of the residual of log(loss), with the three terms joined by logsumexp, from
many starts. The Huber losses are summed, not averaged: Besiroglu et al. 2024 ("Chinchilla scaling:
a replication attempt") trace the narrow intervals of the first publication to an average that stops
the search too early. All starts, and all bootstrap draws, go down together: damped Gauss-Newton
steps on reweighted least squares, batched.

Shapes: R rows of a batch (starts or draws), n points. The five parameters inside are e, a, b (logs
of the three terms at the centre of the points) and the exponents alpha, beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import final

import numpy as np
from scipy.special import softmax
from scipy.stats import spearmanr

from radsweep.errors import SpecError
from radsweep.laws.bootstrap import Interval, interval
from radsweep.laws.forms import FloatArray

PARAMETERS = ("E", "A", "B", "alpha", "beta")
HUBER_DELTA = 1e-3
"""Width of the quadratic part, in log(loss): Hoffmann et al. 2022, section 3.3."""
LARGEST_EXPONENT = 3.0
# Where the search begins: exponents, and how the mean loss is shared among the three terms.
START_EXPONENTS = (0.1, 0.3, 0.5, 0.9, 1.5)
START_SHARES = (
    *((0.9, 0.05, 0.05), (0.6, 0.2, 0.2), (0.3, 0.6, 0.1), (0.3, 0.1, 0.6)),
    (0.02, 0.49, 0.49),
)
STARTS_KEPT = 12
ROUNDS = 400
# A step that gains less than this share of the objective ends a search; a draw needs no more than
# a small part of its own spread.
SETTLED, SETTLED_DRAW = 1e-13, 1e-7
FEWEST_POINTS, FEWEST_VALUES = 6, 3


@final
@dataclass(frozen=True)
class JointFit:
    """The joint law on one table."""

    theta: dict[str, float]
    """E, A, B, alpha, beta; A and alpha belong to size, B and beta to data."""
    intervals: dict[str, Interval]
    """95 % percentile intervals by parameter; empty without draws."""
    objective: float
    """Sum of the Huber losses of log residuals."""
    r2: float
    """Share of the variance of the losses explained."""
    rmse: float
    """Root mean square residual, in the loss's unit."""
    leave_largest_out: float | None
    """Mean |error| in predicting the rows of the largest data size from the others."""
    flags: tuple[str, ...]
    """What a reader should know before using the fit, in words."""

    def predict(self, size: FloatArray, data: FloatArray) -> FloatArray:
        """Losses [n] at sizes [n] and data [n]."""
        t = self.theta
        loss: FloatArray = t["E"] + t["A"] * size ** -t["alpha"] + t["B"] * data ** -t["beta"]
        return loss


@final
@dataclass(frozen=True)
class _Problem:
    """Centred logs of one table; ``counts`` [R, n] say how often a draw holds each point."""

    size: FloatArray
    data: FloatArray
    loss: FloatArray
    counts: FloatArray
    delta: float

    def terms(self, inner: FloatArray) -> FloatArray:
        """Logs of the three terms, [R, n, 3]."""
        e, a, b, alpha, beta = (inner[:, i, None] for i in range(5))
        parts = (e + 0 * self.size, a - alpha * self.size, b - beta * self.data)
        return np.stack(parts, axis=-1)

    def residuals(self, inner: FloatArray) -> FloatArray:
        """log(loss) minus the law, [R, n]."""
        gap: FloatArray = self.loss - np.logaddexp.reduce(self.terms(inner), axis=-1)
        return gap

    def objective(self, residuals: FloatArray) -> FloatArray:
        """Sum of Huber losses, [R]."""
        far = np.abs(residuals)
        near = np.minimum(far, self.delta)
        total: FloatArray = np.sum(self.counts * near * (far - near / 2), axis=-1)
        return total

    def steps(self, inner: FloatArray, residuals: FloatArray, damping: FloatArray) -> FloatArray:
        """Damped Gauss-Newton steps [R, 5] of the reweighted squares."""
        share = softmax(self.terms(inner), axis=-1)
        slope = np.stack(
            [*np.moveaxis(share, -1, 0), -share[..., 1] * self.size, -share[..., 2] * self.data],
            axis=-1,
        )
        tail = self.delta / np.maximum(np.abs(residuals), 1e-300)
        weight = self.counts * np.minimum(1.0, tail)
        weighted = np.swapaxes(slope * weight[..., None], -1, -2)
        curvature = weighted @ slope
        diagonal = np.einsum("rii->ri", curvature)
        floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
        curvature += np.eye(5) * (damping[:, None] * diagonal + floor)[:, None, :]
        return np.linalg.solve(curvature, weighted @ residuals[..., None])[..., 0]


def _descend(
    problem: _Problem, inner: FloatArray, rounds: int, settled: float
) -> tuple[FloatArray, FloatArray]:
    """Go down from every start [R, 5] at once; returns where each ends and its objective [R].

    A row stops when a step gains less than ``settled`` of its objective.
    """
    low = np.array([problem.loss.min() - 25.0, -60.0, -60.0, 0.0, 0.0])
    high = np.array([problem.loss.max() + 1, 60.0, 60.0, LARGEST_EXPONENT, LARGEST_EXPONENT])
    ends = np.clip(inner, low, high)
    values = problem.objective(problem.residuals(ends))
    counts = np.broadcast_to(problem.counts, (len(ends), len(problem.loss)))
    going, damping = np.arange(len(ends)), np.full(len(ends), 1e-2)
    for _ in range(rounds):
        part = replace(problem, counts=counts[going])
        here, value = ends[going], values[going]
        trial = np.clip(here + part.steps(here, part.residuals(here), damping), low, high)
        trial_value = part.objective(part.residuals(trial))
        better = trial_value < value
        ends[going[better]], values[going[better]] = trial[better], trial_value[better]
        damping = np.where(better, np.maximum(damping / 5, 1e-12), damping * 6)
        on = np.where(better, value - trial_value > settled * value, damping < 1e8)
        going, damping = going[on], damping[on]
        if not len(going):
            break
    return ends, values


def _starts(loss: FloatArray) -> FloatArray:
    """Starts [R, 5] around the mean of the logs."""
    centre = loss.mean()
    found = [
        [*(centre + np.log(shares)), alpha, beta]
        for shares, alpha, beta in product(START_SHARES, START_EXPONENTS, START_EXPONENTS)
    ]
    return np.array(found)


def _search(problem: _Problem) -> tuple[FloatArray, float]:
    """The best of many starts: all a little way, the leading ones to the end."""
    inner, value = _descend(problem, _starts(problem.loss), 30, SETTLED)
    leading = np.argsort(value)[:STARTS_KEPT]
    inner, value = _descend(problem, inner[leading], ROUNDS, SETTLED)
    return inner[value.argmin()], float(value.min())


def _outer(inner: FloatArray, size_centre: float, data_centre: float) -> FloatArray:
    """Parameters [..., 5] in the published order, the centring undone."""
    e, a, b, alpha, beta = (inner[..., i] for i in range(5))
    parts = (np.exp(e), np.exp(a + alpha * size_centre), np.exp(b + beta * data_centre))
    return np.stack([*parts, alpha, beta], axis=-1)


def why_no_joint_law(
    size: FloatArray, data: FloatArray, losses: FloatArray, names: Sequence[str] = ("size", "data")
) -> str | None:
    """Why five parameters cannot be fitted to these points, in words; None if they can."""
    if len(losses) < FEWEST_POINTS:
        return f"the joint law has 5 parameters and needs {FEWEST_POINTS} points, not {len(losses)}"
    for name, column in zip(names, (size, data), strict=True):
        if len(np.unique(column)) < FEWEST_VALUES:
            return (
                f"'{name}' takes {len(np.unique(column))} value(s); its exponent needs at least "
                f"{FEWEST_VALUES}"
            )
    if np.ptp(losses) == 0:
        return "the losses are identical at every point"
    if abs(float(spearmanr(size, data).statistic)) > 0.999:
        return (
            f"'{names[0]}' and '{names[1]}' rise together, so that their two terms cannot be told "
            "apart; add points that vary one of them alone"
        )
    return None


def _flags(fit: FloatArray, losses: FloatArray) -> tuple[str, ...]:
    flags = []
    if fit[0] < 1e-6 * losses.min():
        flags.append("E sits on its bound 0")
    for name, value in zip(PARAMETERS[3:], fit[3:], strict=True):
        for bound in (0.0, LARGEST_EXPONENT):
            if abs(value - bound) < 1e-6:
                flags.append(f"{name} sits on its bound {bound:g}")
    return tuple(flags)


def _left_out(size: FloatArray, data: FloatArray, losses: FloatArray, delta: float) -> float | None:
    kept = data < data.max()
    if why_no_joint_law(size[kept], data[kept], losses[kept]) is not None:
        return None
    fitted = fit_joint(size[kept], data[kept], losses[kept], delta=delta, is_judged=False)
    return float(np.abs(fitted.predict(size[~kept], data[~kept]) - losses[~kept]).mean())


def fit_joint(
    size: FloatArray,
    data: FloatArray,
    losses: FloatArray,
    *,
    delta: float = HUBER_DELTA,
    bootstraps: int = 0,
    seed: int = 0,
    is_judged: bool = True,
) -> JointFit:
    """Fit loss = E + A / size^alpha + B / data^beta to points [n], float64.

    Args:
        size: model size or compute, above 0.
        data: data size, above 0.
        losses: losses, above 0.
        delta: width of the Huber loss, in log(loss).
        bootstraps: resamples of the points for intervals; 0 gives none.
        seed: of the resamples.
        is_judged: also refit without the largest data size and report what that misses.

    Raises:
        SpecError: a number is missing or not above 0, lengths differ, or the points cannot carry
            five parameters (``why_no_joint_law``).
    """
    columns = tuple(np.asarray(column, dtype=np.float64) for column in (size, data, losses))
    size, data, losses = columns
    if len({column.shape for column in columns}) > 1 or size.ndim != 1:
        raise SpecError("the joint law needs one size and one data size per loss")
    for column, name in zip(columns, ("size", "data", "loss"), strict=True):
        if not (np.isfinite(column).all() and (column > 0).all()):
            raise SpecError(f"the joint law needs every {name} finite and above 0; drop the rows")
    reason = why_no_joint_law(size, data, losses)
    if reason is not None:
        raise SpecError(f"no joint law: {reason}")
    logs = [np.log(column) for column in columns]
    centres = float(logs[0].mean()), float(logs[1].mean())
    x, y = logs[0] - centres[0], logs[1] - centres[1]
    problem = _Problem(x, y, logs[2], np.ones((1, len(x))), delta)
    inner, objective = _search(problem)
    fitted = _outer(inner, *centres)
    intervals = {}
    if bootstraps:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), bootstraps)
        drawn = _Problem(x, y, logs[2], counts.astype(np.float64), delta)
        ends, _ = _descend(drawn, np.tile(inner, (bootstraps, 1)), ROUNDS, SETTLED_DRAW)
        draws = _outer(ends, *centres)
        pairs = zip(PARAMETERS, fitted, draws.T, strict=True)
        intervals = {name: interval(float(value), column) for name, value, column in pairs}
    predicted = np.exp(logs[2] - problem.residuals(inner[None])[0])
    misfit = losses - predicted
    return JointFit(
        theta={name: float(value) for name, value in zip(PARAMETERS, fitted, strict=True)},
        intervals=intervals,
        objective=objective,
        r2=float(1 - np.sum(misfit**2) / np.sum((losses - losses.mean()) ** 2)),
        rmse=float(np.sqrt(np.mean(misfit**2))),
        leave_largest_out=_left_out(size, data, losses, delta) if is_judged else None,
        flags=_flags(fitted, losses),
    )
