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
from numpy.typing import NDArray

from radsweep.laws.forms import FloatArray, Form

# The local search: Levenberg-Marquardt on the projected residual, all dampings tried at once (the
# range covers a full Gauss-Newton step to a short one along the gradient).
DAMPINGS = (1e-8, 1e-4, 1e-2, 1e-1, 1.0, 1e1, 1e3)
# Steps along one axis, as shares of its range: they pass the kinks where a coefficient reaches 0.
COMPASS = (1e-2, 1e-3, 1e-4, 1e-5)
SEARCH_ROUNDS = 25
SETTLED = 1e-9
DIFFERENCE_STEP = 1e-6
DRAWS_AT_ONCE = 1000
LADDER = np.array(DAMPINGS)
Rows = NDArray[np.intp]


def _weighted_sum(first: FloatArray, second: FloatArray) -> FloatArray:
    """Sum over the last axis of a product, without storing it."""
    total: FloatArray = np.einsum("...n,...n->...", first, second)
    return total


def _one(moment: FloatArray, square: FloatArray, signed: bool) -> FloatArray:
    """The least-squares coefficient of one column, not below 0 where it is ``signed``."""
    solved = moment / square
    return np.maximum(solved, 0.0) if signed else solved


def _two(
    moments: tuple[FloatArray, FloatArray],
    squares: tuple[FloatArray, FloatArray],
    cross: FloatArray,
    signed: tuple[bool, ...],
) -> tuple[FloatArray, FloatArray]:
    """The coefficients of two columns; non-negativity is exact.

    Where the free solution breaks a sign, the best one has a coefficient at 0: of the two that do,
    the one that explains more (moment squared over square) is kept.
    """
    determinant = squares[0] * squares[1] - cross**2
    with np.errstate(divide="ignore", invalid="ignore"):
        free = (
            (moments[0] * squares[1] - moments[1] * cross) / determinant,
            (moments[1] * squares[0] - moments[0] * cross) / determinant,
        )
    if not any(signed):
        return free
    alone = tuple(_one(moments[i], squares[i], signed[i]) for i in (0, 1))
    is_first = alone[0] * moments[0] >= alone[1] * moments[1]
    # Only a signed coefficient may be held at 0.
    is_first = (is_first | (not signed[0])) & signed[1]
    held = (np.where(is_first, alone[0], 0.0), np.where(is_first, 0.0, alone[1]))
    feasible = ((free[0] >= 0) | (not signed[0])) & ((free[1] >= 0) | (not signed[1]))
    feasible &= determinant > 0
    return np.where(feasible, free[0], held[0]), np.where(feasible, free[1], held[1])


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
        form: the law, with at most two linear parameters.
        images: [n].
        errors: [B, n].
        weights: [n].
        shape: [B or 1, G, m] non-linear parameters.
        start: [B] or None.

    Returns:
        Coefficients [B, G, k] and weighted residuals [B, G, n].
    """
    design, offset = form.terms(images, shape, None if start is None else start[:, None])
    target = errors[:, None, :] - offset
    count = design.shape[-1]
    columns = [design[..., i] for i in range(count)]
    weighted = [column * weights for column in columns]
    moments = [_weighted_sum(column, target) for column in weighted]
    squares = [_weighted_sum(w, c) for w, c in zip(weighted, columns, strict=True)]
    solved: tuple[FloatArray, ...] = ()
    if count == 1:
        solved = (_one(moments[0], squares[0], form.non_negative[0]),)
    elif count == 2:
        cross = _weighted_sum(weighted[0], columns[1])
        ends = (squares[0], squares[1])
        solved = _two((moments[0], moments[1]), ends, cross, form.non_negative)
    residuals = target
    for column, coefficient in zip(columns, solved, strict=True):
        residuals = residuals - column * coefficient[..., None]
    rows = np.broadcast_shapes(residuals.shape[:-1], shape.shape[:-1])
    residuals = np.broadcast_to(residuals, (*rows, residuals.shape[-1]))
    best = np.zeros((*rows, count))
    for i, coefficient in enumerate(solved):
        best[..., i] = coefficient
    return best, residuals * np.sqrt(weights)


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

    def _residuals(self, inner: FloatArray, rows: Rows) -> FloatArray:
        where = self._shape(inner)
        start = None if self.start is None else self.start[rows]
        found = _project(self.form, self.images, self.errors[rows], self.weights, where, start)
        return found[1]

    def _explained(self, grid: FloatArray) -> FloatArray:
        """The sum of squares that each shape [G, m] explains of each draw, [B, G].

        All draws share the designs of the grid, and a start is a factor of its offset: matrix
        products.
        Rounding costs this more than ``_project``, which is why it only says where to begin.
        """
        unit = None if self.start is None else np.ones(len(grid))
        design, offset = self.form.terms(self.images, self._shape(grid), unit)
        offset = np.broadcast_to(offset, design.shape[:-1])
        begin = np.ones(len(self.errors)) if self.start is None else self.start
        columns = [design[..., i] for i in range(design.shape[-1])]
        weighted = [column * self.weights for column in columns]
        moments = [self.errors @ w.T - begin[:, None] * _weighted_sum(offset, w) for w in weighted]
        squares = [_weighted_sum(w, c) for w, c in zip(weighted, columns, strict=True)]
        signed = self.form.non_negative
        pull = 2 * begin[:, None] * (self.errors @ (offset * self.weights).T)
        explained: FloatArray = pull - begin[:, None] ** 2 * (offset**2 @ self.weights)
        if len(columns) == 1:
            explained += _one(moments[0], squares[0], signed[0]) * moments[0]
        elif len(columns) == 2:
            ends, cross = (squares[0], squares[1]), _weighted_sum(weighted[0], columns[1])
            solved = _two((moments[0], moments[1]), ends, cross, signed)
            explained += solved[0] * moments[0] + solved[1] * moments[1]
        return explained

    def _lowest(self, inner: FloatArray, rows: Rows) -> FloatArray:
        """The best [B, m] of candidates [B or 1, G, m]."""
        residuals = self._residuals(inner, rows)
        chosen = _weighted_sum(residuals, residuals).argmin(axis=1)
        everyone: FloatArray = np.broadcast_to(inner, (len(residuals), *inner.shape[1:]))
        lowest: FloatArray = everyone[np.arange(len(residuals)), chosen]
        return lowest

    def _improved(self, centre: FloatArray, rows: Rows) -> FloatArray:
        """One round: the best of the centre and its damped Gauss-Newton steps, [B, m]."""
        step = DIFFERENCE_STEP * (self.high - self.low)
        step = np.where(centre + step > self.high, -step, step)
        moved = centre[:, None] + step[:, None] * np.eye(len(self.axes))
        residuals = self._residuals(np.concatenate([centre[:, None], moved], axis=1), rows)
        jacobian = (residuals[:, 1:] - residuals[:, :1]) / step[..., None]
        slope = _weighted_sum(jacobian, residuals[:, :1])
        curvature = jacobian @ np.swapaxes(jacobian, -1, -2)
        size = np.maximum(np.einsum("bii->bi", curvature), 0.0) + 1e-12
        if len(self.axes) == 1:
            steps = -slope[:, None] / (curvature[:, :, 0] + LADDER * size)[..., None]
        else:
            diagonal = np.eye(len(self.axes)) * size[:, None]
            damped = curvature[:, None] + LADDER[:, None, None] * diagonal[:, None]
            steps = -np.linalg.solve(damped, slope[:, None, :, None])[..., 0]
        around = np.broadcast_to(self.compass, (len(centre), *self.compass.shape))
        tried = np.concatenate([np.zeros((len(centre), 1, len(self.axes))), steps, around], axis=1)
        return self._lowest(np.clip(centre[:, None] + tried, self.low, self.high), rows)

    def run(self) -> tuple[FloatArray, FloatArray]:
        """Parameters [B, p] and weighted sums of squares [B]."""
        ladders = [
            np.linspace(self.low[i], self.high[i], axis.count) for i, axis in enumerate(self.axes)
        ]
        grid = np.array(list(product(*ladders)), dtype=np.float64)
        centre = grid[self._explained(grid).argmax(axis=1)]
        going = np.arange(len(self.errors))
        for _ in range(SEARCH_ROUNDS if self.axes else 0):
            before = centre[going]
            after = self._improved(before, going)
            centre[going] = after
            moved = np.abs(after - before) > SETTLED * (self.high - self.low)
            going = going[moved.any(axis=1)]
            if not len(going):
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
