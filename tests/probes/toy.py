"""Frozen features that leak the answer, or know nothing of it, for every kind of task."""

import numpy as np

from radsweep.probes.base import FrozenFeatures, Labelled

SIDE, PATCH, CLASSES = 4, 8, 2


def vectors(values: np.ndarray, leak: bool, seed: int) -> np.ndarray:
    """float32 [n, 24]: a fixed mixture of the values [n, k] and noise, or noise alone."""
    mixing = np.random.default_rng(99).normal(size=(values.shape[1], 24))
    noise = np.random.default_rng(seed).normal(size=(len(values), 24))
    return ((values @ mixing if leak else 0) + 0.1 * noise).astype(np.float32)


def labels(images: int, leak: bool, seed: int) -> Labelled:
    targets = (np.random.default_rng(seed).random((images, 3)) < 0.4).astype(np.float32)
    features = vectors(targets, leak, seed + 1000)
    targets[::7, 0] = np.nan
    return Labelled(features=FrozenFeatures(pooled=features, mean=features), targets=targets)


def masks(images: int, leak: bool, seed: int) -> Labelled:
    """Vertical lines of two pixels; each map position knows the pixels of its own patch."""
    generator = np.random.default_rng(seed)
    side = SIDE * PATCH
    drawn = np.zeros((images, CLASSES, side, side), np.uint8)
    for image in range(images):
        for kind in range(CLASSES):
            if generator.random() < 0.6:
                column = generator.integers(0, side - 1)
                drawn[image, kind, : generator.integers(side // 2, side), column : column + 2] = 1
    patches = drawn.reshape(images, CLASSES, SIDE, PATCH, SIDE, PATCH)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(images, SIDE, SIDE, -1).astype(np.float32)
    if not leak:
        patches = generator.permutation(patches.reshape(-1, patches.shape[-1])).reshape(
            patches.shape
        )
    level = patches.transpose(0, 3, 1, 2).astype(np.float16)
    pooled = np.zeros((images, 4), np.float32)
    features = FrozenFeatures(pooled=pooled, mean=pooled, maps=(level, level, level, level))
    return Labelled(features=features, targets=drawn)


SENTENCES = (
    ("Left pleural effusion.", "No pleural effusion."),
    ("There is a nodule.", "No nodule."),
    ("Cardiomegaly.", "Heart size is normal."),
)


def reports(images: int, leak: bool, seed: int) -> Labelled:
    """Two visual tokens a side that say which findings there are."""
    truth = (np.random.default_rng(seed).random((images, 3)) < 0.5).astype(np.float32)
    texts = [
        " ".join(pair[0] if has else pair[1] for pair, has in zip(SENTENCES, row, strict=True))
        for row in truth
    ]
    pooled = vectors(truth - 0.5, leak, seed + 1000)
    tokens = np.repeat(pooled[:, None], 4, axis=1).astype(np.float16)
    return Labelled(
        features=FrozenFeatures(pooled=pooled, mean=pooled, tokens=tokens), targets=texts
    )
