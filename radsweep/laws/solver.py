"""Minimise a form's squared error over its axes, for one curve or a thousand draws of it at once.

Variable projection: a grid over the non-linear axes, an exact non-negative weighted least-squares
solve for the rest at every grid point, then a bounded Levenberg-Marquardt search from the best one,
every row of draws with its own damping and until it gains nothing.
There are no starting values and no local optimum of the linear part, and one curve and B bootstrap
draws of it go through the same arithmetic.
"""

from __future__ import annotations

from itertools import product
from typing import final

import numpy as np
from numpy.typing import NDArray

from radsweep.laws.forms import FloatArray, Form

# The local search: Levenberg-Marquardt on the projected residual. Each row keeps its own damping
# and tries these multiples of it at once: a longer and a shorter step than the one that helped.
NEARBY = np.array([1e-2, 1.0, 1e2])
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-9, 1e6
# A row that gains nothing so, or only by short steps, is given all there is: a full Gauss-Newton
# step to a short one along the gradient, and steps along one axis, as shares of its range, which
# pass the kinks where a coefficient reaches 0.
LADDER = np.array([1e-8, 1e-4, 1e-2, 1e-1, 1.0, 1e1, 1e3])
COMPASS = (1e-2, 1e-3, 1e-4, 1e-5)
SEARCH_ROUNDS = 60
# A round that gains less than this share of the sum of squares is the last of its row; so is one
# that leaves no more of it than rounding does of the data's own squares.
SETTLED, ROUNDED = 1e-9, 1e-28
DIFFERENCE_STEP = 1e-6
DRAWS_AT_ONCE, GRID_ROWS = 2000, 500
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
    *,
    without_floor: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Solve the linear part exactly for every draw and shape.

    Args:
        form: the law, with at most two linear parameters.
        images: [n].
        errors: [B, n].
        weights: [n].
        shape: [B or 1, G, m] non-linear parameters.
        start: [B] or None.
        without_floor: hold the first coefficient at 0.

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
    if without_floor:
        rest = [_one(moments[i], squares[i], form.non_negative[i]) for i in range(1, count)]
        solved = (np.zeros_like(moments[0]), *rest)
    elif count == 1:
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
        self.has_floor = form.linear[:1] == ("floor",)
        self.low = np.array([axis.ends()[0] for axis in self.axes])
        self.high = np.array([axis.ends()[1] for axis in self.axes])
        units = np.eye(len(self.axes)) * (self.high - self.low)
        self.compass = np.concatenate([sign * step * units for step in COMPASS for sign in (1, -1)])

    def _shape(self, inner: FloatArray) -> FloatArray:
        columns = [axis.outer(inner[..., i]) for i, axis in enumerate(self.axes)]
        stacked: FloatArray = np.stack(columns, axis=-1) if columns else inner
        return stacked

    def _residuals(
        self, inner: FloatArray, rows: Rows, *, without_floor: bool = False
    ) -> FloatArray:
        start = None if self.start is None else self.start[rows]
        return _project(
            *(self.form, self.images, self.errors[rows], self.weights),
            *(self._shape(inner), start),
            without_floor=without_floor,
        )[1]

    def _beginning(self) -> FloatArray:
        """The best point of the grid for every row, [B, m].

        All draws share the designs of the grid, and a start is a factor of its offset: matrix
        products, with the start as one more column of the draws. Rounding costs this more than
        ``_project``, which is why it only says where to begin.
        """
        ladders = [
            np.linspace(self.low[i], self.high[i], axis.count) for i, axis in enumerate(self.axes)
        ]
        grid = np.array(list(product(*ladders)), dtype=np.float64)
        unit = None if self.start is None else np.ones(len(grid))
        design, offset = self.form.terms(self.images, self._shape(grid), unit)
        offset = np.broadcast_to(offset, design.shape[:-1])
        columns = [design[..., i] for i in range(design.shape[-1])]
        # Columns of length 1 under the weights.
        columns = [c / np.sqrt(_weighted_sum(c * self.weights, c))[:, None] for c in columns]
        weighted = [column * self.weights for column in columns]
        across = [np.column_stack([w, -_weighted_sum(offset, w)]).T for w in weighted]
        cross = _weighted_sum(weighted[0], columns[1]) if len(columns) == 2 else np.zeros(0)
        pull = np.column_stack([2 * offset * self.weights, -(offset**2) @ self.weights]).T
        begin = np.ones(len(self.errors)) if self.start is None else self.start
        beside = np.column_stack([self.errors, begin])
        chosen = []
        for first in range(0, len(beside), GRID_ROWS):
            rows = beside[first : first + GRID_ROWS]
            explained = self._explained([rows @ column for column in across], cross)
            if offset.any():
                explained = explained + (rows[:, -1:] * rows) @ pull
            chosen.append(explained.argmax(axis=1))
        best: FloatArray = grid[np.concatenate(chosen)]
        return best

    def _explained(self, moments: list[FloatArray], cross: FloatArray) -> FloatArray:
        """The sum of squares [B, G] that columns of length 1 explain, from their moments [B, G].

        A scalar 0 stands for no column. The moments may be overwritten.
        """
        signed = self.form.non_negative
        if not moments:
            return np.zeros(())
        if len(moments) == 1:
            held = np.maximum(moments[0], 0.0, out=moments[0]) if signed[0] else moments[0]
            return np.square(held, out=held)
        ones = np.ones(len(cross))
        solved = _two((moments[0], moments[1]), (ones, ones), cross, signed)
        return solved[0] * moments[0] + solved[1] * moments[1]

    def _slopes(
        self, centre: FloatArray, rows: Rows, *, without_floor: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """At centres [B, m]: gradient [B, m], Gauss-Newton curvature [B, m, m], sum of squares [B].

        An axis that its bound holds has neither gradient nor curvature, so no step moves it.
        """
        step = DIFFERENCE_STEP * (self.high - self.low)
        step = np.where(centre + step > self.high, -step, step)
        moved = centre[:, None] + step[:, None] * np.eye(len(self.axes))
        everywhere = np.concatenate([centre[:, None], moved], axis=1)
        residuals = self._residuals(everywhere, rows, without_floor=without_floor)
        jacobian = (residuals[:, 1:] - residuals[:, :1]) / step[..., None]
        slope = _weighted_sum(jacobian, residuals[:, :1])
        held = ((centre <= self.low) & (slope > 0)) | ((centre >= self.high) & (slope < 0))
        jacobian = np.where(held[..., None], 0.0, jacobian)
        curvature = jacobian @ np.swapaxes(jacobian, -1, -2)
        here = _weighted_sum(residuals[:, 0], residuals[:, 0])
        return np.where(held, 0.0, slope), curvature, here

    def _steps(self, slope: FloatArray, curvature: FloatArray, damping: FloatArray) -> FloatArray:
        """Damped Gauss-Newton steps [B, L, m] for dampings [B, L]."""
        size = np.maximum(np.einsum("bii->bi", curvature), 0.0) + 1e-12
        if len(self.axes) == 1:
            one: FloatArray = -slope[:, None] / (curvature[:, :, 0] + damping * size)[..., None]
            return one
        diagonal = np.eye(len(self.axes)) * size[:, None]
        damped = curvature[:, None] + damping[..., None, None] * diagonal[:, None]
        several: FloatArray = -np.linalg.solve(damped, slope[:, None, :, None])[..., 0]
        return several

    def _best_of(
        self, centre: FloatArray, moves: FloatArray, rows: Rows
    ) -> tuple[FloatArray, FloatArray, Rows]:
        """The best [B, m] of the centre's moves [B, G, m], its sum of squares, and which it is."""
        tried = np.clip(centre[:, None] + moves, self.low, self.high)
        residuals = self._residuals(tried, rows)
        sums = _weighted_sum(residuals, residuals)
        chosen = sums.argmin(axis=1)
        everyone = np.arange(len(sums))
        return tried[everyone, chosen], sums[everyone, chosen], chosen

    def _everything(
        self, centre: FloatArray, slope: FloatArray, curvature: FloatArray, rows: Rows
    ) -> tuple[FloatArray, FloatArray]:
        """The best [B, m] of all the steps there are from centres [B, m], and its sum of squares.

        A valley often ends where the floor reaches 0; steps of the law without its floor, whose sum
        of squares lies nowhere below, lead along that edge.
        """
        ladder = np.broadcast_to(LADDER, (len(rows), len(LADDER)))
        around = np.broadcast_to(self.compass, (len(rows), *self.compass.shape))
        moves = [self._steps(slope, curvature, ladder), around]
        if self.has_floor:
            edge = self._slopes(centre, rows, without_floor=True)
            moves.append(self._steps(edge[0], edge[1], ladder))
        return self._best_of(centre, np.concatenate(moves, axis=1), rows)[:2]

    def _descend(self, centre: FloatArray) -> FloatArray:
        """Go down from every row's centre [B, m] until nothing is gained; where each ends."""
        if not self.axes:
            return centre
        centre = centre.copy()
        going = np.arange(len(centre))
        damping = np.full(len(centre), FIRST_DAMPING)
        enough = ROUNDED * _weighted_sum(self.errors**2, self.weights)
        for _ in range(SEARCH_ROUNDS):
            here = centre[going]
            slope, curvature, before = self._slopes(here, going)
            steps = self._steps(slope, curvature, damping[going, None] * NEARBY)
            # Where the longest step promises nothing, the gradient is 0.
            hopes = -_weighted_sum(steps[:, 0], slope) > SETTLED * before
            going, here, before = going[hopes], here[hopes], before[hopes]
            slope, curvature, steps = slope[hopes], curvature[hopes], steps[hopes]
            if not len(going):
                break
            moved, after, chosen = self._best_of(here, steps, going)
            gains = before - after > SETTLED * before
            factor = np.where(gains, NEARBY[chosen], NEARBY[-1])
            damping[going] = np.clip(damping[going] * factor, LEAST_DAMPING, MOST_DAMPING)
            crawls = ~gains | (damping[going] > FIRST_DAMPING)
            if crawls.any():
                tried, lowest = self._everything(
                    here[crawls], slope[crawls], curvature[crawls], going[crawls]
                )
                is_lower = lowest < after[crawls]
                moved[crawls] = np.where(is_lower[:, None], tried, moved[crawls])
                after[crawls] = np.minimum(lowest, after[crawls])
            is_lower = after < before
            centre[going[is_lower]] = moved[is_lower]
            going = going[(before - after > SETTLED * before) & (after > enough[going])]
        return centre

    def run(self) -> tuple[FloatArray, FloatArray]:
        """Parameters [B, p] and weighted sums of squares [B]."""
        centre = self._descend(self._beginning())
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
