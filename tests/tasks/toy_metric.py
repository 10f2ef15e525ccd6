"""A report metric as someone else would write one: the share of true words that are written."""

from typing import ClassVar, final

import numpy as np

from radsweep.tasks.clinical import ReportMetric
from radsweep.tasks.resample import weighted_means


@final
class WordRecall(ReportMetric):
    name: ClassVar[str] = "word_recall"
    needs: ClassVar[tuple[str, ...]] = ("numpy",)

    def statistics(self, references: list[str], candidates: list[str]) -> np.ndarray:
        return np.array(
            [
                [len({*a.split()} & {*b.split()}) / len({*a.split()})]
                for a, b in zip(references, candidates, strict=True)
            ]
        )

    def summary(self, statistics: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {self.name: weighted_means(weights, statistics)[:, 0]}


METRIC = WordRecall
