"""How far a predicted mask lies from a thin structure, and whether it hangs together.

Distances are in pixels; a caller that knows the pixel spacing makes millimetres of them. An image
where both masks are empty says nothing (NaN). Where one mask is empty there is no distance; the
image's diagonal, the longest there can be, stands for it, so that drawing nothing does not pay.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.spatial import KDTree

Distance: TypeAlias = Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]
"""Of two masks [H, W] of which neither is empty."""

PERCENTILE = 95
"""Of the surface distances, since the largest hangs on a single pixel (Huttenlocher et al.
1993)."""
TOUCHING = np.ones((3, 3), dtype=bool)
"""Pixels that share a side or a corner are of one piece."""


def hausdorff_95(target: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """95th percentile Hausdorff distance in pixels [n] of masks [n, H, W].

    The larger of the two directed ones: of each boundary pixel of one mask, the distance to the
    other's nearest boundary pixel. A boundary pixel has a neighbour to its side that is outside.
    """
    return _of_each(target, predicted, _hausdorff)


def tip_distance(target: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Distance between the tips in pixels [n] of masks [n, H, W].

    A mask's tip is an end of its largest piece: of the two pixels that are furthest from each other
    along the piece, the one that is further from the image's edge, since lines and tubes come from
    outside the film or the skin and end within. A catheter that leaves the film at both ends has no
    tip that this can find.
    """
    return _of_each(target, predicted, _tips_apart)


def connectivity(target: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Whether the number of pieces is right [n], of masks [n, H, W].

    1 - |pieces drawn - pieces there| / pieces there, at least 0: a tube drawn in two pieces scores
    0, as no one can follow it. The connectivity of Gegundez-Arias et al. 2012 (section II-B), which
    divides by pixels, forgives a long vessel its gaps. NaN where both are empty, 0 where one is.
    """
    scores = np.full(len(target), np.nan)
    for i, (wanted, drawn) in enumerate(zip(target, predicted, strict=True)):
        there, found = label(wanted, TOUCHING)[1], label(drawn, TOUCHING)[1]
        if there or found:
            scores[i] = max(0.0, 1 - abs(found - there) / there) if there and found else 0.0
    return scores


def _of_each(
    target: NDArray[np.uint8], predicted: NDArray[np.uint8], distance: Distance
) -> NDArray[np.float64]:
    values = np.full(len(target), np.nan)
    for i, (wanted, drawn) in enumerate(zip(target, predicted, strict=True)):
        if wanted.any() and drawn.any():
            values[i] = distance(wanted.astype(bool), drawn.astype(bool))
        elif wanted.any() or drawn.any():
            values[i] = np.hypot(*wanted.shape)
    return values


def _hausdorff(wanted: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> float:
    edges = [_edge(wanted), _edge(drawn)]
    return max(
        float(np.percentile(KDTree(to).query(of)[0], PERCENTILE)) for to, of in (edges, edges[::-1])
    )


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows and columns [k, 2] of the boundary pixels; the outside of the image is outside."""
    around = np.pad(mask, 1)
    core = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return np.argwhere(mask & ~core)


def _tips_apart(wanted: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> float:
    return float(np.hypot(*(tip(wanted) - tip(drawn))))


def tip(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row and column of the tip of a mask [H, W] that is not empty; see ``tip_distance``."""
    pieces, count = label(mask, TOUCHING)
    if count > 1:
        pieces = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    # A margin of one pixel keeps the end of a row from touching the start of the next.
    width = mask.shape[1] + 2
    numbers = np.flatnonzero(np.pad(pieces > 0, 1)).tolist()
    # The furthest from anywhere is an end, and the furthest from that is the other one, as in a
    # tree; a tube that crosses itself is close enough to one.
    one = _furthest(numbers, numbers[0], width)
    other = _furthest(numbers, one, width)
    ends = np.array([divmod(end, width) for end in (one, other)]) - 1
    inside = np.minimum(ends, np.array(mask.shape) - 1 - ends).min(axis=1)
    nearest: NDArray[np.int64] = ends[int(np.argmax(inside))]
    return nearest


def _furthest(piece: list[int], start: int, width: int) -> int:
    """The pixel that is most steps from ``start``, over sides and corners; pixels are numbers."""
    steps = (-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1)
    left = set(piece)
    left.discard(start)
    reached = [start]
    for place in reached:
        for step in steps:
            if place + step in left:
                left.remove(place + step)
                reached.append(place + step)
    return reached[-1]
