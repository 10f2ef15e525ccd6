"""Gradients that are cut to a norm: all together, or module by module."""

from torch import nn

from radsweep.specs import Recipe


def clip_gradients(paradigm: nn.Module, recipe: Recipe) -> None:
    """Scale gradients down, in place, where their norm is above ``recipe.clip_norm``.

    With ``clip_each_module`` it is the norm of each child of the paradigm by itself, and of the
    parameters that are in none: as DINOv2 does for its student's backbone and heads (Oquab et al.
    2023, train.py). Nobody waits for the device; of shares of weights it is the whole's norm.
    """
    if recipe.clip_norm is None:
        return
    groups = [list(paradigm.parameters())]
    if recipe.clip_each_module:
        children = [list(child.parameters()) for child in paradigm.children()]
        groups = [list(paradigm.parameters(recurse=False)), *children]
    for parameters in groups:
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
