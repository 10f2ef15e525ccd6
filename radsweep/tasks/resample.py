"""The patient-clustered bootstrap as integer weights, so that a thousand resamples are one array.

Efron and Tibshirani 1993, chapter 6: resampling n items with replacement is counting how often each
was drawn. Patients are drawn, and an image counts as often as its patient (Davison and Hinkley
1997, 3.8).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

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


def weighted_medians(
    weights: NDArray[np.uint16], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[resamples, k] medians over images of values [n, k], each as often as it was drawn.

    NumPy's, of the repeated rows: between the two in the middle where their number is even.
    """
    order = np.argsort(values, axis=0, kind="stable")
    medians = np.empty((len(weights), values.shape[1]))
    for part in chunks(weights):
        for column, ranked in enumerate(order.T):
            seen = np.cumsum(weights[part][:, ranked], axis=1, dtype=np.int64)
            count = seen[:, -1:]
            lower = (2 * seen >= count).argmax(axis=1)
            upper = (2 * seen > count).argmax(axis=1)
            inside = values[ranked, column]
            medians[part, column] = (inside[lower] + inside[upper]) / 2
    return medians


def divided(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """``above / below``, NaN where ``below`` is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def macro(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[resamples] mean over labels of values [resamples] each, those that are not NaN."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    return divided(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def people(patients: NDArray[np.str_], of: NDArray[np.bool_]) -> int:
    """How many patients [n] have an image that is in ``of`` [n]."""
    return len(np.unique(patients[of]))


def shared_people(counts: Sequence[float]) -> float:
    """Patients that a mean over numbers rests on: the harmonic mean of theirs.

    The variance of a number goes as one over its patients, so that the rarest label says most.
    Numbers of nobody are not defined and in no mean; 0 where there are no others.
    """
    shares = [1 / count for count in counts if count > 0]
    return len(shares) / sum(shares) if shares else 0.0


def interval(draws: NDArray[np.float64], patients: float) -> tuple[float, float] | None:
    """The expanded percentile interval, nominally 95%; None where no draw is defined.

    Percentiles alone are too narrow by about sqrt((n - 1) / n) and by what Student's t is wider
    than the normal; so the outer ones are taken that make up for both (Hesterberg 2015, The
    American Statistician 69:371, "expanded percentile"). They are read at rank p (draws + 1), which
    is right on average for any number of draws (Hyndman and Fan 1996, definition 6).
    ``tests/tasks/test_coverage.py`` holds it to known truths.

    Args:
        draws: [resamples] of the number; NaN where it is not defined.
        patients: that the number rests on, as ``Measurement.patients``; fewer than 2 count as 2.
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) == 0:
        return None
    count = max(2.0, patients)
    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.025)))
    low, high = np.quantile(defined, (tail, 1 - tail), method="weibull")
    return float(low), float(high)
