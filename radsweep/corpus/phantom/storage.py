"""How one film is stored: transfer syntax, bits, polarity, and the way back to the picture."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from radsweep.corpus.phantom.canvas import Array
from radsweep.corpus.phantom.draws import between, happens, weighted
from radsweep.corpus.phantom.hospital import Scanner

TRANSFER_SYNTAXES: tuple[tuple[UID, float], ...] = (
    (ExplicitVRLittleEndian, 0.45),
    (ImplicitVRLittleEndian, 0.32),
    (ExplicitVRBigEndian, 0.03),
    (DeflatedExplicitVRLittleEndian, 0.04),
    (RLELossless, 0.03),
    (JPEG2000Lossless, 0.04),
    (JPEGLSLossless, 0.05),
    (JPEGBaseline8Bit, 0.04),
)
"""Shares; four in five are uncompressed, so that writing stays fast."""

LOSSY = frozenset({JPEGBaseline8Bit})
BENT = 0.6
"""Exponent of the stored values where a VOI LUT straightens them."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Everything that decides the stored numbers of one film."""

    transfer_syntax: UID
    bits: int
    monochrome1: bool
    tone: str
    """``full``: the whole range, no window; ``window``: part of the range; ``rescale``: the same
    after a modality rescale; ``lut``: bent values and a VOI LUT."""
    lowest: int
    highest: int
    slope: float
    intercept: float

    @property
    def levels(self) -> int:
        """The largest value that fits."""
        return int(2**self.bits - 1)


def choose_storage(scanner: Scanner, rng: np.random.Generator) -> Storage:
    """Draw the way one film is stored, in the scanner's proportions."""
    transfer_syntax = weighted(rng, TRANSFER_SYNTAXES)
    bits = weighted(rng, scanner.bits)
    monochrome1 = happens(rng, scanner.monochrome1_share)
    tone = weighted(rng, (("full", 0.40), ("window", 0.36), ("rescale", 0.14), ("lut", 0.10)))
    low, high = between(rng, 0.03, 0.15), between(rng, 0.80, 0.97)
    slope = weighted(rng, ((1.0, 0.5), (0.5, 0.25), (2.0, 0.25)))
    if transfer_syntax in LOSSY:
        bits = 8
    if bits == 8 and tone != "window":
        tone = "full"
    if bits > 12 and tone == "lut":
        tone = "window"
    levels = 2**bits - 1
    whole = tone in ("full", "lut")
    return Storage(
        transfer_syntax=transfer_syntax,
        bits=bits,
        monochrome1=monochrome1,
        tone=tone,
        lowest=0 if whole else round(low * levels),
        highest=levels if whole else round(high * levels),
        slope=slope if tone == "rescale" else 1.0,
        intercept=-1024.0 if tone == "rescale" else 0.0,
    )


def stored_values(pixels: Array, storage: Storage) -> NDArray[np.uint16]:
    """Stored numbers, (size, size) uint16, of a picture in [0, 1] where dense is bright."""
    shown = 1.0 - pixels if storage.monochrome1 else pixels
    if storage.tone == "lut":
        shown = shown**BENT
    values = storage.lowest + shown * (storage.highest - storage.lowest)
    return np.rint(values).astype(np.uint16)


def set_pixels(dataset: Dataset, values: NDArray[np.uint16], storage: Storage) -> None:
    """Put stored values and all that describes them into ``dataset``, encoded, in place."""
    allocated = 8 if storage.bits == 8 else 16
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if storage.monochrome1 else "MONOCHROME2"
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated = allocated
    dataset.BitsStored = storage.bits
    dataset.HighBit = storage.bits - 1
    dataset.PixelRepresentation = 0
    _set_tone(dataset, storage)
    syntax = storage.transfer_syntax
    array = values.astype(np.uint8 if allocated == 8 else np.uint16)
    if syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        # The RLE encoder in pydicom itself is the one that is always there.
        plugin = "pydicom" if syntax == RLELossless else ""
        dataset.compress(syntax, array, encoding_plugin=plugin, generate_instance_uid=False)
        return
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([_jpeg(array.astype(np.uint8))])
        dataset["PixelData"].VR = "OB"
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        return
    data = (array if allocated == 8 else array.astype(_words(syntax))).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"


def _words(syntax: UID) -> str:
    """Byte order of 16-bit words: the writer leaves them as they are."""
    return ">u2" if syntax == ExplicitVRBigEndian else "<u2"


def _set_tone(dataset: Dataset, storage: Storage) -> None:
    """The way back: modality rescale, window or LUT, exact for the linear function of PS3.3."""
    if storage.tone == "rescale":
        dataset.RescaleSlope = f"{storage.slope:g}"
        dataset.RescaleIntercept = f"{storage.intercept:g}"
        dataset.RescaleType = "US"
    if storage.tone in ("window", "rescale"):
        low = storage.lowest * storage.slope + storage.intercept
        high = storage.highest * storage.slope + storage.intercept
        # PS3.3, C.11.2.1.2.1: x <= c - 0.5 - (w - 1) / 2 is black, x > c - 0.5 + (w - 1) / 2 white.
        dataset.WindowCenter = f"{(low + high) / 2 + 0.5:g}"
        dataset.WindowWidth = f"{high - low + 1:g}"
    if storage.tone == "lut":
        table = np.linspace(0.0, 1.0, storage.levels + 1) ** (1.0 / BENT)
        item = Dataset()
        item.LUTDescriptor = [storage.levels + 1, 0, 16]
        item["LUTDescriptor"].VR = "US"
        item.LUTExplanation = "STRAIGHT"
        words = np.rint(table * 65535.0).astype(_words(storage.transfer_syntax))
        item.add_new("LUTData", "OW", words.tobytes())
        dataset.VOILUTSequence = [item]


def _jpeg(array: NDArray[np.uint8]) -> bytes:
    """One baseline JPEG frame; quality 95 keeps the error near two grey levels."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()
