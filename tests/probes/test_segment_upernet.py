from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from radsweep.errors import SpecError
from radsweep.probes.base import Labelled
from radsweep.probes.segment_upernet import Decoder, SegmentUperNet
from radsweep.tasks.overlap import dice
from tests.probes import toy

CPU = torch.device("cpu")
RATE = {"learning_rate": 5e-3}


def _score(leak: bool) -> float:
    probe = SegmentUperNet.build({"steps": 300, "batch_size": 8})
    fitted = probe.fit(toy.masks(120, leak, 1), toy.masks(30, leak, 2), RATE, 5, CPU)
    test = toy.masks(60, leak, 3)
    return float(np.nanmean(dice(test.targets, fitted.predict(test.features))))


def test_it_draws_what_the_maps_know_and_little_from_noise() -> None:
    assert _score(leak=True) > 0.9
    assert _score(leak=False) < 0.3


def test_its_head_is_the_decoder_of_transformers_upernet_tensor_by_tensor() -> None:
    width, classes = 16, 2
    whole = UperNetForSemanticSegmentation(
        UperNetConfig(hidden_size=width, num_labels=classes * 64, use_auxiliary_head=False)
    )
    ours = Decoder([24] * 4, width, classes, (32, 24)).eval()
    theirs = whole.decode_head.state_dict()
    found = ours.head.state_dict()
    # What reads the encoder's own widths there reads ``width`` here, behind a projection.
    others = {n for n in found if found[n].shape != theirs[n].shape}
    assert found.keys() == theirs.keys()
    assert all(
        name.endswith("conv.weight") and name.startswith(("psp_modules", "bottleneck", "lateral"))
        for name in others
    )
    maps = [torch.randn(2, 24, 64 // 2**i, 48 // 2**i) for i in range(4)]
    sides = [(32, 24), (16, 12), (8, 6), (4, 3)]
    with torch.inference_mode():
        levels = [
            F.adaptive_avg_pool2d(p(m), s)
            for p, m, s in zip(ours.project, maps, sides, strict=True)
        ]
        drawn = ours(maps)
        expected = F.pixel_shuffle(ours.head(levels), 8)
    assert drawn.shape == (2, classes, 256, 192)
    torch.testing.assert_close(drawn, expected)


def test_the_head_starts_from_the_same_weights_whatever_the_encoders_shape() -> None:
    heads = []
    for channels in (64, 24):
        made = toy.masks(12, True, 1)
        maps = tuple(level[:, :channels] for level in made.features.maps)
        cut = Labelled(features=replace(made.features, maps=maps), targets=made.targets)
        fitted = SegmentUperNet.build({"steps": 1, "width": 8}).fit(
            cut, cut, {"learning_rate": 1e-12}, 5, CPU
        )
        heads.append(fitted._decoder.head.state_dict())  # type: ignore[attr-defined]
    for name, tensor in heads[0].items():
        if "running" not in name and "bias" not in name:
            torch.testing.assert_close(tensor, heads[1][name])


def test_a_mask_that_8_does_not_divide_and_a_pyramid_are_taken_and_one_image_a_batch_is_not() -> (
    None
):
    made = toy.masks(12, True, 1)
    level = made.features.maps[0]
    pyramid = (
        level.repeat(2, axis=2).repeat(2, axis=3),
        level,
        level[:, :, ::2, ::2],
        level[:, :5],
    )
    features = replace(made.features, maps=pyramid)
    cut = Labelled(features=features, targets=made.targets[:, :, :30, :27])
    fitted = SegmentUperNet.build({"steps": 2, "width": 8}).fit(cut, cut, RATE, 5, CPU)
    assert fitted.predict(features).shape == (12, toy.CLASSES, 30, 27)
    with pytest.raises(SpecError, match="at least 2"):
        SegmentUperNet.build({"batch_size": 1})
