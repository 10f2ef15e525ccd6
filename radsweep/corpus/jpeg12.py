"""JPEG Extended (process 4, ITU-T T.81) of 12 bits a sample, which GDCM reads.

pydicom hands GDCM this transfer syntax for 8 bits only, and the decoder that it takes for 12,
pylibjpeg-libjpeg, is GPL.
"""

import gdcm
import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.header import Attributes
from radsweep.corpus.xray import RefusedError

END_OF_IMAGE = b"\xff\xd9"
EXTENDED_FRAME = b"\xff\xc1"
"""Start of frame of extended sequential JPEG with Huffman coding: T.81 table B.1."""

PIXEL_DATA = gdcm.Tag(0x7FE0, 0x0010)


def decode_jpeg12(stream: bytes, attributes: Attributes) -> NDArray[np.uint16]:
    """Decode one frame.

    Args:
        stream: a JPEG stream that claims the header's size.
        attributes: of the header; Rows, Columns and BitsStored are read.

    Returns:
        uint16 [rows, columns].

    Raises RefusedError unless the header states unsigned grey of 16 bits allocated, the stream has
    samples of 12 bits and an end (GDCM would fill up with grey), and GDCM gives as many pixels as
    there should be.
    """
    rows, columns = attributes["Rows"], attributes["Columns"]
    if (
        attributes["BitsAllocated"] != 16
        or attributes.get("PixelRepresentation") == 1
        or attributes.get("SamplesPerPixel", 1) != 1
    ):
        raise RefusedError("bad_header", "12-bit JPEG of signed or 8-bit pixels, or of colour")
    frame = stream.find(EXTENDED_FRAME)
    # Marker, length of two bytes, precision.
    if frame < 0 or stream[frame + 4 : frame + 5] != b"\x0c":
        raise RefusedError("undecodable", "JPEG Extended of another precision than 12 bits")
    if not stream.rstrip(b"\0").endswith(END_OF_IMAGE):
        raise RefusedError("truncated", "12-bit JPEG")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(PIXEL_DATA)
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(
            gdcm.PhotometricInterpretation.GetPIType(attributes["PhotometricInterpretation"])
        )
    )
    image.SetTransferSyntax(
        gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType("1.2.840.10008.1.2.4.51"))
    )
    bits = attributes["BitsStored"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, 0))
    # SWIG gives the bytes as a str.
    pixels: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(pixels) != 2 * rows * columns:
        raise RefusedError("undecodable", "12-bit JPEG")
    return np.frombuffer(pixels, np.uint16).reshape(rows, columns)
