"""How a DICOM header says that stored values are shown: rescale, window, lookup table."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.header import Attributes

Values = NDArray[np.float32]

MIN_INSIDE = 0.1
"""A window that leaves a smaller share of pixels between black and white is taken for a wrong
one."""


def first_number(attributes: Attributes, keyword: str) -> float | None:
    """The first value of an attribute as a finite float; None if there is none."""
    value: Any = attributes.get(keyword)
    if value is None or isinstance(value, str):
        return None
    try:
        number = float(value[0] if isinstance(value, Sequence) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def rescale(stored: NDArray[Any], attributes: Attributes) -> Values:
    """Modality transform: slope and intercept, or the stored values where there is neither."""
    slope = first_number(attributes, "RescaleSlope")
    intercept = first_number(attributes, "RescaleIntercept")
    values = stored.astype(np.float32)
    if slope not in (None, 0.0, 1.0):
        values *= np.float32(slope)
    if intercept:
        values += np.float32(intercept)
    return values


def shown(values: Values, attributes: Attributes, *, inverted: bool = False) -> Values | None:
    """The values as the header shows them, in [0, 1].

    A VOI LUT goes before a window, and the first of several is taken (DICOM PS3.3 C.11.2). None
    where the header states none, an illegal one, or one that leaves hardly any grey.

    Args:
        values: after ``rescale``, before any inversion.
        attributes: of the header.
        inverted: turn the picture over afterwards, as MONOCHROME1 asks for.
    """
    if attributes.get("VOILUTSequence"):
        show = _table(float(values.min()) < 0, attributes["VOILUTSequence"][0])
    else:
        show = _window(attributes)
    if show is None:
        return None
    picture = np.empty_like(values)
    inside, enough = 0, MIN_INSIDE * picture.size
    for at in range(0, len(values), BLOCK_ROWS):
        block = picture[at : at + BLOCK_ROWS]
        show(values[at : at + BLOCK_ROWS], block)
        if inside < enough:
            inside += int(np.count_nonzero((block > 0) & (block < 1)))
        if inverted:
            np.subtract(np.float32(1), block, out=block)
    return picture if inside >= enough else None


BLOCK_ROWS = 32
"""Rows worked on at a time, so that what one operation writes the next still finds in the cache."""

Show: TypeAlias = Callable[[Values, Values], None]
"""Writes what some values look like, in [0, 1], into the second array."""


def _window(attributes: Attributes) -> Show | None:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID)."""
    centre, width = (
        first_number(attributes, "WindowCenter"),
        first_number(attributes, "WindowWidth"),
    )
    function = str(attributes.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0:
        return None
    if function == "SIGMOID":
        middle, steepness = np.float32(centre), np.float32(-4 / width)

        def sigmoid(values: Values, out: Values) -> None:
            out[...] = 1 / (1 + np.exp(steepness * (values - middle)))

        return sigmoid
    if function != "LINEAR_EXACT":
        if width <= 1:
            return None
        centre, width = centre - 0.5, width - 1
    middle, slope = np.float32(centre), np.float32(1 / width)

    def linear(values: Values, out: Values) -> None:
        np.subtract(values, middle, out=out)
        out *= slope
        out += np.float32(0.5)
        np.clip(out, 0, 1, out=out)

    return linear


def _table(signed: bool, item: Any) -> Show | None:
    """PS3.3 C.11.2.1.1: entries, first value mapped, bits; values outside take the end entries."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) != 3:
        return None
    entries, first = int(descriptor[0]) or 65536, int(descriptor[1])
    if first > 32767 and signed:
        # The first value mapped is signed where the values are, whatever the VR it was read with.
        first -= 65536
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else "u1")
    else:
        table = np.asarray(data)
    if len(table) < entries or entries < 2:
        return None
    table = table[:entries].astype(np.float32)
    low, high = float(table.min()), float(table.max())
    if not high > low:
        return None
    table = (table - np.float32(low)) * np.float32(1 / (high - low))

    def look_up(values: Values, out: Values) -> None:
        out[...] = table[np.clip(values - first, 0, entries - 1).astype(np.int64)]

    return look_up
