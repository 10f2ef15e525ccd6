"""How well a predicted mask covers a thin structure: Dice, and centre-line Dice."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

SKELETON_ROUNDS = 12
"""Erosions: structures up to twice as many pixels wide are thinned to their centre line."""

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


def dice(target: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Dice of masks [..., H, W], shape [...]; NaN where both are empty, 0 where one of them is.

    Dice 1945: twice the shared area over the sum of both areas.
    """
    shared = (target & predicted).sum(axis=(-2, -1), dtype=np.int64)
    both = target.sum(axis=(-2, -1), dtype=np.int64) + predicted.sum(axis=(-2, -1), dtype=np.int64)
    scores: NDArray[np.float64] = np.full(both.shape, np.nan)
    np.divide(2.0 * shared, both, out=scores, where=both > 0)
    return scores


def intersection_over_union(
    target: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Intersection over union (Jaccard 1901) of masks [..., H, W], empty ones as in ``dice``."""
    twice = dice(target, predicted)
    return twice / (2 - twice)


def skeleton(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centre lines of masks [n, H, W]: what each opening removes from each erosion.

    The morphological skeleton (Lantuejoul 1977), which is the soft skeleton of clDice (Shit et al.
    2021, algorithm 1) on a binary mask.
    """
    eroded = mask.astype(np.uint8)
    lines = np.zeros_like(eroded)
    for _ in range(SKELETON_ROUNDS):
        if not eroded.any():
            break
        smaller = minimum_filter(eroded, footprint=CROSS[None], mode="constant", cval=0)
        opened = maximum_filter(
            smaller, footprint=np.ones((1, 3, 3), bool), mode="constant", cval=0
        )
        lines |= eroded & ~opened & 1
        eroded = smaller
    return lines


def centre_line_dice(
    target: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Centre-line Dice [n] of masks [n, H, W] (Shit et al. 2021); empty masks as in ``dice``.

    The harmonic mean of the share of the predicted centre line inside the target and of the
    target's centre line inside the prediction, so that a broken tube costs more than a thin one.
    """
    predicted_line, target_line = skeleton(predicted), skeleton(target)
    inside = _share(predicted_line, target)
    found = _share(target_line, predicted)
    total = inside + found
    score = np.divide(2 * inside * found, total, out=np.zeros_like(total), where=total > 0)
    empty = ~target.any(axis=(-2, -1)) & ~predicted.any(axis=(-2, -1))
    score[empty] = np.nan
    return score


def _share(line: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    inside = (line & mask).sum(axis=(-2, -1), dtype=np.float64)
    length = line.sum(axis=(-2, -1), dtype=np.float64)
    share: NDArray[np.float64] = np.zeros(length.shape)
    np.divide(inside, length, out=share, where=length > 0)
    return share
