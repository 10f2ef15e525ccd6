"""Near duplicates: one film under two patients, found among millions without comparing all pairs.

Films are sorted by a few bits of a locality-sensitive code, as often as there are tables, and each
is compared with its next neighbours in each order. Work and memory grow as n log n.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from radsweep.corpus.fingerprint import Fingerprints

LEAST_SIMILARITY = 0.9
"""Absolute correlation of two fingerprints under which films never count as copies. On real films,
copies in another window, gamma, size or polarity, or after JPEG at quality 40, have 0.93 to 1; a
crop by three percent a side has 0.74 and is missed."""

FALSE_PAIRS = 0.01
"""Pairs of strangers that may pass by chance, expected over the whole corpus."""

TAIL = (0.1, 0.01)
"""Shares of pairs of strangers, whose similarities say where the rest of the tail lies."""

SAMPLED_PAIRS = 1_000_000

CODE_BITS = 256
TABLES = 48
NEIGHBOURS = 8

PLANES_SEED = 20250912
CHUNK = 65_536


@final
@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of rows, most similar first."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    """Row numbers; ``left < right``."""
    similarity: NDArray[np.float32]


def least_similarity(fingerprints: Fingerprints, patients: NDArray[np.int64]) -> float:
    """The similarity that FALSE_PAIRS pairs of strangers of this corpus are expected to reach.

    Among a thousand films 0.9 tells copies from strangers, among millions it does not: there are
    10 to the 13 pairs, and some strangers stand and breathe alike. Fisher's z (the inverse
    hyperbolic tangent of a correlation) of strangers has a normal upper tail, so that two of its
    quantiles give the others. Measured: for 1,381 real films it foretells a largest similarity of
    0.875, and 0.875 is found; for 580 phantom films, which are more alike, 0.987 and 0.986.

    Args:
        fingerprints: int8 [n, D].
        patients: int64 [n]; pairs of one patient are not counted.

    Returns:
        at least LEAST_SIMILARITY, and that where all images are of one patient.
    """
    images = len(fingerprints)
    if images * (images - 1) // 2 <= SAMPLED_PAIRS:
        left, right = (side.astype(np.int64) for side in np.triu_indices(images, 1))
    else:
        generator = np.random.default_rng(PLANES_SEED + 2)
        left, right = generator.integers(0, images, (2, SAMPLED_PAIRS))
    strangers = patients[left] != patients[right]
    if not strangers.any():
        return LEAST_SIMILARITY
    alike = _similarities(fingerprints, left[strangers], right[strangers])
    z = np.arctanh(np.minimum(alike, np.float32(1 - 1e-6)))
    near, far = np.quantile(z, [1 - share for share in TAIL])
    normal_near, normal_far = (-ndtri(share) for share in TAIL)
    spread = (far - near) / (normal_far - normal_near)
    share = FALSE_PAIRS / (images * (images - 1) / 2)
    return max(LEAST_SIMILARITY, float(np.tanh(far + spread * (-ndtri(share) - normal_far))))


def near_duplicates(
    fingerprints: Fingerprints, patients: NDArray[np.int64], similarity: float
) -> Pairs:
    """Pairs of different patients whose fingerprints correlate, with either sign.

    Nothing is reported that is not similar; what is similar is found with a probability that rises
    with it (measured among 3.5 million synthetic ones: 0.99 at 0.97, 1 at 0.99). Of more than a
    handful of copies of one film, each is paired with some of the others, not with all.

    Args:
        fingerprints: int8 [n, D] as of ``fingerprints_of``.
        patients: int64 [n], a number for each patient.
        similarity: the least absolute correlation, in (0, 1); ``least_similarity`` gives one.

    Returns:
        the pairs, each once.
    """
    codes = _codes(fingerprints)
    limits = _limits(similarity)
    found = [np.empty(0, np.int64)]
    for columns in _table_columns():
        found.append(_candidates(codes, columns, patients, limits))
    packed = np.unique(np.concatenate(found))
    left, right = np.divmod(packed, max(1, len(codes)))
    alike = _similarities(fingerprints, left, right)
    keep = np.flatnonzero(alike >= similarity)
    keep = keep[np.argsort(-alike[keep], kind="stable")]
    return Pairs(left=left[keep], right=right[keep], similarity=alike[keep])


def _codes(fingerprints: Fingerprints) -> NDArray[np.uint64]:
    """Sides of CODE_BITS fixed random planes, uint64 [n, 4]; a film and its negative share one."""
    generator = np.random.default_rng(PLANES_SEED)
    planes = generator.standard_normal((fingerprints.shape[1], CODE_BITS)).astype(np.float32)
    codes = np.empty((len(fingerprints), CODE_BITS // 64), np.uint64)
    for at in range(0, len(fingerprints), CHUNK):
        block = fingerprints[at : at + CHUNK].astype(np.float32)
        sides = block @ planes > 0
        codes[at : at + CHUNK] = np.packbits(sides, axis=1).view(np.uint64)
    return codes


def _limits(similarity: float) -> tuple[int, int]:
    """Bits that may differ between copies, of one word and of all.

    A bit differs with probability acos(similarity) / pi (Goemans and Williamson, J. ACM 1995;
    Charikar, STOC 2002); each limit lies four standard deviations above the mean.
    """
    share = math.acos(similarity) / math.pi
    word, whole = (
        math.ceil(bits * share + 4 * math.sqrt(bits * share * (1 - share)))
        for bits in (64, CODE_BITS)
    )
    return word, whole


def _table_columns() -> NDArray[np.int64]:
    """Which four of the code's bytes each table sorts by, [TABLES, 4]."""
    generator = np.random.default_rng(PLANES_SEED + 1)
    return np.stack([generator.permutation(CODE_BITS // 8)[:4] for _ in range(TABLES)])


def _candidates(
    codes: NDArray[np.uint64],
    columns: NDArray[np.int64],
    patients: NDArray[np.int64],
    limits: tuple[int, int],
) -> NDArray[np.int64]:
    """Neighbours in one order that may be copies, as left * n + right."""
    images = len(codes)
    key = np.ascontiguousarray(codes.view(np.uint8)[:, columns]).view(np.uint32).ravel()
    # A negative has the complement of the code: sort both by whichever begins with a zero.
    negative = (key & np.uint32(1)).astype(bool)
    np.invert(key, out=key, where=negative)
    order = np.argsort(key, kind="stable")
    turned = codes[order]
    np.invert(turned, out=turned, where=negative[order][:, None])
    person = patients[order]
    first = np.ascontiguousarray(turned[:, 0])
    found = []
    for lag in range(1, min(NEIGHBOURS, images - 1) + 1):
        # One word of four tells most strangers apart, at a quarter of the cost.
        near = np.flatnonzero(
            (np.bitwise_count(first[lag:] ^ first[:-lag]) <= limits[0])
            & (person[lag:] != person[:-lag])
        )
        distance = np.bitwise_count(turned[near] ^ turned[near + lag]).sum(axis=1, dtype=np.int64)
        near = near[distance <= limits[1]]
        one, two = order[near], order[near + lag]
        found.append(np.minimum(one, two) * images + np.maximum(one, two))
    return np.concatenate([np.empty(0, np.int64), *found])


def _similarities(
    fingerprints: Fingerprints, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Absolute cosine of each pair, float32; zero where either is all zeros."""
    alike = np.empty(len(left), np.float32)
    for at in range(0, len(left), CHUNK):
        one = fingerprints[left[at : at + CHUNK]].astype(np.float32)
        two = fingerprints[right[at : at + CHUNK]].astype(np.float32)
        dot = np.abs(np.einsum("ij,ij->i", one, two))
        norms = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
        alike[at : at + CHUNK] = dot / np.maximum(norms, 1)
    return alike
