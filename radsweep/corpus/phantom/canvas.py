"""From millimetres to pixels: the field's grids, and anti-aliased ribbons drawn along curves.

Curves are arrays of shape (curves, points, 2) holding (u, v) in millimetres of the standard frame.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from radsweep.corpus.phantom.latents import View

Array = NDArray[np.float32]
"""float32, mostly (size, size)."""


SHARP_MM = 1.5
"""Pixels up to this size show findings and tubes as they are."""

MOST_GAIN = 4.0


@dataclass(frozen=True)
class Frame:
    """One image's sampling of the standard frame."""

    size: int
    mm_per_pixel: float
    """In the standard frame; the patient's own spacing is this times the stature."""
    u: Array
    v: Array
    oversample: int
    _matrix: Any
    _shift: Any

    @property
    def gain(self) -> float:
        """How much stronger findings and tubes are drawn where pixels are larger than ``SHARP_MM``.

        There a tube's stripe and walls can no longer be told apart, and all but the bulk of a
        finding is lost in the ribs. This is a phantom's licence and not physics: it lets small
        films pose the question that large ones do.
        """
        return float(min(MOST_GAIN, max(1.0, self.mm_per_pixel / SHARP_MM) ** 1.5))

    def pixels(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Image coordinates (x, y), in pixels from the outer corner, of (..., 2) points in mm."""
        return np.asarray(points @ self._matrix.T + self._shift)


def frame_of(view: View, stature: float, size: int) -> Frame:
    """The grids of a view at ``size`` x ``size`` pixels, whatever the size."""
    side = view.field_mm / stature
    step = side / size
    cos, sin = np.cos(view.tilt), np.sin(view.tilt)
    x, y = _grid(size)
    u = x * np.float32(side * cos) + y * np.float32(side * sin)
    u += np.float32(view.centre_u_mm)
    v = x * np.float32(-side * sin) + y * np.float32(side * cos)
    v += np.float32(view.centre_v_mm)
    matrix = np.array([[cos, -sin], [sin, cos]]) / step
    shift = size / 2 - matrix @ np.array([view.centre_u_mm, view.centre_v_mm])
    oversample = 3 if size <= 160 else 2 if size <= 640 else 1
    return Frame(size, step, u, v, oversample, matrix, shift)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Array, Array]:
    """Pixel centres in fractions of the field, from its centre."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = np.meshgrid(line, line)
    return x.astype(np.float32), y.astype(np.float32)


@lru_cache(maxsize=16)
def _bernstein(degree: int, points: int) -> NDArray[np.float64]:
    t = np.linspace(0.0, 1.0, points)[:, None]
    rows = np.arange(degree + 1)[None, :]
    choose = np.cumprod([1.0] + [(degree - k) / (k + 1) for k in range(degree)])
    return np.asarray(choose * t**rows * (1.0 - t) ** (degree - rows))


def bezier(controls: NDArray[Any], points: int) -> NDArray[np.float64]:
    """Curves through the end points of (..., degree + 1, 2) controls: (..., points, 2)."""
    controls = np.asarray(controls, dtype=np.float64)
    return np.asarray(_bernstein(controls.shape[-2] - 1, points) @ controls)


def spline(knots: list[tuple[float, float]], points: int) -> NDArray[np.float64]:
    """A uniform Catmull-Rom curve through all knots, ends included: (points, 2)."""
    return np.asarray(_catmull_rom(len(knots), points) @ np.asarray(knots, dtype=np.float64))


@lru_cache(maxsize=32)
def _catmull_rom(knots: int, points: int) -> NDArray[np.float64]:
    """Weights (points, knots) of the knots; beyond either end the curve goes straight on."""
    where = np.linspace(0.0, knots - 1.0, points)
    start = np.minimum(where.astype(int), knots - 2)
    t = where - start
    near = 0.5 * np.stack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            t**3 - t**2,
        ]
    )
    padded = np.zeros((points, knots + 2))
    for offset in range(4):
        padded[np.arange(points), start + offset] += near[offset]
    weights = padded[:, 1:-1].copy()
    weights[:, 0] += 2 * padded[:, 0]
    weights[:, 1] -= padded[:, 0]
    weights[:, -1] += 2 * padded[:, -1]
    weights[:, -2] -= padded[:, -1]
    return weights


