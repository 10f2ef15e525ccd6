"""The plan of the stream: which image each position shows, computed in place and never stored.

Position p belongs to visit p // images; within a visit a keyed permutation shows every image once.
So a resume, or another number of workers, is arithmetic on positions and cannot lose or repeat an
image.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
"""Half-rounds. Luby and Rackoff (SIAM J. Comput. 1988) need 4 for a pseudo-random permutation of a
large domain; small domains mix less per round."""

_GOLDEN = 0x9E3779B97F4A7C15


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def positions_to_rows(positions: NDArray[np.int64], images: int, seed: int) -> NDArray[np.int64]:
    """The row of the subset that each position shows.

    A Feistel network on the smallest power of two that holds ``images``; a value outside walks on
    along its cycle until it is inside (Black and Rogaway, CT-RSA 2002, "cycle walking"), fewer than
    two rounds of it on average. Constant time and memory per position.

    Args:
        positions: int64 [n], from 0; any order, any repetition.
        images: of the subset, at least 1.
        seed: any integer; its lowest 64 bits count.

    Returns:
        int64 [n] in [0, images); over the positions of one visit each row comes once.
    """
    if images < 1:
        raise ValueError(f"{images} images have no order; a subset with images is needed")
    visit, place = np.divmod(positions.astype(np.int64), images)
    bits = (images - 1).bit_length()
    low_bits = np.uint64((bits + 1) // 2)
    masks = (np.uint64((1 << bits // 2) - 1), np.uint64((1 << (bits + 1) // 2) - 1))
    key = _mix(np.array([(seed + _GOLDEN) % 2**64], np.uint64))
    key = _mix(key + visit.astype(np.uint64) * np.uint64(_GOLDEN))
    rows = place.astype(np.uint64)
    walking = np.arange(len(rows))
    while len(walking):
        keys = key[walking]
        high, low = rows[walking] >> low_bits, rows[walking] & masks[1]
        for number in range(ROUNDS):
            turn = keys + np.uint64((number + 1) * _GOLDEN % 2**64)
            if number % 2:
                low ^= _mix(_mix(high + turn) ^ turn) & masks[1]
            else:
                high ^= _mix(_mix(low + turn) ^ turn) & masks[0]
        rows[walking] = (high << low_bits) | low
        walking = walking[rows[walking] >= images]
    return rows.astype(np.int64)
