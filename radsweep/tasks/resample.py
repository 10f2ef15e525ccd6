"""The patient-clustered bootstrap as integer weights, so that a thousand resamples are one array.

Efron and Tibshirani 1993, chapter 6: resampling n items with replacement is counting how often each
was drawn. Patients are drawn, and an image counts as often as its patient (Davison and Hinkley
1997, 3.8).
"""

import numpy as np
from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 17
"""Weights that are worked on at once: 1 MB of float64, which stays in a core's cache."""


def patient_weights(patients: NDArray[np.str_], draws: int, seed: int) -> NDArray[np.uint16]:
    """Weights [1 + draws, n]; row 0 is all ones, row i the i-th resample of patients.

    A function of the patients, ``draws`` and ``seed`` alone: draw i is the same resample for every
    encoder.

    Args:
        patients: [n] patient of each image.
        draws: resamples.
        seed: 64-bit.
    """
    names, patient = np.unique(patients, return_inverse=True)
    count = len(names)
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = generator.integers(0, count, size=(draws, count))
    flat = (drawn + np.arange(draws)[:, None] * count).ravel()
    times = np.bincount(flat, minlength=draws * count).reshape(draws, count)
    ones = np.ones((1, len(patients)), dtype=np.uint16)
    return np.concatenate([ones, times.astype(np.uint16)[:, patient]])


def chunks(weights: NDArray[np.uint16]) -> list[slice]:
    """Slices of resamples that are small enough for the cache."""
    size = max(1, CHUNK_ELEMENTS // max(1, weights.shape[1]))
    return [slice(start, start + size) for start in range(0, len(weights), size)]


def weighted_sums(
    weights: NDArray[np.uint16], statistics: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[resamples, k] sums over images of statistics [n, k], each image as often as it was drawn."""
    sums = [weights[part].astype(np.float64) @ statistics for part in chunks(weights)]
    return np.concatenate(sums)


def weighted_means(weights: NDArray[np.uint16], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[resamples, k] means over images of values [n, k], those that are not NaN."""
    known = np.isfinite(values)
    sums = weighted_sums(weights, np.where(known, values, 0.0))
    return divided(sums, weighted_sums(weights, known.astype(np.float64)))


def divided(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """``above / below``, NaN where ``below`` is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def macro(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[resamples] mean over labels of values [resamples] each, those that are not NaN."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    return divided(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def interval(draws: NDArray[np.float64]) -> tuple[float, float] | None:
    """The 2.5 and 97.5 percentiles of the draws; None where none is defined."""
    defined = draws[np.isfinite(draws)]
    if len(defined) == 0:
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)
