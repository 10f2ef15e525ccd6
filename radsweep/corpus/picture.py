"""PNG and JPEG files as x-rays: without a header, no window, no view and no patient."""

import hashlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus.xray import Limits, RefusedError, Xray, check_content, check_shape

GREY_TOLERANCE = 0.02
"""Mean difference between channels, as a share of the range, that still counts as grey (JPEG
rounding)."""


def grey_of(pixels: NDArray[Any]) -> NDArray[Any]:
    """One channel of a grey picture stored as [H, W, 3]. Raises RefusedError for a colour one."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    unequal = (np.abs(red - green).mean() + np.abs(blue - green).mean()) / 2
    if unequal > GREY_TOLERANCE * max(1, int(green.max()) - int(green.min())):
        raise RefusedError("colour")
    return pixels[..., 1]


def read_picture(data: bytes, limits: Limits) -> Xray:
    """Decode a PNG or JPEG of 8 or 16 bits, grey or grey stored as colour.

    Raises RefusedError with the reason, or what Pillow raises for a damaged file.
    """
    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        raise RefusedError("not_an_image")
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        width, height = image.size
        check_shape(height, width, limits)
        if image.mode in ("P", "PA", "LA", "CMYK", "YCbCr", "1", "RGBA"):
            with image.convert("L" if image.mode in ("1", "LA") else "RGB") as converted:
                pixels = np.asarray(converted)
        else:
            pixels = np.asarray(image)
    stored = grey_of(pixels) if pixels.ndim == 3 else pixels
    digest = hashlib.blake2b(f"{stored.shape}".encode(), digest_size=16)
    digest.update(stored.astype("<u2").tobytes())
    values = stored.astype(np.float32)
    check_content(values)
    # Eight bits are a picture that somebody has windowed already; sixteen are not.
    shown = values / np.float32(255) if stored.dtype == np.uint8 else None
    return Xray(
        values=values, shown=shown, padding=None, digest=digest.hexdigest(), pixel_spacing_mm=None
    )


def read_mask(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask file of this shape: bool [H, W], true where the PNG is not zero.

    Raises RefusedError with ``bad_mask`` where it is damaged or of another size; never decodes the
    latter.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if (image.size[1], image.size[0]) != shape:
                raise RefusedError("bad_mask", "size")
            # Palette indices and bits count as they are; a colour is set where any of its channels
            # is.
            pixels = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "CMYK") else image)
    except (OSError, SyntaxError, ValueError) as fault:
        raise RefusedError("bad_mask", type(fault).__name__) from None
    mask: NDArray[np.bool_] = (pixels != 0).any(axis=2) if pixels.ndim == 3 else pixels != 0
    return mask
