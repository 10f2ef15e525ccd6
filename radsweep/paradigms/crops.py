"""Several crops of one radiograph and masks over the large ones: the views of DINOv2."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.example import Example, Stratum, Views
from radsweep.paradigms.augment import blurred, jittered, random_crop
from radsweep.paradigms.masks import block_mask

GLOBALS = 2


@dataclass(frozen=True, kw_only=True)
class CropViewer:
    """Two global crops, one of them masked, and local crops."""

    global_size: int
    local_size: int
    local_crops: int
    global_scale: tuple[float, float]
    local_scale: tuple[float, float]
    grid: int
    """Patches along a side of a global crop."""
    mask_ratio: tuple[float, float]
    jitter: float
    blur: float

    def __call__(self, example: Example, generator: np.random.Generator, stratum: Stratum) -> Views:
        """``globals`` uint8 [2, 1, G, G], ``masks`` bool [2, N], ``locals`` uint8 [n, 1, L, L].

        Without local crops there is no ``locals``.

        Exactly one of the two global crops is masked: half of all, as in DINOv2, but never none of
        a batch. The share of hidden patches is drawn within the image's stratum, as there, so that
        every batch has the whole range of shares; DINOv2 has the strata of each process's images,
        this those of the global batch.
        """
        large = [
            self._crop(example.pixels, self.global_size, self.global_scale, generator)
            for _ in range(GLOBALS)
        ]
        small = [
            self._crop(example.pixels, self.local_size, self.local_scale, generator)
            for _ in range(self.local_crops)
        ]
        views: Views = {"globals": np.stack(large), "masks": self._masks(generator, stratum)}
        if small:
            views["locals"] = np.stack(small)
        return views

    def _crop(
        self,
        pixels: NDArray[np.uint8],
        size: int,
        scale: tuple[float, float],
        generator: np.random.Generator,
    ) -> NDArray[np.uint8]:
        crop = blurred(random_crop(pixels, size, *scale, generator), self.blur, generator)
        return jittered(crop, self.jitter, generator)

    def _masks(self, generator: np.random.Generator, stratum: Stratum) -> NDArray[np.bool_]:
        masks = np.zeros((GLOBALS, self.grid * self.grid), bool)
        low, high = self.mask_ratio
        patches = int(masks.shape[1] * (low + (high - low) * stratum.draw(generator)))
        masks[int(generator.integers(GLOBALS))] = block_mask(
            self.grid, self.grid, patches, generator
        ).reshape(-1)
        return masks
