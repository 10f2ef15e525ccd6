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
        share = known / known.sum(dim=0).clamp_min(1)
        self.share = share.T.repeat(len(strengths), 1).contiguous()
        self.targets = targets.nan_to_num(0.0).T.repeat(len(strengths), 1).contiguous()
        self.start = features.new_zeros(len(strengths) * labels, width + 1)

    def evaluate(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Values [P] and gradients [P, D + 1] at points [P, D + 1]; the bias is last."""
        inner, bias = point[:, :-1], point[:, -1:]
        logits = (inner * self.scale) @ self.rotated.T + bias
        loss = torch.nn.functional.softplus(logits) - self.targets * logits
        value = (self.share * loss).sum(dim=1) + 0.5 * (self.penalty * inner.square()).sum(dim=1)
        residual = self.share * (torch.sigmoid(logits) - self.targets)
        slope = (residual @ self.rotated) * self.scale + self.penalty * inner
        return value, torch.cat([slope, residual.sum(dim=1, keepdim=True)], dim=1)

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
    tolerance: float = 3e-6,
    iterations: int = 300,
) -> Path:
    """Optimal weights for every strength and label, by batched L-BFGS; biases are free.

    The problem of scikit-learn's LogisticRegression with C = 1 / (strength * known examples).

    Args:
        features: float64 [n, D], standardised.
        targets: [n, labels] of 1 and 0, NaN where unknown (left out of that label's mean).
        strengths: float64 [strengths], positive.
        tolerance: largest component of any gradient at which it stops.
        iterations: most that are made.
    """
    problems = _Problems(features, targets.to(features.dtype), strengths)
    point = problems.start
    value, slope = problems.evaluate(point)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(iterations):
        open_still = slope.abs().amax(dim=1, keepdim=True) >= tolerance
        if not bool(open_still.any()):
            break
        # A problem that is solved stays where it is: rounding alone would send it to and fro.
        direction = -_inverse_hessian_times(slope, steps, changes) * open_still
        moved, new_value, new_slope = _line_search(problems, point, value, slope, direction)
        steps, changes = [*steps, moved - point][-MEMORY:], [*changes, new_slope - slope][-MEMORY:]
        point, value, slope = moved, new_value, new_slope
    return problems.path(point)


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
    problems: _Problems, point: Tensor, value: Tensor, slope: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each problem's own step until its value falls enough; one that cannot improve stays."""
    descent = (slope * direction).sum(dim=1)
    size = torch.ones_like(value)
    for _ in range(HALVINGS):
        moved = point + size[:, None] * direction
        new_value, new_slope = problems.evaluate(moved)
        short = new_value > value + SUFFICIENT * size * descent + ROUNDING * value.abs()
        if not bool(short.any()):
            return moved, new_value, new_slope
        size = torch.where(short, size / 2, size)
    moved = torch.where(short[:, None], point, moved)
    return moved, *problems.evaluate(moved)
