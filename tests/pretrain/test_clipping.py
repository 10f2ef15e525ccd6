"""Gradients are cut to a norm as a loop over modules and numbers would, and by default as ever."""

import dataclasses
import math

import pytest
import torch

from radsweep.errors import SpecError
from radsweep.pretrain.clipping import clip_gradients
from radsweep.specs import Budget, Cell, Recipe, Subset
from tests.paradigms.tiny import batch, build, recipe

NORM = 0.05
MODULES = {
    "dinov2": ({"separate_patch_head": True}, {"student", "head", "patch_head"}),
    "clip": ({}, {"encoder", "text", ""}),
}


def gradients(made: Recipe) -> dict[str, torch.Tensor]:
    """By name, of one step, after clipping."""
    paradigm = build(made)
    torch.stack(list(paradigm.losses(batch(paradigm), 0.5).values())).sum().backward()
    clip_gradients(paradigm, made)
    return {n: p.grad for n, p in paradigm.named_parameters() if p.grad is not None}


def norm(found: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(x) ** 2 for one in found for x in one.reshape(-1).tolist()))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("each", [False, True])
def test_each_module_is_cut_by_its_own_norm_or_all_by_one(name: str, each: bool) -> None:
    given, modules = MODULES[name]
    plain = gradients(recipe(name, clip_norm=None, **given))
    found = gradients(recipe(name, clip_norm=NORM, clip_each_module=each, **given))

    def module_of(parameter: str) -> str:
        return parameter.split(".")[0] if each and "." in parameter else ""

    groups = {
        module: [n for n in plain if module_of(n) == module] for module in map(module_of, plain)
    }
    assert set(groups) == (modules if each else {""})
    larger = 0
    for names in groups.values():
        whole = norm([plain[n] for n in names])
        larger += whole > NORM
        factor = min(1.0, NORM / (whole + 1e-6))
        for n in names:
            torch.testing.assert_close(found[n], plain[n] * factor, rtol=1e-5, atol=1e-9)
    assert larger


def test_a_recipe_that_does_not_ask_has_the_key_that_it_had() -> None:
    def key(made: Recipe) -> str:
        subset = Subset(corpus="toy@1", images=8)
        return Cell(recipe=made, subset=subset, budget=Budget(steps=1, batch_size=8)).key

    plain = recipe("dinov2")
    assert key(dataclasses.replace(plain, clip_each_module=False)) == key(plain)
    assert key(dataclasses.replace(plain, clip_each_module=True)) != key(plain)
    with pytest.raises(SpecError, match="clips nothing"):
        dataclasses.replace(plain, clip_norm=None, clip_each_module=True)
