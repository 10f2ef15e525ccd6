"""Minimise a form's squared error over its axes, for one curve or a thousand draws of it at once.

Variable projection: a grid over the non-linear axes, an exact non-negative weighted least-squares
solve for the rest at every grid point, then a bounded Levenberg-Marquardt search from the best one.
There are no starting values and no local optimum of the linear part, and one curve and B bootstrap
draws of it go through the same arithmetic.
"""

from __future__ import annotations

from itertools import product
from typing import final

import numpy as np

from radsweep.laws.forms import FloatArray, Form

# The local search: Levenberg-Marquardt on the projected residual, all dampings tried at once (the
# range covers a full Gauss-Newton step to a short one along the gradient).
DAMPINGS = (1e-8, 1e-4, 1e-2, 1e-1, 1.0, 1e1, 1e3)
# Steps along one axis, as shares of its range: they pass the kinks where a coefficient reaches 0.
COMPASS = (1e-2, 1e-3, 1e-4, 1e-5)
SEARCH_ROUNDS = 25
SETTLED = 1e-9
DIFFERENCE_STEP = 1e-6
DRAWS_AT_ONCE = 250


def _project(
    form: Form,
    images: FloatArray,
    errors: FloatArray,
    weights: FloatArray,
    shape: FloatArray,
    start: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Solve the linear part exactly for every draw and shape.

    Args:
        form: the law.
        images: [n].
        errors: [B, n].
        weights: [n].
        shape: [B or 1, G, m] non-linear parameters.
        start: [B] or None.

    Returns:
        Coefficients [B, G, k] and weighted residuals [B, G, n]. Non-negativity is exact: every
        set of coefficients held at 0 is tried and the best feasible one kept (k is at most 2).
    """
    design, offset = form.terms(images, shape, None if start is None else start[:, None])
    target = errors[:, None, :] - offset
    target = np.broadcast_to(target, np.broadcast_shapes(target.shape, design.shape[:-1]))
    weighted = np.swapaxes(design * weights[:, None], -1, -2)
    gram = weighted @ design
    moment = weighted @ target[..., None]
    count = design.shape[-1]
    best = np.zeros((*target.shape[:-1], count))
    lowest = np.full(target.shape[:-1], np.inf)
    for held in product((False, True), repeat=count):
        if any(zero and not allowed for zero, allowed in zip(held, form.non_negative, strict=True)):
            continue
        solved = np.zeros(best.shape)
        free = [i for i in range(count) if not held[i]]
        if len(free) == 1:
            solved[..., free] = moment[..., free, 0] / gram[..., free, free]
        elif free:
            part = np.linalg.solve(gram[..., free, :][..., free], moment[..., free, :])
            solved[..., free] = part[..., 0]
        feasible = np.all((solved >= 0) | ~np.array(form.non_negative), axis=-1)
        misfit = np.sum((target - (design @ solved[..., None])[..., 0]) ** 2 * weights, axis=-1)
        better = feasible & (misfit < lowest)
        best = np.where(better[..., None], solved, best)
        lowest = np.where(better, misfit, lowest)
    return best, (target - (design @ best[..., None])[..., 0]) * np.sqrt(weights)


@final
class Search:
    """Minimise the projected sum of squares over the axes, for a block of draws at once."""

    def __init__(
        self,
        form: Form,
        images: FloatArray,
        errors: FloatArray,
        weights: FloatArray,
        start: FloatArray | None,
    ) -> None:
        self.form, self.images, self.errors = form, images, errors
        self.weights, self.start = weights, start
        self.axes = form.axes(images)
        self.low = np.array([axis.ends()[0] for axis in self.axes])
        self.high = np.array([axis.ends()[1] for axis in self.axes])
        units = np.eye(len(self.axes)) * (self.high - self.low)
        self.compass = np.concatenate([sign * step * units for step in COMPASS for sign in (1, -1)])

    def _shape(self, inner: FloatArray) -> FloatArray:
        columns = [axis.outer(inner[..., i]) for i, axis in enumerate(self.axes)]
        stacked: FloatArray = np.stack(columns, axis=-1) if columns else inner
        return stacked

    def _residuals(self, inner: FloatArray) -> FloatArray:
        where = self._shape(inner)
        return _project(self.form, self.images, self.errors, self.weights, where, self.start)[1]

    def _lowest(self, inner: FloatArray) -> FloatArray:
        """The best [B, m] of candidates [B or 1, G, m]."""
        chosen = np.sum(self._residuals(inner) ** 2, axis=-1).argmin(axis=1)
        everyone: FloatArray = np.broadcast_to(inner, (len(self.errors), *inner.shape[1:]))
        return np.take_along_axis(everyone, chosen[:, None, None], axis=1)[:, 0]

    def _improved(self, centre: FloatArray) -> FloatArray:
        """One round: the best of the centre and its damped Gauss-Newton steps, [B, m]."""
        step = DIFFERENCE_STEP * (self.high - self.low)
        step = np.where(centre + step > self.high, -step, step)
        moved = centre[:, None] + step[:, None] * np.eye(len(self.axes))
        residuals = self._residuals(np.concatenate([centre[:, None], moved], axis=1))
        jacobian = (residuals[:, 1:] - residuals[:, :1]) / step[..., None]
        slope = jacobian @ residuals[:, 0, :, None]
        curvature = jacobian @ np.swapaxes(jacobian, -1, -2)
        diagonal = np.eye(len(self.axes)) * (np.maximum(curvature, 0.0) + 1e-12)
        steps = [-np.linalg.solve(curvature + d * diagonal, slope)[..., 0] for d in DAMPINGS]
        candidates = centre[:, None] + np.stack([np.zeros_like(centre), *steps], axis=1)
        around = centre[:, None] + self.compass
        candidates = np.concatenate([candidates, around], axis=1)
        return self._lowest(np.clip(candidates, self.low, self.high))

    def run(self) -> tuple[FloatArray, FloatArray]:
        """Parameters [B, p] and weighted sums of squares [B]."""
        ladders = [
            np.linspace(self.low[i], self.high[i], axis.count) for i, axis in enumerate(self.axes)
        ]
        centre = self._lowest(np.array(list(product(*ladders)), dtype=np.float64)[None])
        for _ in range(SEARCH_ROUNDS if self.axes else 0):
            before, centre = centre, self._improved(centre)
            if (abs(centre - before) <= SETTLED * (self.high - self.low)).all():
                break
        shape = self._shape(centre)
        solved, residuals = _project(
            self.form, self.images, self.errors, self.weights, shape[:, None], self.start
        )
        theta = self.form.theta(self.images, shape, solved[:, 0], self.start)
        return theta, np.sum(residuals[:, 0] ** 2, axis=-1)


def solve(
    form: Form,
    images: FloatArray,
    errors: FloatArray,
    *,
    weights: FloatArray | None = None,
    start: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Fit every row of ``errors`` [B, n] at ``images`` [n], both float64.

    ``weights`` [n] are inverse variances up to a factor; ``start`` [B] is the open weights' error,
    which an anchored form needs. Returns parameters [B, p] and weighted sums of squares [B].
    """
    weights = np.ones(len(images)) if weights is None else weights
    pieces = []
    for first in range(0, len(errors), DRAWS_AT_ONCE):
        rows = slice(first, first + DRAWS_AT_ONCE)
        begin = None if start is None else start[rows]
        pieces.append(Search(form, images, errors[rows], weights, begin).run())
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])