def outlines(points: NDArray[Any], half_widths: NDArray[Any]) -> NDArray[np.float64]:
    """Closed polygons around curves in pixels: (curves, points, 2) -> (curves, 2 points, 2)."""
    step = np.empty_like(points)
    step[:, 1:-1] = points[:, 2:] - points[:, :-2]
    step[:, 0] = points[:, 1] - points[:, 0]
    step[:, -1] = points[:, -1] - points[:, -2]
    length = np.sqrt(step[..., 0] ** 2 + step[..., 1] ** 2)
    scale = half_widths / np.maximum(length, 1e-9)
    across = np.empty_like(points)
    across[..., 0] = step[..., 1] * -scale
    across[..., 1] = step[..., 0] * scale
    return np.concatenate([points + across, (points - across)[:, ::-1]], axis=1)


@dataclass
class Canvas:
    """An 8-bit drawing at a multiple of the image's size; later strokes cover earlier ones."""

    frame: Frame

    def __post_init__(self) -> None:
        """Start black."""
        side = self.frame.size * self.frame.oversample
        self.image = Image.new("L", (side, side))
        self.draw = ImageDraw.Draw(self.image)

    def ribbons(
        self,
        curves: NDArray[Any],
        half_widths_mm: NDArray[Any] | float,
        values: NDArray[Any] | float,
    ) -> None:
        """Draw curves as bands of constant value in 0..1.

        Args:
            curves: (curves, points, 2) in millimetres.
            half_widths_mm: broadcast to (curves, points). A band thinner than a drawn pixel is
                drawn one pixel wide and paler by the same ratio.
            values: broadcast to (curves,).
        """
        over = self.frame.oversample
        points = self.frame.pixels(curves) * over
        half = np.broadcast_to(np.asarray(half_widths_mm, dtype=np.float64), curves.shape[:2])
        half = half * (over / self.frame.mm_per_pixel)
        pale = np.minimum(1.0, half.mean(axis=1) / 0.5)
        # Pillow fills the pixels on the outline as well: half a drawn pixel on each side.
        polygons = outlines(points - 0.5, np.maximum(half, 0.5) - 0.5)
        levels = np.broadcast_to(np.asarray(values), pale.shape) * pale * 255.0
        for polygon, level in zip(
            polygons.reshape(len(polygons), -1).tolist(),
            np.rint(levels).astype(int).tolist(),
            strict=True,
        ):
            self.draw.polygon(polygon, fill=level)

    def array(self, peak: float = 1.0) -> Array:
        """The drawing at the image's own size, scaled so that white is ``peak``."""
        over = self.frame.oversample
        small = self.image.reduce(over) if over > 1 else self.image
        return np.asarray(small, dtype=np.float32) * np.float32(peak / 255.0)


def texture(rng: np.random.Generator, frame: Frame, grain_mm: float) -> Array:
    """Smooth noise of about unit variance whose grain does not depend on the image's size."""
    side = frame.size * frame.mm_per_pixel
    cells = max(4, round(side / grain_mm))
    noise = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(noise.resize((frame.size, frame.size), Image.Resampling.BICUBIC))


def ramp(distance: Array, width: float) -> Array:
    """0 to 1 as a signed distance goes from -width/2 to width/2: a soft step."""
    soft = distance * np.float32(1.0 / width)
    soft += np.float32(0.5)
    np.clip(soft, 0.0, 1.0, out=soft)
    return soft


def chord(u: Array, v: Array, radius_u: float, radius_v: float) -> Array:
    """Thickness profile of an ellipsoid about the origin: 1 at its centre, 0 outside."""
    r2 = np.square(u * np.float32(1.0 / radius_u))
    r2 += np.square(v * np.float32(1.0 / radius_v))
    np.subtract(np.float32(1.0), r2, out=r2)
    np.maximum(r2, np.float32(0.0), out=r2)
    return np.asarray(np.sqrt(r2, out=r2))
