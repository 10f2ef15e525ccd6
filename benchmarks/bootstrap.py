"""A thousand patient-clustered bootstraps of AUPRC against scikit-learn in a loop.

``python benchmarks/bootstrap.py [--labels L] [--exams N] [--resamples R]`` draws patients once,
scores every label under every resample both ways, and prints one table with the largest
difference. Ours gives AUROC in the same pass; scikit-learn is asked for AUPRC alone, with how often
each exam was drawn as its ``sample_weight``, which is the fastest that it can. ``--sample K`` times
K of its resamples and scales their time up. torchmetrics joins where it is installed: it has no
weights, so that it gets the rows of each resample, gathered.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from radsweep.tasks.ranking import ranking_areas
from radsweep.tasks.resample import patient_weights

Area = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint16]], float]


def by_scikit_learn(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.uint16]
) -> float:
    """AUPRC of one label under one resample."""
    return float(average_precision_score(positive, scores, sample_weight=weights))


def by_torchmetrics(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.uint16]
) -> float:
    """The same, of the drawn rows."""
    functional = importlib.import_module("torchmetrics.functional.classification")
    rows = np.repeat(np.arange(len(scores)), weights)
    return float(
        functional.binary_average_precision(
            torch.from_numpy(scores[rows]), torch.from_numpy(positive[rows].astype(np.int64))
        )
    )


def main() -> None:
    """Score both ways, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--exams", type=int, default=5_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--sample", type=int, default=50, help="resamples that others are timed on")
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    patients = generator.integers(0, given.exams * 2 // 3, given.exams).astype(np.str_)
    positive = generator.random((given.exams, given.labels)) < np.linspace(0.02, 0.4, given.labels)
    noise = generator.standard_normal((given.exams, given.labels))
    scores = (positive + noise).astype(np.float32)
    began = time.perf_counter()
    weights = patient_weights(patients, given.resamples, seed=0)
    ours = np.stack(
        [ranking_areas(scores[:, i], positive[:, i], weights)[1] for i in range(given.labels)],
        axis=1,
    )
    seconds = time.perf_counter() - began
    table = Table(
        title=f"{given.labels} labels x {given.exams} exams x {given.resamples} resamples, "
        f"{torch.get_num_threads()} threads"
    )
    for name in ("", "seconds", "against ours", "largest difference"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("radsweep (AUROC and AUPRC)", f"{seconds:.2f}", "1.0", "")
    others: dict[str, Area] = {"scikit-learn": by_scikit_learn}
    if importlib.util.find_spec("torchmetrics"):
        others["torchmetrics"] = by_torchmetrics
    rows = np.linspace(0, given.resamples, min(given.sample, given.resamples)).round().astype(int)
    for name, area in others.items():
        began = time.perf_counter()
        theirs = np.array(
            [
                [
                    area(scores[:, label], positive[:, label], weights[row])
                    for label in range(given.labels)
                ]
                for row in rows
            ]
        )
        taken = (time.perf_counter() - began) * given.resamples / len(rows)
        table.add_row(
            f"{name} ({len(rows)} of {given.resamples} resamples timed)",
            f"{taken:.1f}",
            f"{taken / seconds:.1f}",
            f"{np.abs(theirs - ours[rows]).max():.1e}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
