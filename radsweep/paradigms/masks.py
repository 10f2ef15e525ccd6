"""Block masks over a grid of patches, as BEiT's and DINOv2's masked-image modelling draw them."""

import math

import numpy as np
from numpy.typing import NDArray

SMALLEST_BLOCK = 4
"""Patches (Bao et al. 2022, DINOv2)."""
ASPECT = math.log(1 / 0.3)
"""Largest log of a block's height over its width."""
TRIES = 10
"""Draws for each block before giving up."""


def block_mask(
    height: int, width: int, patches: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Rectangles that together hide about ``patches`` patches, never more, and at least one.

    Args:
        height: of the grid.
        width: of the grid.
        patches: how many to hide at most.
        generator: draws places and shapes.

    Returns:
        [height, width], True where a patch is hidden.
    """
    mask = np.zeros((height, width), bool)
    hidden = 0
    while hidden < patches:
        added = _add_block(mask, patches - hidden, generator)
        if added == 0:
            break
        hidden += added
    if hidden == 0:
        # A grid too small for a block, or bad luck: the loss needs something to predict.
        mask[int(generator.integers(height)), int(generator.integers(width))] = True
    return mask


def _add_block(mask: NDArray[np.bool_], room: int, generator: np.random.Generator) -> int:
    """Hide one more rectangle of at most ``room`` new patches; gives how many, 0 for none."""
    height, width = mask.shape
    for area, aspect, y, x in generator.random((TRIES, 4)).tolist():
        area = SMALLEST_BLOCK + (max(room, SMALLEST_BLOCK) - SMALLEST_BLOCK) * area
        aspect = math.exp(ASPECT * (2 * aspect - 1))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < tall < height and 0 < wide < width):
            continue
        top, left = int(y * (height - tall + 1)), int(x * (width - wide + 1))
        block = mask[top : top + tall, left : left + wide]
        fresh = tall * wide - int(np.count_nonzero(block))
        if 0 < fresh <= room:
            block[:] = True
            return fresh
    return 0
