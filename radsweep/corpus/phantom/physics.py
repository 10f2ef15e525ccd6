"""From attenuation to the picture that a detector and its vendor make of it."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from radsweep.corpus.phantom.canvas import Array
from radsweep.corpus.phantom.hospital import Scanner

SCATTER_MM = 38.0
"""Standard deviation of the scatter kernel: wide against any organ's edge."""

BODY_SIGNAL = 0.7
"""Minus the logarithm of the fluence above which some body is in the ray."""


def expose(p: Array, scanner: Scanner, pixel_spacing_mm: float, rng: np.random.Generator) -> Array:
    """Film of a chest: transmission, scatter, blur, quantum noise, logarithm, display curve.

    Args:
        p: line integral of attenuation, (size, size) float32.
        scanner: the detector and its processing.
        pixel_spacing_mm: of the image; blur and scatter are in millimetres.
        rng: the quantum noise.

    Returns:
        (size, size) float32 in [0, 1]; dense is bright, as in MONOCHROME2.
    """
    primary = np.exp(-p)
    fluence = primary + np.float32(scanner.scatter) * _low(primary, SCATTER_MM / pixel_spacing_mm)
    sigma = scanner.blur_mm / pixel_spacing_mm
    if sigma > 0.3:
        fluence = gaussian_filter(fluence, sigma, truncate=2.5)
    # Poisson by its normal limit: even behind the heart some tens of photons arrive.
    noise = rng.standard_normal(p.shape, dtype=np.float32)
    noise *= np.sqrt(fluence * np.float32(1.0 / scanner.quanta))
    fluence += noise
    signal = -np.log(np.maximum(fluence, np.float32(0.5 / scanner.quanta)))
    return _display(signal, scanner, pixel_spacing_mm)


def _low(image: Array, sigma: float) -> Array:
    """A wide Gaussian, worked out on a small copy: exact enough for what has no edges."""
    size = image.shape[0]
    step = max(1, int(sigma / 2.5))
    small = Image.fromarray(image)
    if step > 1:
        small = small.reduce(step)
    soft = gaussian_filter(np.asarray(small), sigma / step, truncate=2.5)
    return np.asarray(Image.fromarray(soft).resize((size, size), Image.Resampling.BILINEAR))


def _display(signal: Array, scanner: Scanner, pixel_spacing_mm: float) -> Array:
    """Percentile window over the middle of the film, unsharp mask, gamma and sigmoid."""
    if scanner.detail > 0.0:
        signal = signal + np.float32(scanner.detail) * (
            signal - _low(signal, 22.0 / pixel_spacing_mm)
        )
    size = signal.shape[0]
    border = size // 12
    step = max(1, size // 64)
    middle = signal[border : size - border : step, border : size - border : step]
    # Bare air would stretch the window of a slim patient: only what lies behind a body counts.
    behind = middle[middle > np.float32(BODY_SIGNAL)]
    low, high = np.quantile(behind if behind.size > 32 else middle, (0.01, 0.995))
    shown = (signal - np.float32(low)) * np.float32(1.0 / max(high - low, 1e-3))
    # A toe below the window: air around the body stays darker than the darkest lung.
    shown = np.clip(np.float32(0.12) + shown * np.float32(0.80), 0.0, 1.0)
    shown = np.power(shown, np.float32(scanner.gamma))
    if scanner.contrast > 0.0:
        k = np.float32(scanner.contrast)
        bend = np.tanh((shown - np.float32(0.5)) * (k * np.float32(0.5)))
        shown = np.float32(0.5) + bend * np.float32(0.5 / np.tanh(0.25 * scanner.contrast))
    return np.asarray(np.clip(shown, 0.0, 1.0), dtype=np.float32)
