"""Options that a recipe must ask for: SigLIP's bias, Gram anchoring. Unasked, nothing is there."""

import copy
import itertools
from pathlib import Path

import pytest
import torch

from radsweep.errors import SpecError
from radsweep.models.weights import load_start
from radsweep.paradigms.dinov2 import DinoV2
from radsweep.paradigms.gram import gram_loss, is_due
from radsweep.paradigms.image_text import ImageText
from radsweep.pretrain.loop import make_optimiser
from tests.paradigms.test_paradigms import steps
from tests.paradigms.tiny import batch, build, recipe


def test_gram_loss_is_the_mean_squared_difference_of_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    own, held = torch.randn(2, 5, 4, generator=generator), torch.randn(2, 5, 7, generator=generator)
    total = 0.0
    for crop in range(2):
        for i in range(5):
            for j in range(5):
                one = torch.cosine_similarity(own[crop, i], own[crop, j], dim=0)
                other = torch.cosine_similarity(held[crop, i], held[crop, j], dim=0)
                total += float((one - other) ** 2) / 50
    assert float(gram_loss(own, held)) == pytest.approx(total, abs=1e-6)
    assert float(gram_loss(own, 3.0 * own)) < 1e-12


def test_the_anchor_stays_until_a_refresh_is_due() -> None:
    made = recipe("dinov2", gram_weight=1.0, gram_from=0.25, gram_refresh=0.5, warmup=0.0)
    paradigm = build(made)
    assert isinstance(paradigm, DinoV2) and paradigm.anchor is not None
    start = copy.deepcopy(paradigm.anchor.state_dict())
    assert "gram" not in paradigm.losses(batch(paradigm), 0.0)
    assert "gram" in paradigm.losses(batch(paradigm), 0.25)
    optimiser = make_optimiser(paradigm, made)
    steps(paradigm, made, 0, 1, 4, optimiser)
    held = paradigm.anchor.state_dict()
    assert all(torch.equal(held[name], start[name]) for name in start)
    assert not torch.equal(
        paradigm.encoder.state_dict()["model.pos_embed"], start["model.pos_embed"]
    )
    steps(paradigm, made, 1, 2, 4, optimiser)
    held, teacher = paradigm.anchor.state_dict(), paradigm.encoder.state_dict()
    assert all(torch.equal(held[name], teacher[name]) for name in teacher)
    assert not any(parameter.requires_grad for parameter in paradigm.anchor.parameters())


def test_a_refresh_is_due_once_in_every_interval() -> None:
    shares = [step / 10 for step in range(11)]
    due = [b for a, b in itertools.pairwise(shares) if is_due(a, b, 0.25)]
    assert due == [0.3, 0.5, 0.8, 1.0]
    assert not is_due(0.0, 1.0, None)


def test_without_gram_weight_there_is_no_anchor() -> None:
    assert not [name for name in build(recipe("dinov2")).state_dict() if "anchor" in name]
    with pytest.raises(SpecError, match="gram_refresh is 0"):
        build(recipe("dinov2", gram_refresh=0.0))


def test_a_tower_trained_by_one_loss_goes_on_with_the_other(tmp_path: Path) -> None:
    plain = build(recipe("clip"))
    assert isinstance(plain, ImageText) and plain.logit_bias is None
    plain.save(tmp_path)
    sigmoid = build(recipe("clip", loss="sigmoid"), load_start(tmp_path), seed=1)
    assert isinstance(sigmoid, ImageText) and sigmoid.logit_bias is not None
    assert sigmoid.logit_bias.item() == -10.0
    assert torch.equal(sigmoid.text_projection, plain.text_projection)
    sigmoid.save(tmp_path)
    back = build(recipe("clip"), load_start(tmp_path), seed=2)
    assert "logit_bias" not in back.state_dict()
    with pytest.raises(SpecError, match="known: softmax, sigmoid"):
        build(recipe("clip", loss="hinge"))


def test_the_sigmoid_loss_learns_and_its_bias_is_logged_and_never_decayed() -> None:
    made = recipe("clip", loss="sigmoid", temperature=0.1, learning_rate=3e-3)
    paradigm = build(made)
    totals = steps(paradigm, made, 0, 60, 60, make_optimiser(paradigm, made))
    assert sum(totals[-5:]) < 0.95 * sum(totals[:5])
    assert paradigm.monitors()["logit_bias"] != -10.0
    for group in paradigm.parameter_groups(made):
        if any(p is paradigm.logit_bias for p in group["params"]):  # type: ignore[attr-defined]
            assert group["weight_decay_scale"] == 0.0
