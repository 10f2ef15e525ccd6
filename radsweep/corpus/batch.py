"""One batch as a pure function of (seed, subset, positions). No Ray here."""

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.example import Stratum, Viewer, Views
from radsweep.corpus.order import positions_to_rows
from radsweep.corpus.reader import Reader
from radsweep.errors import StreamError
from radsweep.keys import seed_of


def example_generator(seed: int, position: int) -> np.random.Generator:
    """The random numbers of one position.

    Philox (Salmon et al., SC 2011) is counter-based: streams of different keys are independent by
    design, so (seed, position) can be the key itself and needs no costly mixing.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, position], np.uint64)))


def batch_positions(step: int, batch_size: int, world_size: int, rank: int) -> NDArray[np.int64]:
    """Positions int64 [batch_size] of one rank's share of global batch ``step``.

    Global batch k is positions [k B, (k + 1) B) with B = batch_size * world_size; each rank takes
    its contiguous share, so that the union over ranks does not depend on their number.
    """
    first = (step * world_size + rank) * batch_size
    return np.arange(first, first + batch_size, dtype=np.int64)


def batch_strata(positions: NDArray[np.int64], batch_size: int, seed: int) -> list[Stratum]:
    """The stratum of each position: a permutation of its global batch, another for every batch.

    Args:
        positions: int64 [n], from 0.
        batch_size: of the global batch.
        seed: of order and augmentation.
    """
    indices = positions_to_rows(positions, batch_size, seed_of("strata", seed))
    return [Stratum(int(index), batch_size) for index in indices]


def make_batch(
    positions: NDArray[np.int64], reader: Reader, viewer: Viewer, seed: int, batch_size: int
) -> Views:
    """Views of the images at these positions, stacked: name -> [n, ...]; and ``position``.

    Args:
        positions: int64 [n], from 0.
        reader: of the subset.
        viewer: makes the views of one example.
        seed: of order and augmentation.
        batch_size: of the global batch that the positions are a share of.

    Raises StreamError where pixels are damaged or the views of two examples do not stack.
    """
    examples = reader.examples(positions_to_rows(positions, reader.images, seed))
    views = [
        viewer(example, example_generator(seed, int(position)), stratum)
        for example, position, stratum in zip(
            examples, positions, batch_strata(positions, batch_size, seed), strict=True
        )
    ]
    names = set(views[0])
    if "position" in names or any(set(one) != names for one in views):
        raise StreamError(
            f"the viewer gave views {sorted(names)}; every example needs the same names, and "
            "`position` is taken"
        )
    return {
        **{name: np.stack([one[name] for one in views]) for name in views[0]},
        "position": positions,
    }
