"""Bytes of a file -> a decoded x-ray, or the reason why not. No claim of a header is trusted."""

import hashlib
import io
import warnings
import zlib
from typing import Any

import gdcm
import numpy as np
import pydicom
import pydicom.config
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from radsweep.corpus import header, voi
from radsweep.corpus.codestream import claimed_size
from radsweep.corpus.header import Attributes
from radsweep.corpus.jpeg12 import decode_jpeg12
from radsweep.corpus.picture import grey_of, read_picture
from radsweep.corpus.xray import (
    Limits,
    Quarantined,
    RefusedError,
    Xray,
    check_content,
    check_shape,
)

PIXEL_KEYWORDS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "NumberOfFrames",
    "PixelData", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "SpecificCharacterSet",
)  # fmt: skip
EXAM_KEYWORDS = (
    "SOPClassUID", "Modality", "PresentationIntentType", "BurnedInAnnotation", "ViewPosition",
    "PatientOrientation", "PatientSex", "PatientAge",
)  # fmt: skip
KEYWORDS: list[str] = sorted(
    {*PIXEL_KEYWORDS, *EXAM_KEYWORDS, *header.DESCRIPTIONS, *header.IDENTIFYING}
)
"""The only attributes that are read: what is not read cannot leak."""

KEYWORD_OF: dict[int, str] = {
    tag: keyword for keyword in KEYWORDS if (tag := tag_for_keyword(keyword)) is not None
}

MIN_BYTES_PER_MEGAPIXEL = 4_000
"""Of a compressed stream. Below it, a picture holds nothing or its header lies."""

INFLATED_TIMES = 200
"""How much larger than the file a deflated data set may be."""

DEFLATED, INFLATED = (
    b"\x02\x00\x10\x00UI\x16\x00" + uid.encode().ljust(22, b"\0")
    for uid in (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian)
)
"""The element TransferSyntaxUID, of one length."""


def read_image(data: bytes, limits: Limits) -> Xray | Quarantined:
    """Decode a DICOM, PNG or JPEG file, told apart by content and not by name.

    Args:
        data: the whole file.
        limits: what is refused unread.

    Returns:
        The x-ray, or why there is none. Never raises for what a file holds: an unforeseen fault of
        a decoder is quarantined by its class name alone, since its message may quote the file.
    """
    try:
        if not data:
            raise RefusedError("empty")
        if len(data) > limits.max_bytes:
            raise RefusedError("too_large", "bytes")
        with warnings.catch_warnings():
            # Their texts quote values.
            warnings.simplefilter("ignore")
            if data[128:132] == b"DICM":
                return _read_dicom(data, limits)
            return read_picture(data, limits)
    except RefusedError as refusal:
        return refusal.quarantined
    except (Exception, RecursionError) as fault:
        return Quarantined(reason="undecodable", detail=type(fault).__name__)


def be_silent() -> None:
    """Keep the decoders of this process from printing: their messages quote the header."""
    gdcm.Trace.DebugOff()
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    pydicom.config.logger.disabled = True
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _read_dicom(data: bytes, limits: Limits) -> Xray:
    dataset = pydicom.dcmread(io.BytesIO(_inflated(data)), specific_tags=KEYWORDS)
    attributes = attributes_of(dataset)
    if not attributes:
        raise RefusedError("bad_header", "no attributes could be read")
    header.check_radiograph(attributes)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    rows, columns = attributes.get("Rows"), attributes.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise RefusedError("bad_header", "Rows or Columns")
    if "PixelData" not in attributes:
        raise RefusedError("bad_header", "PixelData")
    if not isinstance(syntax, UID) or not syntax.is_transfer_syntax:
        raise RefusedError("bad_header", "TransferSyntaxUID")
    check_shape(rows, columns, limits)
    _check_bits(attributes)
    if syntax.is_compressed and not syntax.is_deflated:
        return _present(attributes, _stored_compressed(dataset, attributes, syntax))
    return _present(attributes, _stored(attributes, syntax))


def attributes_of(dataset: Dataset) -> dict[str, Any]:
    """The values by keyword, in one pass: pydicom takes tens of microseconds for a look-up."""
    values = {}
    for tag in list(dataset.keys()):
        try:
            values[KEYWORD_OF[int(tag)]] = dataset[tag].value
        except (ValueError, TypeError, NotImplementedError, LookupError):
            # A value that cannot be read counts as not stated.
            continue
    return values


def _inflated(data: bytes) -> bytes:
    """The file, with a deflated data set inflated and its syntax as explicit, little endian.

    Inflated here and once, since pydicom would inflate whatever it is given. Raises RefusedError
    where the data set would grow beyond reason, or ends before it is whole.
    """
    if DeflatedExplicitVRLittleEndian.encode() not in data[132:1024]:
        return data
    start = 144 + int.from_bytes(data[140:144], "little")
    head = data[:start].replace(DEFLATED, INFLATED)
    if head == data[:start]:
        raise RefusedError("bad_header", "TransferSyntaxUID")
    room = INFLATED_TIMES * len(data)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(memoryview(data)[start:], room)
    if len(inflated) >= room:
        raise RefusedError("too_large", "deflated")
    if not stream.eof:
        raise RefusedError("truncated", "deflated")
    return head + inflated


