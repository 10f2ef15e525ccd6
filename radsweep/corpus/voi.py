"""How a DICOM header says that stored values are shown: rescale, window, lookup table."""

from collections.abc import Iterator, Sequence
from typing import Any

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


def shown(values: Values, attributes: Attributes) -> Values | None:
    """The values as the header shows them, in [0, 1], before any inversion for MONOCHROME1.

    A VOI LUT goes before a window, and the first of several is taken (DICOM PS3.3 C.11.2). None
    where the header states none, an illegal one, or one that leaves hardly any grey.
    """
    if attributes.get("VOILUTSequence"):
        picture = _through_table(values, attributes["VOILUTSequence"][0])
    else:
        picture = _through_window(values, attributes)
    if picture is None:
        return None
    inside = sum(int(np.count_nonzero((block > 0) & (block < 1))) for block in _blocks(picture))
    return picture if inside >= MIN_INSIDE * picture.size else None


BLOCK_ROWS = 32
"""Rows worked on at a time, so that what one operation writes the next still finds in the cache."""


def _blocks(picture: Values) -> Iterator[Values]:
    """Views of the rows, in order."""
    return (picture[at : at + BLOCK_ROWS] for at in range(0, len(picture), BLOCK_ROWS))


def _through_window(values: Values, attributes: Attributes) -> Values | None:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID)."""
    centre, width = (
        first_number(attributes, "WindowCenter"),
        first_number(attributes, "WindowWidth"),
    )
    function = str(attributes.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0:
        return None
    if function == "SIGMOID":
        picture: Values = 1 / (1 + np.exp(np.float32(-4 / width) * (values - np.float32(centre))))
        return picture
    if function != "LINEAR_EXACT":
        if width <= 1:
            return None
        centre, width = centre - 0.5, width - 1
    scaled = np.empty_like(values)
    for given, block in zip(_blocks(values), _blocks(scaled), strict=True):
        np.subtract(given, np.float32(centre), out=block)
        block *= np.float32(1 / width)
        block += np.float32(0.5)
        np.clip(block, 0, 1, out=block)
    return scaled


def _through_table(values: Values, item: Any) -> Values | None:
    """PS3.3 C.11.2.1.1: entries, first value mapped, bits; values outside take the end entries."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) != 3:
        return None
    entries, first = int(descriptor[0]) or 65536, int(descriptor[1])
    if first > 32767 and float(values.min()) < 0:
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
    place = np.clip(values - first, 0, entries - 1).astype(np.int64)
    picture: Values = ((table - np.float32(low)) * np.float32(1 / (high - low)))[place]
    return picture
