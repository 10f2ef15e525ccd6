"""Exam retrieval: find the report of an x-ray among all reports, and the x-ray of a report.

Asked without training of an encoder that learned beside a text tower (CLIP, UniCL): image and text
meet in the space in which they were contrasted. Metrics are recall at 1, 5 and 10 (Karpathy and
Fei-Fei 2015) and the median rank, both ways and their mean.

Reports of one wording are one report, whatever their case and spacing: normal exams repeat it, and
any x-ray that has it is a right answer. The gallery is all of test in every resample; patients are
resampled as those who ask. A larger test set is a harder question, so that numbers of two
corpora do not compare. The task is in a protocol where it is named, and never by itself.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.specs import Protocol
from radsweep.tasks.base import (
    MACRO,
    Measurement,
    Needs,
    Predictions,
    Task,
    TaskData,
    check_reports,
    reported,
)
from radsweep.tasks.resample import macro, weighted_means, weighted_medians

VERSION = 1

DIRECTIONS = ("image_to_report", "report_to_image")
"""The labels: what is asked with, and what is looked for."""

DEPTHS = (1, 5, 10)
"""Ranks within which a right answer counts."""


@final
class ExamRetrieval(Task):
    """The probe ``retrieval`` answers it, and trains nothing."""

    name: ClassVar[str] = "exam_retrieval"
    columns: ClassVar[tuple[str, ...]] = ("report", "view")
    probes: ClassVar[tuple[str, ...]] = ("retrieval",)
    headline: ClassVar[str] = "recall_at_5"
    needs: ClassVar[Needs] = "shared"

    @classmethod
    def check(cls, card: Mapping[str, Any]) -> None:
        """See ``Task.check``."""
        check_reports(card, cls.name)

    def data(self, corpus: Corpus, protocol: Protocol) -> TaskData:
        """See ``Task.data``; targets are texts, labels the two directions."""
        self.check(corpus.card)
        splits = reported(corpus, protocol, self.name)
        different = len({wording(str(text)) for text in splits["test"].targets})
        if different < 2:
            raise SpecError(
                f"task {self.name}: all {len(splits['test'])} test reports of corpus {corpus.name} "
                "have one wording, so that there is nothing to tell apart; ingest more patients"
            )
        return TaskData(labels=DIRECTIONS, left_out={}, **splits)

    def measure(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """``recall_at_1``, ``_5``, ``_10`` and ``median_rank``; predictions are ranks [n, 2]."""
        ranks = np.asarray(predictions, dtype=np.float64)
        found = {
            f"recall_at_{depth}": weighted_means(weights, (ranks <= depth).astype(np.float64))
            for depth in DEPTHS
        }
        found["median_rank"] = weighted_medians(weights, ranks)
        patients = len(np.unique(data.test.patients))
        return [
            Measurement(
                label=label, metric=metric, values=of_label, positives=None, patients=patients
            )
            for metric, values in found.items()
            for label, of_label in (
                *zip(DIRECTIONS, values.T, strict=True),
                (MACRO, macro(list(values.T))),
            )
        ]

    def table(self, data: TaskData, predictions: Predictions) -> pl.DataFrame:
        """``prediction`` is the rank of the first right answer, ``target`` the rank 1."""
        images = len(data.test)
        return pl.DataFrame(
            {
                "image_id": np.repeat(np.array(data.test.image_ids), len(DIRECTIONS)),
                "patient_id": np.repeat(data.test.patients, len(DIRECTIONS)),
                "label": list(DIRECTIONS) * images,
                "target": np.ones(images * len(DIRECTIONS), dtype=np.int64),
                "prediction": np.asarray(predictions, dtype=np.float64).ravel(),
            }
        )

    def predicted(self, data: TaskData, table: pl.DataFrame) -> Predictions:
        """See ``Task.predicted``; float64 [n, 2]."""
        image = {name: i for i, name in enumerate(data.test.image_ids)}
        label = {name: i for i, name in enumerate(DIRECTIONS)}
        ranks = np.full((len(data.test), len(DIRECTIONS)), np.nan)
        rows = table["image_id"].replace_strict(image), table["label"].replace_strict(label)
        ranks[rows[0].to_numpy(), rows[1].to_numpy()] = table["prediction"].to_numpy()
        return ranks


def wording(report: str) -> str:
    """What two reports share that say the same in the same words: case and spacing set aside."""
    return " ".join(report.lower().split())


TASK = ExamRetrieval
