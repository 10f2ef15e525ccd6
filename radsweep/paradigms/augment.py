"""Random views of a radiograph on a CPU: crops, intensity, blur. No flips: sides matter.

uint8 in and out, by Pillow and one table of 256 values, since the stream makes thousands of views a
second.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

RATIO = math.log(4 / 3)
"""Largest log ratio of a crop's sides (torchvision's and MedImageInsight's 3/4 to 4/3)."""

LEVELS = np.arange(256, dtype=np.float32) / 255
BLUR_SIGMA = (0.1, 2.0)
"""Pixels, as in DINOv2 (Oquab et al. 2023)."""


def random_crop(
    pixels: NDArray[np.uint8],
    size: int,
    scale_min: float,
    scale_max: float,
    generator: np.random.Generator,
) -> Image.Image:
    """A random rectangle of the image, resized (bicubic, antialiased) to a square.

    Args:
        pixels: [H, W].
        size: side of the answer in pixels.
        scale_min: smallest share of the image's area.
        scale_max: largest; 1 and 1 give the whole image.
        generator: draws area, shape and place.
    """
    height, width = pixels.shape
    area, ratio, x, y = generator.random(4).tolist()
    area = height * width * (scale_min + (scale_max - scale_min) * area)
    stretch = math.exp(RATIO * (2 * ratio - 1) / 2) if scale_min < 1 else 1.0
    crop_width = min(width, math.sqrt(area) * stretch)
    crop_height = min(height, math.sqrt(area) / stretch)
    if scale_min >= 1:
        crop_width, crop_height = width, height
    left, top = x * (width - crop_width), y * (height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box)


def jittered(
    image: Image.Image, strength: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Brightness, contrast and gamma changed at random, as [1, H, W].

    Args:
        image: mode L.
        strength: s in brightness +- s/2 of full range, contrast times exp(+-s), gamma exp(+-s); 0
            changes
            nothing and draws nothing.
        generator: draws the three.
    """
    pixels = np.asarray(image)
    if strength > 0:
        brightness, contrast, gamma = (strength * (2 * generator.random(3) - 1)).tolist()
        table = (LEVELS ** math.exp(gamma) - 0.5) * math.exp(contrast) + 0.5 + brightness / 2
        pixels = (table.clip(0, 1) * 255 + 0.5).astype(np.uint8).take(pixels)
    return pixels[None]


def blurred(image: Image.Image, probability: float, generator: np.random.Generator) -> Image.Image:
    """Blurred by a Gaussian of random width with this probability."""
    chance, width = generator.random(2).tolist()
    if chance >= probability:
        return image
    low, high = BLUR_SIGMA
    return image.filter(ImageFilter.GaussianBlur(low + (high - low) * width))
