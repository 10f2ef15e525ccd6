"""ROUGE-L and BLEU over reports, as statistics that a weight matrix can sum.

Both see a text as its lower-case runs of letters and digits, the tokens of the original ROUGE (Lin
2004).
"""

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from radsweep.tasks.resample import divided

MAX_ORDER = 4
"""Longest n-gram of BLEU (Papineni et al. 2002, section 2.3)."""


def words(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_l(reference: list[str], candidate: list[str]) -> float:
    """F1 of the longest common subsequence (Lin 2004, section 3, beta 1); 0 if one is empty."""
    common = _common_subsequence(reference, candidate)
    if common == 0:
        return 0.0
    precision, recall = common / len(candidate), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def _common_subsequence(a: list[str], b: list[str]) -> int:
    """Its length, with the dynamic programme's rows as bits of an integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(a) - row.bit_count()


def bleu_statistics(reference: list[str], candidate: list[str]) -> NDArray[np.float64]:
    """[2 + 2 MAX_ORDER]: candidate and reference length, clipped matches and n-grams by order."""
    counts = [float(len(candidate)), float(len(reference))]
    for order in range(1, MAX_ORDER + 1):
        found, wanted = _ngrams(candidate, order), _ngrams(reference, order)
        counts += [float((found & wanted).total()), float(found.total())]
    return np.array(counts)


def _ngrams(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def bleu(sums: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Corpus BLEU up to ``order`` from summed statistics [resamples, 2 + 2 MAX_ORDER], in [0, 1].

    Papineni et al. 2002, section 2.3, without smoothing: 0 where an order has no match.
    """
    candidate, reference = sums[:, 0], sums[:, 1]
    matches, found = sums[:, 2 : 2 + 2 * order : 2], sums[:, 3 : 3 + 2 * order : 2]
    precision = np.nan_to_num(divided(matches, found), nan=0.0)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precision).mean(axis=1))
    ratio = np.nan_to_num(divided(reference, candidate), nan=np.inf)
    brevity = np.exp(np.minimum(0.0, 1.0 - ratio))
    return np.asarray(mean * brevity)
