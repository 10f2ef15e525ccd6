import numpy as np
import pytest

from radsweep.tasks.overlap import centre_line_dice, dice, skeleton


def _slow_dice(target: np.ndarray, predicted: np.ndarray) -> float:
    a = {tuple(point) for point in np.argwhere(target)}
    b = {tuple(point) for point in np.argwhere(predicted)}
    return 2 * len(a & b) / (len(a) + len(b))


def test_dice_equals_sets_of_pixels() -> None:
    generator = np.random.default_rng(0)
    target, predicted = (generator.random((2, 5, 3, 16, 16)) < 0.3).astype(np.uint8)
    found = dice(target, predicted)
    for i in range(5):
        for k in range(3):
            assert found[i, k] == pytest.approx(_slow_dice(target[i, k], predicted[i, k]))


def test_two_empty_masks_say_nothing_and_one_empty_mask_scores_0() -> None:
    empty, drawn = np.zeros((1, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)
    for score in (dice, centre_line_dice):
        assert np.isnan(score(empty, empty)[0])
        assert score(empty, drawn)[0] == 0
        assert score(drawn, empty)[0] == 0
        assert score(drawn, drawn)[0] == 1


def _tube(width: int, columns: slice = slice(None)) -> np.ndarray:
    mask = np.zeros((1, 32, 32), np.uint8)
    mask[0, 14 : 14 + width, columns] = 1
    return mask


def test_a_skeleton_lies_in_its_mask_and_is_thin() -> None:
    line = skeleton(_tube(5))
    assert (line <= _tube(5)).all()
    assert line.sum() < 2 * 32
    assert line.any(axis=1).sum() > 24


def test_centre_line_dice_forgives_width_and_not_gaps() -> None:
    whole, thin = _tube(5), _tube(3)
    broken = _tube(5)
    broken[0, :, 10:20] = 0
    assert centre_line_dice(whole, thin)[0] == pytest.approx(1.0, abs=0.05)
    assert dice(whole, thin)[0] == pytest.approx(0.75)
    assert centre_line_dice(whole, broken)[0] < 0.9 < dice(whole, broken)[0] + 0.1
