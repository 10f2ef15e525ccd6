"""Activations that are computed anew in the backward pass are the very same: random paths that are
dropped, running moments, losses, gradients and weights."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.models.backbone import build_backbone
from radsweep.paradigms.base import Paradigm
from radsweep.specs import Recipe
from tests.paradigms.test_ranks import recipes, train
from tests.paradigms.tiny import batch, build, recipe
from tests.pretrain.toy import Toy

DAVIT = {
    "depths": "1,1,3,1", "embed_dims": "16,32,32,32", "num_heads": "1,2,2,2", "window_size": 2,
    "in_chans": 1, "drop_path_rate": 0.3,
}  # fmt: skip
CASES = {
    "clip": recipes()["clip"],
    "unicl": recipes()["unicl"],
    "batch norm": recipes()["batch norm"],
    "gram": recipes()["gram"],
    "davit": recipe("clip", encoder="davit_tiny", encoder_settings=DAVIT, image_size=64),
    "dropped paths": recipe("dinov2", drop_path=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_end_with_the_very_bits(name: str) -> None:
    left = []
    for anew in (False, True):
        torch.manual_seed(3)
        left.append(train(CASES[name], 0, 1, activation_checkpointing=anew))
        left[-1]["random state"] = torch.get_rng_state()
    plain, found = left
    assert plain.keys() == found.keys()
    assert [key for key in plain if not torch.equal(plain[key], found[key])] == []


def bytes_held(paradigm: Paradigm, given: dict[str, Tensor]) -> int:
    """Of tensors that the graph of a step keeps, each memory once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in paradigm.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = paradigm.losses(given, 0.5)
    assert terms
    return sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("made", [recipe("clip", text_layers=2), CASES["davit"]])
def test_less_is_kept_for_the_backward_pass(made: Recipe) -> None:
    paradigm = build(made)
    given = batch(paradigm, 8)
    whole = bytes_held(paradigm, given)
    for tower in paradigm.towers():
        tower.checkpoint_activations()
    assert bytes_held(paradigm, given) < 0.5 * whole


@pytest.mark.parametrize("name", ["clip", "davit"])
def test_no_block_is_computed_more_than_twice(name: str) -> None:
    paradigm, calls = build(CASES[name]), Counter[str]()
    for place, module in paradigm.encoder.named_modules():
        module.register_forward_pre_hook(lambda *_, place=place: calls.update([place]))
    paradigm.encoder.checkpoint_activations()
    given = batch(paradigm, 4)
    torch.stack(list(paradigm.losses(given, 0.5).values())).sum().backward()
    assert max(calls.values()) == 2


def test_what_cannot_compute_anew_says_so() -> None:
    with pytest.raises(SpecError, match="Toy has no Backbone or TextTower"):
        Toy().towers()
    with pytest.raises(SpecError, match="no activation checkpointing for encoder"):
        build_backbone("inception_v3", 96, {}, 0.5, 0.25).checkpoint_activations()
