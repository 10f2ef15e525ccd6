"""Areas under the ROC and precision-recall curves: all resamples at once, exact under ties."""

import numpy as np
from numpy.typing import NDArray

from radsweep.tasks.resample import chunks, divided


def ranking_areas(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.uint16]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROC and AUPRC [resamples] of one label; NaN where a resample lacks positives or negatives.

    AUROC is the Mann-Whitney statistic with ties counted one half (Hanley and McNeil 1982). AUPRC
    is average precision, the sum over thresholds of precision times the rise in recall, without
    interpolation (Davis and Goadrich 2006); tied scores share one threshold.

    Args:
        scores: [n], higher means more likely.
        positive: [n].
        weights: [resamples, n] how often each image counts.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, label = scores[order], positive[order]
    changes = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [len(ranked)]])
    tie = np.repeat(np.arange(len(starts)), ends - starts)[label]
    first, last = starts[tie], ends[tie]
    areas = [_areas(weights[part][:, order], label, first, last) for part in chunks(weights)]
    return np.concatenate([a for a, _ in areas]), np.concatenate([b for _, b in areas])


def _areas(
    counts: NDArray[np.uint16],
    label: NDArray[np.bool_],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas of some resamples whose columns are in order of falling score.

    ``first`` and ``last`` bound, for each positive, the ties that it belongs to.
    """
    weights = counts.astype(np.float64)
    at_positives = weights[:, label]
    seen = _running(weights)
    true = _running(weights * label)
    false = seen - true
    positives, negatives = true[:, -1], false[:, -1]
    above = 0.5 * (false[:, first] + false[:, last])
    auroc = divided(
        (at_positives * (negatives[:, None] - above)).sum(axis=1), positives * negatives
    )
    precision = divided(true[:, last], seen[:, last])
    hits = np.where(at_positives > 0, at_positives * precision, 0.0)
    auprc = divided(hits.sum(axis=1), positives)
    auprc[negatives == 0] = np.nan
    return auroc, auprc


def _running(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums [resamples, n + 1] that begin with 0."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
