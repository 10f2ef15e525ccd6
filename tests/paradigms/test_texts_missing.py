"""Batches in which few images have a text: never NaN, never a loss of 0 that nobody notices."""

import dataclasses

import numpy as np
import pytest
import torch

from radsweep.corpus.example import Stratum
from radsweep.errors import CellError
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.flops import stack
from tests.paradigms.tiny import build, examples, recipe

IMAGES = 8


def step(paradigm: Paradigm, texts: int) -> torch.Tensor:
    """Loss, after backward, of a batch of which so many images have a report, and none a label."""
    generator = torch.Generator().manual_seed(texts)
    silent = set(torch.randperm(IMAGES, generator=generator)[texts:].tolist())
    rows = [
        dataclasses.replace(example, report=None if i in silent else example.report, labels={})
        for i, example in enumerate(examples(IMAGES))
    ]
    viewer = paradigm.viewer()
    batch = stack(
        [viewer(row, np.random.default_rng(i), Stratum(i, IMAGES)) for i, row in enumerate(rows)]
    )
    loss = torch.stack(list(paradigm.losses(batch, 0.5).values())).sum()
    loss.backward()
    return loss.detach()


def gradients(paradigm: Paradigm) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in paradigm.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", ["clip", "unicl"])
@pytest.mark.parametrize("texts", [0, 1])
def test_a_batch_with_nothing_to_contrast_is_finite_and_ends_the_cell(
    name: str, texts: int
) -> None:
    paradigm = build(recipe(name))
    assert torch.isfinite(step(paradigm, texts))
    assert torch.isfinite(gradients(paradigm)).all()
    with pytest.raises(CellError, match=f"a batch had {texts} images with a text"):
        paradigm.judge(paradigm.monitors())


@pytest.mark.parametrize("name", ["clip", "unicl"])
def test_two_texts_are_enough_to_learn_from(name: str) -> None:
    paradigm = build(recipe(name))
    assert step(paradigm, 2) > 0
    assert gradients(paradigm).abs().sum() > 0
    assert paradigm.monitors()["logit_scale"] > 0


def test_a_silent_batch_is_not_forgotten_in_those_that_follow() -> None:
    # The figures of a step are read now and then, and the silent one may lie between.
    paradigm = build(recipe("clip"))
    for texts in (8, 0, 8):
        step(paradigm, texts)
    with pytest.raises(CellError, match="a batch had 0 images"):
        paradigm.judge(paradigm.monitors())
