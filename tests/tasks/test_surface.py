from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch

from radsweep.tasks.overlap import dice, intersection_over_union
from radsweep.tasks.surface import connectivity, hausdorff_95, tip, tip_distance


def _tubes(count: int, size: int, seed: int, width: int) -> np.ndarray:
    """Crooked tubes that come in at the top."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), np.uint8)
    for mask in masks:
        column, drift = generator.uniform(0.3, 0.7) * size, 0.0
        for row in range(int(generator.uniform(0.4, 0.8) * size)):
            drift = 0.9 * drift + 0.3 * generator.normal()
            column = float(np.clip(column + drift, 1, size - width - 1))
            mask[row, int(column) : int(column) + width] = 1
    return masks


def _slow_hausdorff(target: np.ndarray, predicted: np.ndarray) -> float:
    def edge(mask: np.ndarray) -> list[tuple[int, int]]:
        inside = {tuple(int(i) for i in place) for place in np.argwhere(mask)}
        sides = ((0, 1), (0, -1), (1, 0), (-1, 0))
        return [p for p in inside if any((p[0] + a, p[1] + b) not in inside for a, b in sides)]

    def directed(of: list[tuple[int, int]], to: list[tuple[int, int]]) -> float:
        nearest = [min(((a - c) ** 2 + (b - d) ** 2) ** 0.5 for c, d in to) for a, b in of]
        return float(np.percentile(nearest, 95))

    a, b = edge(target), edge(predicted)
    return max(directed(a, b), directed(b, a))


def test_hausdorff_95_equals_a_loop_over_boundary_pixels() -> None:
    target, predicted = _tubes(6, 40, 0, 3), _tubes(6, 40, 1, 4)
    found = hausdorff_95(target, predicted)
    for i in range(6):
        assert found[i] == pytest.approx(_slow_hausdorff(target[i], predicted[i]), abs=1e-9)


# Its import warns of its own.
@pytest.mark.filterwarnings("ignore")
def test_hausdorff_95_and_dice_equal_monai_s() -> None:
    metrics = pytest.importorskip("monai.metrics")
    target, predicted = _tubes(20, 64, 2, 5), _tubes(20, 64, 3, 3)
    pair = torch.from_numpy(predicted)[:, None], torch.from_numpy(target)[:, None]
    peer = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    np.testing.assert_allclose(hausdorff_95(target, predicted), peer[:, 0], atol=1e-4)
    peer = metrics.compute_dice(*pair, include_background=True)
    np.testing.assert_allclose(dice(target, predicted), peer[:, 0], atol=1e-6)
    peer = metrics.compute_iou(*pair, include_background=True)
    np.testing.assert_allclose(intersection_over_union(target, predicted), peer[:, 0], atol=1e-6)


def test_two_empty_masks_say_nothing_and_one_empty_mask_is_as_far_off_as_can_be() -> None:
    empty, drawn = np.zeros((1, 30, 40), np.uint8), _tubes(1, 40, 0, 2)[:, :30]
    for distance in (hausdorff_95, tip_distance):
        assert np.isnan(distance(empty, empty)[0])
        assert distance(empty, drawn)[0] == distance(drawn, empty)[0] == 50
        assert distance(drawn, drawn)[0] == 0
    assert np.isnan(connectivity(empty, empty)[0])
    assert connectivity(empty, drawn)[0] == connectivity(drawn, empty)[0] == 0
    assert np.isnan(intersection_over_union(empty, empty)[0])
    assert intersection_over_union(empty, drawn)[0] == 0


def _line(*corners: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    for (a, b), (c, d) in pairwise(corners):
        steps = max(abs(c - a), abs(d - b))
        for step in range(steps + 1):
            mask[round(a + (c - a) * step / steps), round(b + (d - b) * step / steps)] = True
    return mask


@pytest.mark.parametrize(
    ("corners", "end"),
    [
        (((0, 30), (35, 31)), (35, 31)),
        (((30, 63), (28, 40), (45, 33)), (45, 33)),
        (((0, 20), (40, 20), (40, 30), (22, 30)), (22, 30)),
    ],
    ids=["from the top", "from the side", "back up again"],
)
def test_a_tip_is_the_end_inside_the_film(corners: tuple, end: tuple[int, int]) -> None:
    assert tuple(tip(_line(*corners))) == end


def test_a_tip_is_an_end_of_the_largest_piece_however_the_tube_winds() -> None:
    mask = _line((0, 20), (40, 20), (40, 44), (12, 44))
    speck = mask.copy()
    speck[30:33, 30:33] = True
    assert tuple(tip(speck)) == tuple(tip(mask)) == (12, 44)


def test_the_ends_are_those_furthest_apart_along_the_tube() -> None:
    for mask in _tubes(5, 30, 4, 1).astype(bool):
        if not mask.any():
            continue
        places = {tuple(int(i) for i in place) for place in np.argwhere(mask)}

        def steps_from(start: tuple[int, int], places: set = places) -> dict:
            far, queue = {start: 0}, deque([start])
            while queue:
                a, b = queue.popleft()
                for near in ((a + i, b + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                    if near in places and near not in far:
                        far[near] = far[(a, b)] + 1
                        queue.append(near)
            return far

        found = tuple(int(i) for i in tip(mask))
        longest = max(max(steps_from(place).values()) for place in places)
        piece = steps_from(found)
        if len(piece) == len(places):
            assert max(piece.values()) == longest


def test_a_tube_in_two_pieces_is_not_connected_and_a_spot_beside_two_tubes_costs_half() -> None:
    whole = _line((0, 30), (50, 30))[None].astype(np.uint8)
    broken = whole.copy()
    broken[0, 20:25] = 0
    assert connectivity(whole, broken)[0] == 0
    assert connectivity(whole, whole)[0] == 1
    two = whole | _line((0, 10), (50, 10))[None].astype(np.uint8)
    three = two | _line((60, 60), (62, 62))[None].astype(np.uint8)
    assert connectivity(two, three)[0] == 0.5
    assert connectivity(two, whole)[0] == 0.5
