"""What reading a file ends in: an x-ray, or the reason why it is none. NumPy only."""

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

REASONS: dict[str, str] = {
    "empty": "the file has no bytes",
    "unreadable": "the file could not be opened; check permissions and the storage",
    "not_an_image": "neither DICOM nor PNG nor JPEG",
    "too_large": "more bytes or pixels than `limits` allow, or than a radiograph has",
    "too_small": "fewer pixels along a side than `limits` allow",
    "odd_shape": "longer than four times its width, or the reverse: no chest film",
    "not_a_radiograph": "the modality or SOP class is not projection radiography",
    "not_for_presentation": "raw detector data, without the processing that a radiologist sees",
    "not_chest": "the header states another body part",
    "not_human": "the header states an animal",
    "multi_frame": "several frames: no single projection",
    "burned_in": "the header states burnt-in annotation, which may name the patient",
    "colour": "a colour picture, such as a photograph or a screen",
    "bad_header": "the header is incomplete or contradicts itself",
    "truncated": "fewer pixel bytes than the header states",
    "undecodable": "the pixel data cannot be decoded",
    "decoder_crashed": "the file killed the decoder's process, twice",
    "timeout": "decoding took longer than a file may take",
    "blank": "constant or nearly constant: no information",
    "garbled": "noise without structure, as a damaged code stream gives",
    "no_patient": "no patient identifier in the header or a table: no split could keep them whole",
    "duplicate": "the same image identifier, or the same pixels, as another file",
    "bad_mask": "a mask file of this image is missing, unreadable or of another size",
    "fault": "an unexpected fault in this program; please report it",
}
"""Reason code -> what it means."""


@final
@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that does not enter the corpus."""

    reason: str
    """A key of REASONS."""
    detail: str = ""
    """Which attribute or step, never a value of the file."""


@final
class RefusedError(Exception):
    """Carries a ``Quarantined`` out of a reading function; never leaves this folder."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Takes the fields of ``Quarantined``."""
        super().__init__(reason, detail)
        self.quarantined = Quarantined(reason=reason, detail=detail)


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a chest film can be; checked before anything is allocated."""

    max_bytes: int = 512 * 2**20
    """Of a file."""
    max_pixels: int = 64_000_000
    """Rows times columns; the largest detectors have about 20 million."""
    min_side: int = 48
    max_aspect: float = 4.0


@final
@dataclass(frozen=True, kw_only=True)
class Identity:
    """What names the patient. In memory only: hashed, used to scrub the report, and dropped."""

    patient: str | None = None
    exam: str | None = None
    accession: str | None = None
    image: str | None = None
    names: tuple[str, ...] = ()
    """Persons, as written."""
    places: tuple[str, ...] = ()
    """Institutions and addresses, as written."""
    numbers: tuple[str, ...] = ()
    """Other identifiers: UIDs, telephone numbers."""
    dates: tuple[str, ...] = ()
    """YYYYMMDD."""

    def __repr__(self) -> str:
        return "Identity(<withheld>)"


@final
@dataclass(frozen=True, kw_only=True)
class Xray:
    """A decoded radiograph, before any preprocessing policy."""

    values: NDArray[np.float32]
    """[H, W] after rescale, with the polarity turned so that air is dark and bone bright."""
    shown: NDArray[np.float32] | None
    """[H, W] in [0, 1] as the header's window or VOI LUT shows it; None where it states no usable
    one."""
    padding: NDArray[np.bool_] | None
    """[H, W] true outside the exposed field where the header states a padding value; else None."""
    digest: str
    """BLAKE2b of the decoded pixels and their shape, before any window: equal for equal
    pictures."""
    pixel_spacing_mm: tuple[float, float] | None
    """(row, column); None if unknown."""
    view: str = "unknown"
    """``frontal``, ``lateral`` or ``unknown``."""
    projection: str | None = None
    """``AP``, ``PA`` or None."""
    sex: str | None = None
    """``F``, ``M``, ``O`` or None."""
    age_years: int | None = None
    identity: Identity = field(default_factory=Identity)


MAX_AGE_YEARS = 90
"""Older patients are few enough to be known by their age (HIPAA safe harbour, 45 CFR
164.514(b)(2))."""


def check_shape(height: int, width: int, limits: Limits) -> None:
    """Raise RefusedError unless the size is plausible for a chest film."""
    if height < 1 or width < 1:
        raise RefusedError("bad_header", "Rows or Columns is zero")
    if height * width > limits.max_pixels:
        raise RefusedError("too_large", "pixels")
    if min(height, width) < limits.min_side:
        raise RefusedError("too_small")
    if max(height, width) > limits.max_aspect * min(height, width):
        raise RefusedError("odd_shape")


GARBLED_ROUGHNESS = 1.0
"""White noise has about 1.41, chest films below 0.5 (measured on 1,381 of them at 64 to 1,024
px)."""


def check_content(values: NDArray[np.float32]) -> None:
    """Raise RefusedError for a picture without information.

    Roughness is the standard deviation of the difference of horizontal neighbours over that of the
    pixels.
    """
    low, high = np.percentile(_thinned(values), (0.5, 99.5))
    if not high > low:
        raise RefusedError("blank")
    # Every k-th row: neighbours along a row are what counts, and 512 rows have enough of them.
    window = np.clip(values[: 4 * 512 : max(1, len(values) // 512), : 4 * 512], low, high)
    spread = float(window.std())
    if spread > 0 and float(np.diff(window, axis=1).std()) > GARBLED_ROUGHNESS * spread:
        raise RefusedError("garbled")


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every k-th row and column: at most about a million values, enough for any percentile."""
    step = max(1, min(values.shape) // 512)
    return values[::step, ::step]


def percentiles(xray: Xray, low: float, high: float) -> tuple[float, float]:
    """Percentiles of the exposed field, from at most about a million of its values."""
    values = _thinned(xray.values)
    if xray.padding is not None:
        step = max(1, min(xray.values.shape) // 512)
        exposed = values[~xray.padding[::step, ::step]]
        values = exposed if exposed.size else values
    bottom, top = np.percentile(values, (low, high))
    return float(bottom), float(top)
