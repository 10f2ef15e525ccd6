from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from radsweep.errors import SpecError
from radsweep.probes.base import Labelled
from radsweep.probes.segment_image import SegmentImage
from radsweep.probes.segment_linear import SegmentLinear
from radsweep.tasks.overlap import dice
from tests.probes import toy

CPU = torch.device("cpu")
RATE = {"learning_rate": 2e-2}


def _seen(images: int, leak: bool, seed: int) -> Labelled:
    """Masks whose x-ray shows them, and maps that leak them or not."""
    made = toy.masks(images, leak, seed)
    drawn = made.targets[:, 0] * 120 + made.targets[:, 1] * 60
    return replace(made, features=replace(made.features, images=(drawn + 40).astype(np.uint8)))


def _score(probe: SegmentLinear | SegmentImage, leak: bool) -> float:
    fitted = probe.fit(_seen(120, leak, 1), _seen(30, leak, 2), RATE, 5, CPU)
    test = _seen(60, leak, 3)
    return float(np.nanmean(dice(test.targets, fitted.predict(test.features))))


def test_a_linear_map_draws_what_is_linearly_there_and_nothing_from_noise() -> None:
    probe = SegmentLinear.build({"steps": 150, "batch_size": 8})
    assert _score(probe, leak=True) > 0.95
    assert _score(probe, leak=False) < 0.3


def test_decay_is_searched_where_it_has_a_range_and_takes_the_choice() -> None:
    settings = {"steps": 20, "batch_size": 8}
    plain = SegmentLinear.build(settings)
    ranged = SegmentLinear.build(settings | {"weight_decay_low": 1e-3, "weight_decay_high": 30.0})
    assert set(plain.space()) == {"learning_rate"}
    assert set(ranged.space()) == {"learning_rate", "weight_decay"}
    train, val = _seen(20, True, 1), _seen(20, True, 2)

    def weights(probe: SegmentLinear, **choice: float) -> torch.Tensor:
        fitted = probe.fit(train, val, RATE | choice, 5, CPU)
        return torch.cat([one.flatten() for one in fitted._decoder.parameters()])  # type: ignore[attr-defined]

    same = weights(ranged, weight_decay=1e-2)
    assert torch.equal(same, weights(plain))
    assert weights(ranged, weight_decay=30.0).norm() < 0.9 * same.norm()
    with pytest.raises(SpecError, match=r"weight_decay is 0\.01, but is searched from 0\.1 to 1"):
        SegmentLinear.build(settings | {"weight_decay_low": 0.1, "weight_decay_high": 1.0})


def test_the_control_draws_from_the_image_what_the_encoder_does_not_know() -> None:
    settings = {"steps": 150, "width": 32, "batch_size": 8}
    # Without the image no probe draws more than 0.3 of these, see above.
    assert _score(SegmentImage.build(settings | {"encoder": False}), leak=False) > 0.5
    beside = SegmentImage.build(settings)
    assert _score(beside, leak=False) > 0.4
    assert _score(beside, leak=True) > 0.9


def test_without_its_encoder_the_control_is_the_same_for_every_encoder() -> None:
    probe = SegmentImage.build({"steps": 5, "width": 8, "encoder": False})
    test = _seen(6, True, 3)
    masks = [
        probe.fit(_seen(20, leak, 1), _seen(20, leak, 1), RATE, 5, CPU) for leak in (True, False)
    ]
    both = [_seen(20, leak, 1).targets for leak in (True, False)]
    assert np.array_equal(*both)
    assert np.array_equal(*(fitted.predict(test.features) for fitted in masks))


def test_an_image_of_another_size_than_the_mask_and_a_mask_that_8_does_not_divide_are_taken() -> (
    None
):
    made = _seen(10, True, 1)
    large = F.interpolate(torch.from_numpy(made.features.images)[:, None], scale_factor=2)
    cut = Labelled(
        features=replace(made.features, images=large[:, 0].numpy()),
        targets=made.targets[:, :, :30, :27],
    )
    fitted = SegmentImage.build({"steps": 2, "width": 8}).fit(cut, cut, RATE, 0, CPU)
    assert fitted.predict(cut.features).shape == (10, toy.CLASSES, 30, 27)
    fitted = SegmentLinear.build({"steps": 2}).fit(cut, cut, RATE, 0, CPU)
    assert fitted.predict(cut.features).shape == (10, toy.CLASSES, 30, 27)


def test_the_linear_probe_takes_a_pyramid() -> None:
    made = toy.masks(12, True, 1)
    level = made.features.maps[0]
    pyramid = (level.repeat(2, axis=2).repeat(2, axis=3), level, level[:, :, ::2, ::2])
    whole = replace(made, features=replace(made.features, maps=pyramid))
    fitted = SegmentLinear.build({"steps": 3}).fit(whole, whole, RATE, 0, CPU)
    assert fitted.predict(whole.features).shape == made.targets.shape


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match="steps and batch_size"):
        SegmentLinear.build({"steps": 0})
    with pytest.raises(SpecError, match="width at least 2"):
        SegmentImage.build({"width": 1})
