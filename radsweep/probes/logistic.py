"""All logistic regressions of a probe at once: every label at every strength of L2.

The problems are independent and convex. They share the features, so that one rotation to the
features' principal axes preconditions them all, and one matrix product an iteration serves them
all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY = 10
"""Pairs that L-BFGS keeps (Nocedal and Wright 2006, section 7.2)."""
SUFFICIENT = 1e-4
"""Of Armijo's condition (Nocedal and Wright 2006, equation 3.4)."""
HALVINGS = 30
IMAGES_AT_ONCE = 4096
ROUNDING = 1e-14
"""Relative rise of a value that is taken for none."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """Optima of all problems."""

    weights: Tensor
    """[strengths, labels, D]."""
    biases: Tensor
    """[strengths, labels]."""

    def logits(self, features: Tensor) -> Tensor:
        """[strengths, labels, n] of features [n, D]."""
        return self.weights @ features.T + self.biases[:, :, None]


class _Problems:
    """Mean log loss over known labels + strength / 2 * |w|^2, in preconditioned coordinates.

    With X^T X / n = Q E Q^T, the Hessian of the log loss is at most Q (E / 4) Q^T (Boehning and
    Lindsay 1988), so that w = Q z / sqrt(E / 4 + strength) has a Hessian near the identity or below
    it.
    """

    def __init__(self, features: Tensor, targets: Tensor, strengths: Tensor) -> None:
        images, width = features.shape
        values, self.axes = torch.linalg.eigh(features.T @ features / images)
        self.rotated = features @ self.axes
        scale = (values.clamp_min(0)[None] / 4 + strengths[:, None]).rsqrt()
        labels = targets.shape[1]
        self.shape = (len(strengths), labels)
        self.scale = scale.repeat_interleave(labels, dim=0)
        self.penalty = strengths.repeat_interleave(labels)[:, None] * self.scale.square()
        known = torch.isfinite(targets)
        self.share = (known / known.sum(dim=0).clamp_min(1)).T.contiguous()
        self.targets = targets.nan_to_num(0.0).T.contiguous()
        self.label = torch.arange(labels, device=features.device).repeat(len(strengths))
        self.start = features.new_zeros(len(strengths) * labels, width + 1)

    def evaluate(self, point: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Values [p] and gradients [p, D + 1] of the problems ``rows`` [p]; the bias is last."""
        inner, bias = point[:, :-1], point[:, -1:]
        scale, penalty, label = self.scale[rows], self.penalty[rows], self.label[rows]
        value = 0.5 * (penalty * inner.square()).sum(dim=1)
        slope = torch.cat([penalty * inner, torch.zeros_like(bias)], dim=1)
        scaled = inner * scale
        # Some images at a time, so that logits and residuals stay in the cache.
        for start in range(0, len(self.rotated), IMAGES_AT_ONCE):
            part = slice(start, start + IMAGES_AT_ONCE)
            features, share = self.rotated[part], self.share[label, part]
            targets = self.targets[label, part]
            logits = torch.addmm(bias, scaled, features.T)
            loss = torch.nn.functional.softplus(logits).addcmul_(targets, logits, value=-1)
            value += (share * loss).sum(dim=1)
            residual = logits.sigmoid_().sub_(targets).mul_(share)
            slope[:, :-1] += (residual @ features) * scale
            slope[:, -1] += residual.sum(dim=1)
        return value, slope

    def path(self, point: Tensor) -> Path:
        """Back to the features' own coordinates."""
        weights = (point[:, :-1] * self.scale) @ self.axes.T
        return Path(
            weights=weights.reshape(*self.shape, -1), biases=point[:, -1].reshape(self.shape)
        )


def logistic_path(
    features: Tensor,
    targets: Tensor,
    strengths: Tensor,
    *,
    tolerance: float = 1e-7,
    iterations: int = 300,
) -> Path:
    """Optimal weights for every strength and label, by batched L-BFGS; biases are free.

    The problem of scikit-learn's LogisticRegression with C = 1 / (strength * known examples).

    Args:
        features: float64 [n, D], standardised.
        targets: [n, labels] of 1 and 0, NaN where unknown (left out of that label's mean).
        strengths: float64 [strengths], positive.
        tolerance: largest component of any gradient, in preconditioned coordinates, at which it
            stops. A rare label's curvature there is about 4 p (1 - p), so that what is left of its
            weights' error is larger than this: 1e-7 leaves 2e-5 of them.
        iterations: most that are made.
    """
    problems = _Problems(features, targets.to(features.dtype), strengths)
    solved = problems.start
    rows = torch.arange(len(solved), device=solved.device)
    point = solved
    value, slope = problems.evaluate(point, rows)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(iterations):
        # A problem that is solved is left alone: it costs no more, and rounding cannot move it.
        still = slope.abs().amax(dim=1) >= tolerance
        if not bool(still.all()):
            solved[rows] = point
            rows, point, value, slope = rows[still], point[still], value[still], slope[still]
            steps, changes = [one[still] for one in steps], [one[still] for one in changes]
            if len(rows) == 0:
                break
        direction = -_inverse_hessian_times(slope, steps, changes)
        moved, new_value, new_slope = _line_search(problems, rows, point, value, slope, direction)
        steps, changes = [*steps, moved - point][-MEMORY:], [*changes, new_slope - slope][-MEMORY:]
        point, value, slope = moved, new_value, new_slope
    solved[rows] = point
    return problems.path(solved)


def _inverse_hessian_times(slope: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4), each row its own problem."""
    result = slope.clone()
    # A problem that did not move adds nothing: its curvature is 0 and so is its factor.
    factors = []
    for step, change in zip(reversed(steps), reversed(changes), strict=True):
        curvature = (step * change).sum(dim=1, keepdim=True)
        inverse = torch.where(curvature > 1e-30, 1 / curvature.clamp_min(1e-30), 0.0)
        factor = inverse * (step * result).sum(dim=1, keepdim=True)
        result = result - factor * change
        factors.append((inverse, factor))
    if steps:
        curvature = (steps[-1] * changes[-1]).sum(dim=1, keepdim=True)
        size = changes[-1].square().sum(dim=1, keepdim=True)
        result = result * torch.where(size > 1e-30, curvature / size.clamp_min(1e-30), 1.0)
    for (step, change), (inverse, factor) in zip(
        zip(steps, changes, strict=True), reversed(factors), strict=True
    ):
        back = inverse * (change * result).sum(dim=1, keepdim=True)
        result = result + step * (factor - back)
    return result


def _line_search(
    problems: _Problems,
    rows: Tensor,
    point: Tensor,
    value: Tensor,
    slope: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each problem's own step until its value falls enough; one that cannot improve stays."""
    descent = (slope * direction).sum(dim=1)
    size = torch.ones_like(value)
    moved = point + direction
    new_value, new_slope = problems.evaluate(moved, rows)
    for _ in range(HALVINGS):
        short = new_value > value + SUFFICIENT * size * descent + ROUNDING * value.abs()
        if not bool(short.any()):
            return moved, new_value, new_slope
        size[short] /= 2
        moved[short] = point[short] + size[short, None] * direction[short]
        new_value[short], new_slope[short] = problems.evaluate(moved[short], rows[short])
    moved[short], new_value[short], new_slope[short] = point[short], value[short], slope[short]
    return moved, new_value, new_slope
