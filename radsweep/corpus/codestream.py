"""What size a compressed stream will decode to, read from its own first bytes.

A decoder allocates what the stream claims, whatever the DICOM header says, so that the claim is
checked before the decoder is called.
"""

import struct

JPEG_SIZE_MARKERS = frozenset(
    {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
)
"""Start of frame: ITU-T T.81 table B.1, and F7 of JPEG-LS (ITU-T T.87)."""

JPEG2000_SIZE = b"\xff\x4f\xff\x51"
"""Start of code stream and image size: ISO/IEC 15444-1 annex A."""


def claimed_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream claims; None for anything else."""
    if stream[:2] == b"\xff\xd8":
        return _jpeg_size(stream)
    start = stream[:4096].find(JPEG2000_SIZE)
    if start < 0 or len(stream) < start + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    return bottom - top, right - left


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker in JPEG_SIZE_MARKERS:
            rows, columns = struct.unpack_from(">HH", stream, at + 5)
            return rows, columns
        # Fill bytes and markers without a segment stand alone.
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return None
