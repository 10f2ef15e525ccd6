"""What repeated images are worth: an axis of effective unique images.

Under one budget the smaller scales repeat their images more. Muennighoff et al. 2023 ("Scaling
data-constrained language models", section 3.1) count repetition as data that loses its worth
exponentially: effective = unique + unique * half * (1 - exp(-repeats / half)), where repeats is the
number of passes beyond the first. Their ``half`` is measured on text; for x-rays it is an
assumption, which is why it is an argument and stands beside every figure drawn with it.
"""

from __future__ import annotations

import numpy as np

from radsweep.errors import SpecError
from radsweep.laws.forms import FloatArray

REPEATS_WORTH = 15.39
"""R*_D of Muennighoff et al. 2023: repeated passes are worth at most this many fresh ones."""


def effective_images(
    unique: FloatArray, seen: FloatArray, *, repeats_worth: float = REPEATS_WORTH
) -> FloatArray:
    """Effective unique images [n] from unique images [n] and images seen in training [n].

    What was seen less than once counts as seen: no more images are unique than were looked at.

    Raises:
        SpecError: shapes differ, a count is missing or negative, or ``repeats_worth`` is not above
            0.
    """
    if unique.shape != seen.shape:
        raise SpecError(f"{unique.shape} unique images do not pair {seen.shape} images seen")
    if not (np.isfinite(unique).all() and np.isfinite(seen).all()):
        raise SpecError("images and images seen must be numbers; drop the rows that lack one")
    if unique.min(initial=0) < 0 or seen.min(initial=0) < 0 or not repeats_worth > 0:
        raise SpecError("images, images seen must not be negative, and repeats_worth is above 0")
    used = np.minimum(unique, seen)
    repeats = np.divide(seen, used, out=np.ones_like(used), where=used > 0) - 1.0
    effective: FloatArray = used * (1.0 - repeats_worth * np.expm1(-repeats / repeats_worth))
    return effective
