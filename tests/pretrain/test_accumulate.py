"""Part by part, a batch is still one batch: also where paths are dropped at random."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.accumulate import backward_in_parts
from tests.paradigms.tiny import batch, build, recipe
from tests.pretrain.toy import Toy

DROP = {"encoder_settings": {
    "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1,
    "drop_path_rate": 0.5,
}}  # fmt: skip


def gradients(paradigm: Paradigm) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in paradigm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_both_passes_of_a_part_drop_the_same_paths(name: str) -> None:
    made = recipe("clip", **DROP) if name == "clip" else recipe("dinov2", drop_path=0.5)
    paradigm = build(made)
    given = batch(paradigm, 8)
    torch.manual_seed(7)
    terms = backward_in_parts(paradigm, given, 0.2, 3, nullcontext)
    found, after = gradients(paradigm), torch.get_rng_state()

    # The slow version: one graph over the same parts, drawn from the same random state.
    paradigm = build(made)
    torch.manual_seed(7)
    parts = [{k: v[i : i + 3] for k, v in given.items()} for i in (0, 3, 6)]
    features = [torch.cat(p) for p in zip(*map(paradigm.features, parts), strict=True)]
    expected = paradigm.terms(features, given, 0.2)
    torch.stack(list(expected.values())).sum().backward()
    assert {n: t.item() for n, t in terms.items()} == pytest.approx(
        {n: t.item() for n, t in expected.items()}
    )
    assert torch.equal(after, torch.get_rng_state())
    for key, value in gradients(paradigm).items():
        assert torch.allclose(found[key], value, atol=1e-6, rtol=1e-4), key


def test_summing_the_losses_of_parts_would_be_another_gradient() -> None:
    paradigm = build(recipe("clip"))
    given = batch(paradigm, 8)
    backward_in_parts(paradigm, given, 0.2, 4, nullcontext)
    right = gradients(paradigm)["image_projection"]
    paradigm.zero_grad()
    for i in (0, 4):
        part = {k: v[i : i + 4] for k, v in given.items()}
        (paradigm.losses(part, 0.2)["contrast"] / 2).backward()
    naive = gradients(paradigm)["image_projection"]
    assert (naive - right).norm() > 0.01 * right.norm()


def test_bf16_parts_are_close_to_the_bf16_whole() -> None:
    paradigm = build(recipe("clip"))
    given = batch(paradigm, 8)

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    backward_in_parts(paradigm, given, 0.2, 3, autocast)
    parts = gradients(paradigm)
    paradigm.zero_grad()
    with autocast():
        loss = paradigm.losses(given, 0.2)["contrast"]
    loss.backward()
    for key, value in gradients(paradigm).items():
        assert (parts[key] - value).norm() <= 0.05 * value.norm() + 1e-5, key


def test_what_a_part_would_change_is_refused() -> None:
    normed = {"encoder": "resnet10t", "encoder_settings": {"in_chans": 1}}
    paradigm = build(recipe("clip", **normed))
    with pytest.raises(SpecError, match="batch normalisation"):
        backward_in_parts(paradigm, batch(paradigm, 4), 0.0, 2, nullcontext)
    toy = Toy()
    with pytest.raises(SpecError, match="Toy takes a batch as a whole"):
        backward_in_parts(toy, {"image": torch.zeros(4, 1, 4, 4)}, 0.0, 2, nullcontext)
