"""One x-ray as everything above the corpus sees it. NumPy only, for a bare PyTorch machine."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image with what is known of it. ``image_id`` is a keyed hash, no hospital's identifier."""

    image_id: str
    pixels: NDArray[np.uint8]
    """[height, width], already windowed, air dark and bone bright."""
    report: str | None = None
    """De-identified text; None where the exam has no report."""
    labels: dict[str, int | None] = field(default_factory=dict)
    """``finding_*`` and ``tube_*`` -> 1 present, 0 absent, -1 uncertain, None missing."""


Views = dict[str, NDArray[np.generic]]
"""Name -> array of one example, of the same shape and dtype for every example; images are uint8 [1,
H, W]."""


@dataclass(frozen=True)
class Stratum:
    """One of the equal parts of [0, 1) that a global batch shares out, one to each of its images.

    What a viewer draws within it is uniform for an image and even over the batch.
    """

    index: int
    """From 0."""
    count: int
    """Images of the global batch."""

    def draw(self, generator: np.random.Generator) -> float:
        """A number in [index / count, (index + 1) / count)."""
        return (self.index + generator.random()) / self.count


class Viewer(Protocol):
    """Makes views of one example on a CPU, inside the stream. Small and picklable: no weights."""

    def __call__(self, example: Example, generator: np.random.Generator, stratum: Stratum) -> Views:
        """Random views that depend on example, generator and stratum alone."""
        ...
