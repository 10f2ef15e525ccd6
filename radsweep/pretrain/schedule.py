"""Schedules as pure functions of the share of the budget spent: one shape for every data scale."""

import math

from torch.optim import Optimizer

from radsweep.specs import Recipe


def cosine(start: float, end: float, share: float) -> float:
    """From ``start`` at share 0 to ``end`` at share 1 along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def learning_rate(recipe: Recipe, spent: float) -> float:
    """Linear warm-up over ``recipe.warmup`` of the budget, then a cosine to the final rate.

    With ``recipe.cooldown`` the peak is held instead, and falls linearly over that last share: the
    trunk is the same whatever the budget (Haegele et al. 2024, "Scaling laws and compute-optimal
    training beyond fixed training durations"). To the bit where nothing else follows the share of
    the budget: ``warmup`` 0, no ``weight_decay_end``, no paths dropped at random, and a paradigm
    without schedules of its own (``clip`` and ``unicl``; ``dinov2`` has them). Then a checkpoint of
    a long cell at the start of a shorter one's cool-down (``keep_every_steps``) is the shorter's.
    """
    if spent < recipe.warmup:
        return recipe.learning_rate * spent / recipe.warmup
    if recipe.cooldown is not None:
        left = min(1.0, (1.0 - min(spent, 1.0)) / recipe.cooldown)
        return recipe.final_learning_rate + (
            (recipe.learning_rate - recipe.final_learning_rate) * left
        )
    share = (spent - recipe.warmup) / (1.0 - recipe.warmup)
    return cosine(recipe.learning_rate, recipe.final_learning_rate, share)


def weight_decay(recipe: Recipe, spent: float) -> float:
    """Constant, or a cosine to ``recipe.weight_decay_end`` (DINOv2 raises it from 0.04 to 0.4)."""
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return cosine(recipe.weight_decay, recipe.weight_decay_end, spent)


def apply(optimiser: Optimizer, recipe: Recipe, spent: float) -> tuple[float, float]:
    """Set both for every parameter group; gives both as they are before the groups' own scales."""
    rate, decay = learning_rate(recipe, spent), weight_decay(recipe, spent)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["learning_rate_scale"]
        group["weight_decay"] = decay * group["weight_decay_scale"]
    return rate, decay