def _check_bits(attributes: Attributes) -> None:
    allocated, stored = attributes.get("BitsAllocated"), attributes.get("BitsStored")
    samples, photometric = (
        attributes.get("SamplesPerPixel", 1),
        attributes.get("PhotometricInterpretation"),
    )
    if allocated not in (8, 16) or not isinstance(stored, int) or not 1 <= stored <= allocated:
        raise RefusedError("bad_header", "BitsAllocated or BitsStored")
    if not photometric:
        raise RefusedError("bad_header", "PhotometricInterpretation")
    if (samples == 1) != photometric.startswith("MONOCHROME") or samples not in (1, 3):
        raise RefusedError("colour" if samples == 1 else "bad_header", "PhotometricInterpretation")


def _stored(attributes: Attributes, syntax: UID) -> NDArray[Any]:
    """Uncompressed pixels: [rows, columns], or [rows, columns, 3]."""
    rows, columns = attributes["Rows"], attributes["Columns"]
    samples, size = int(attributes.get("SamplesPerPixel", 1)), int(attributes["BitsAllocated"]) // 8
    count = rows * columns * samples
    data = attributes["PixelData"]
    if len(data) < count * size:
        raise RefusedError("truncated")
    if len(data) >= 2 * count * size:
        raise RefusedError("bad_header", "PixelData is longer than stated")
    kind = "i" if attributes.get("PixelRepresentation") == 1 else "u"
    pixels = np.frombuffer(data, f"{'<' if syntax.is_little_endian else '>'}{kind}{size}", count)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if samples == 1:
        return pixels.reshape(rows, columns)
    if attributes.get("PlanarConfiguration") == 1:
        return pixels.reshape(3, rows, columns).transpose(1, 2, 0)
    return pixels.reshape(rows, columns, 3)


def _stored_compressed(dataset: Dataset, attributes: Attributes, syntax: UID) -> NDArray[Any]:
    size = (attributes["Rows"], attributes["Columns"])
    first = next(generate_frames(attributes["PixelData"], number_of_frames=1))
    if len(first) < MIN_BYTES_PER_MEGAPIXEL * size[0] * size[1] / 1e6:
        raise RefusedError("truncated", "compressed")
    if syntax != RLELossless and claimed_size(first) != size:
        raise RefusedError("undecodable", "the stream states another size than the header, or none")
    if syntax == JPEGExtended12Bit and attributes["BitsStored"] != 8:
        return decode_jpeg12(first, attributes)
    pixels: NDArray[Any] = pixel_array(dataset)
    return pixels


def _present(attributes: Attributes, stored: NDArray[Any]) -> Xray:
    """From stored values to values with air dark and bone bright, and to what the header shows."""
    if stored.ndim == 3:
        stored = grey_of(stored)
    stored = _stored_bits(stored, attributes)
    digest = hashlib.blake2b(f"{stored.shape}".encode(), digest_size=16)
    words = stored.astype("<i4" if stored.dtype.kind == "i" else "<u2", order="C", copy=False)
    digest.update(words.data)
    padding = _padding(stored, attributes)
    values = voi.rescale(stored, attributes)
    inverted = attributes["PhotometricInterpretation"] == "MONOCHROME1"
    shown = voi.shown(values, attributes, inverted=inverted)
    if inverted:
        # Rescaling keeps or turns the order: its extremes are those of the stored values.
        ends = voi.rescale(np.array([stored.max(), stored.min()]), attributes)
        np.subtract(ends[0] + ends[1], values, out=values)
    if padding is not None and shown is not None:
        shown[padding] = 0
    check_content(values if padding is None else values[~padding.all(axis=1)])
    view, projection = header.view_of(attributes)
    return Xray(
        values=values,
        shown=shown,
        padding=padding,
        digest=digest.hexdigest(),
        pixel_spacing_mm=header.spacing_of(attributes),
        view=view,
        projection=projection,
        sex=header.sex_of(header.text_of(attributes, "PatientSex")),
        age_years=header.age_of(attributes),
        identity=header.identity_of(attributes),
    )


def _stored_bits(pixels: NDArray[Any], attributes: Attributes) -> NDArray[Any]:
    """Only the stored bits: the others may hold an overlay (retired, but found)."""
    allocated, stored = int(attributes["BitsAllocated"]), int(attributes["BitsStored"])
    if stored == allocated:
        return pixels
    high = attributes.get("HighBit")
    shift = max(0, int(high) + 1 - stored) if isinstance(high, int) and high < allocated else 0
    if pixels.dtype.kind == "u":
        mask = (1 << stored) - 1
        if shift == 0:
            return pixels if int(pixels.max()) <= mask else pixels & mask
        return (pixels >> shift) & mask
    # Shift the sign bit of the stored field to the top and back, so that it extends.
    top = pixels.dtype.itemsize * 8 - stored
    return (pixels >> shift << top) >> top


def _padding(stored: NDArray[Any], attributes: Attributes) -> NDArray[np.bool_] | None:
    value, limit = (
        voi.first_number(attributes, k) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    )
    if value is None:
        return None
    low, high = sorted((value, value if limit is None else limit))
    padding: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None
