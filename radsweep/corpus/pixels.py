"""Named ways to turn a decoded x-ray into the stored 8-bit picture: part of a corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from radsweep import parts
from radsweep.corpus.xray import Xray, percentiles
from radsweep.errors import SpecError

Picture = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

MASK_COVERAGE = 0.25
"""A stored mask pixel is set where the mask covers at least this share of it. At one half, a tube
thinner than half a stored pixel would vanish."""


@final
@dataclass(frozen=True, kw_only=True)
class Policy:
    """One preprocessing at one size. The picture stored is always square, [size, size]."""

    name: str
    size: int

    def __post_init__(self) -> None:
        if self.name not in _RECIPES:
            raise SpecError(
                f"no preprocessing policy {self.name!r}; "
                f"{parts.did_you_mean(self.name, sorted(_RECIPES))}"
            )
        if not 16 <= self.size <= 2048:
            raise SpecError(f"image size {self.size}; give 16 to 2048 pixels")

    @property
    def version(self) -> int:
        """Raised when the numbers of this policy change."""
        return _RECIPES[self.name].version

    def apply(self, xray: Xray) -> NDArray[np.uint8]:
        """The stored picture, uint8 [size, size]."""
        return _RECIPES[self.name].apply(xray, self.size)

    def apply_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of the source's size as a mask of the stored picture, bool [size, size]."""
        size, box = self.size, self._box(mask.shape)
        if mask.shape == (size, size):
            return mask
        image = Image.fromarray(mask.astype(np.uint8) * 255)
        covered: NDArray[np.uint8] = np.asarray(
            image.resize((size, size), Image.Resampling.BOX, box)
        )
        return np.greater_equal(covered, round(255 * MASK_COVERAGE))

    def pixel_spacing_mm(self, xray: Xray) -> float | None:
        """Of the stored picture; None if unknown, or if the axes differ by over one percent."""
        if xray.pixel_spacing_mm is None:
            return None
        left, top, right, bottom = self._box(xray.values.shape)
        row = xray.pixel_spacing_mm[0] * (bottom - top) / self.size
        column = xray.pixel_spacing_mm[1] * (right - left) / self.size
        return (row + column) / 2 if abs(row - column) <= 0.01 * max(row, column) else None

    def _box(self, shape: tuple[int, ...]) -> Box:
        return _RECIPES[self.name].box(shape)


def policy_names() -> list[str]:
    """Of all policies, sorted."""
    return sorted(_RECIPES)


def _whole(shape: tuple[int, ...]) -> Box:
    return (0.0, 0.0, float(shape[1]), float(shape[0]))


def _centre(shape: tuple[int, ...]) -> Box:
    """The centred square on the short side."""
    height, width = shape
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def _resize(picture: Picture, size: int, box: Box) -> Picture:
    """Bicubic, antialiased (the kernel widens with the reduction)."""
    if picture.shape == (size, size) and box == _whole(picture.shape):
        return picture
    image = Image.fromarray(picture)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def _to_uint8(picture: Picture) -> NDArray[np.uint8]:
    """From [0, 1], rounded."""
    stored: NDArray[np.uint8] = np.rint(picture.clip(0.0, 1.0) * np.float32(255)).astype(np.uint8)
    return stored


def _stretch(xray: Xray, low: float, high: float) -> Picture:
    """Linear from [low, high] to [0, 1], clipped; padding is 0."""
    scaled = (xray.values - np.float32(low)) * np.float32(1 / max(high - low, 1e-6))
    picture = np.clip(scaled, 0, 1, out=scaled)
    if xray.padding is not None:
        picture[xray.padding] = 0
    return picture


def _radsweep(xray: Xray, size: int) -> NDArray[np.uint8]:
    """The header's window where it is usable, else percentiles 0.5 to 99.5; centred square."""
    picture = xray.shown
    if picture is None:
        picture = _stretch(xray, *percentiles(xray, 0.5, 99.5))
    return _to_uint8(_resize(picture, size, _centre(picture.shape)))


def _mi2(xray: Xray, size: int) -> NDArray[np.uint8]:
    """Percentiles 1 to 99 to 8 bits, then resized without keeping the aspect.

    As in the client that Microsoft publishes for MedImageInsight (healthcareai_toolkit).
    """
    eight_bits = _to_uint8(_stretch(xray, *percentiles(xray, 1, 99))).astype(
        np.float32
    ) / np.float32(255)
    return _to_uint8(_resize(eight_bits, size, _whole(eight_bits.shape)))


def _rad_dino(xray: Xray, size: int) -> NDArray[np.uint8]:
    """Cubic B-spline interpolation to the short side, then minimum to maximum as 0 to 255.

    RAD-DINO, Perez-Garcia et al. 2024, appendix on data: B-spline resize, no antialiasing. Its
    encoder crops the centred square afterwards; here the square is what is stored, and the range is
    that square's.
    """
    left, top, right, _ = _centre(xray.values.shape)
    scale = (right - left) / size
    values = xray.values
    if xray.padding is not None:
        low, _ = percentiles(xray, 0, 100)
        values = np.where(xray.padding, np.float32(low), values)
    if values.shape != (size, size):
        offset = (top + scale / 2 - 0.5, left + scale / 2 - 0.5)
        values = ndimage.affine_transform(
            values, (scale, scale), offset, (size, size), order=3, mode="mirror", output=np.float32
        )
    low, high = float(values.min()), float(values.max())
    return _to_uint8((values - np.float32(low)) * np.float32(1 / max(high - low, 1e-6)))


@final
@dataclass(frozen=True)
class _Recipe:
    version: int
    apply: Callable[[Xray, int], NDArray[np.uint8]]
    box: Callable[[tuple[int, ...]], Box]


_RECIPES = {
    "radsweep": _Recipe(1, _radsweep, _centre),
    "rad-dino": _Recipe(1, _rad_dino, _centre),
    "mi2": _Recipe(1, _mi2, _whole),
}
