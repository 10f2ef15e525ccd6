"""Report generation: what would the radiologist write?

Data: frontal images whose exam has a report. Split: the corpus's train, val and test. Target: the
report's text. Metrics: ``finding_f1``, the headline, asks whether the written and the true report
state the same findings, as rules read both (``radsweep.tasks.statements``): per finding, macro over
the findings that enough test patients have, and ``micro`` over all; ``rouge_l`` is a mean over
images and ``bleu_1`` to ``bleu_4`` are of the corpus. Word overlap rewards fluent normal reports,
hence is never the only axis.
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
    MIN_PATIENTS,
    Measurement,
    Needs,
    Predictions,
    Task,
    TaskData,
    check_reports,
    reported,
)
from radsweep.tasks.resample import (
    divided,
    macro,
    people,
    shared_people,
    weighted_means,
    weighted_sums,
)
from radsweep.tasks.statements import FINDINGS, asserted
from radsweep.tasks.text_overlap import MAX_ORDER, bleu, bleu_statistics, rouge_l, words

VERSION = 2

MICRO = "micro"
"""The label of an F1 over all findings of all images at once."""

ALL = "all"
"""The label of a metric of whole texts; the headline alone is a macro mean."""


@final
class Reports(Task):
    """A language model that reads frozen visual tokens answers it."""

    name: ClassVar[str] = "reports"
    columns: ClassVar[tuple[str, ...]] = ("report", "view")
    probes: ClassVar[tuple[str, ...]] = ("report",)
    headline: ClassVar[str] = "finding_f1"
    needs: ClassVar[Needs] = "tokens"

    @classmethod
    def check(cls, card: Mapping[str, Any]) -> None:
        """See ``Task.check``."""
        check_reports(card, cls.name)

    def data(self, corpus: Corpus, protocol: Protocol) -> TaskData:
        """See ``Task.data``; targets are texts, labels the findings that are scored."""
        self.check(corpus.card)
        splits = reported(corpus, protocol, self.name)
        true = _stated(splits["test"].targets)
        patients = splits["test"].patients
        counts = {name: len(np.unique(patients[true[:, i]])) for i, name in enumerate(FINDINGS)}
        left_out = {
            name: f"{count} test patients have it; at least {MIN_PATIENTS} are needed"
            for name, count in counts.items()
            if count < MIN_PATIENTS
        }
        labels = tuple(name for name in FINDINGS if name not in left_out)
        if not labels:
            raise SpecError(
                f"task {self.name}: no finding is stated in the reports of {MIN_PATIENTS} test "
                f"patients of corpus {corpus.name}; ingest more patients or raise test_images"
            )
        return TaskData(labels=labels, left_out=left_out, **splits)

    def measure(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """``finding_f1``, ``rouge_l`` and ``bleu_1`` to ``bleu_4``; predictions are n texts."""
        rows = self.measure_headline(data, predictions, weights)
        pairs = [(words(a), words(b)) for a, b in zip(data.test.targets, predictions, strict=True)]
        overlap = np.array([[rouge_l(*pair)] for pair in pairs])
        texts = {"rouge_l": weighted_means(weights, overlap)[:, 0]}
        sums = weighted_sums(weights, np.stack([bleu_statistics(*pair) for pair in pairs]))
        texts |= {f"bleu_{order}": bleu(sums, order) for order in range(1, MAX_ORDER + 1)}
        rows += [
            Measurement(
                label=ALL,
                metric=metric,
                values=values,
                positives=None,
                patients=len(np.unique(data.test.patients)),
            )
            for metric, values in texts.items()
        ]
        return rows

    def measure_headline(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """See ``Task.measure_headline``: ``finding_f1``, per finding, macro and micro."""
        true, written = _stated(data.test.targets), _stated(predictions)
        outcomes = [true & written, ~true & written, true & ~written]
        # Hits, false alarms and misses of each finding [resamples, findings].
        hits, false, missed = (weighted_sums(weights, each.astype(np.float64)) for each in outcomes)
        said = true | written
        rows = []
        for label in data.labels:
            i = FINDINGS.index(label)
            values = _f1(hits[:, i], false[:, i], missed[:, i])
            rows.append(
                Measurement(
                    label=label,
                    metric=self.headline,
                    values=values,
                    positives=int(true[:, i].sum()),
                    patients=people(data.test.patients, said[:, i]),
                )
            )
        mean = macro([row.values for row in rows])
        pooled = _f1(hits.sum(axis=1), false.sum(axis=1), missed.sum(axis=1))
        rows += [
            Measurement(
                label=MACRO,
                metric=self.headline,
                values=mean,
                positives=None,
                patients=shared_people([row.patients for row in rows]),
            ),
            Measurement(
                label=MICRO,
                metric=self.headline,
                values=pooled,
                positives=int(true.sum()),
                patients=people(data.test.patients, np.any(said, axis=1)),
            ),
        ]
        return rows

    def table(self, data: TaskData, predictions: Predictions) -> pl.DataFrame:
        """One row per image: ``target`` the report, ``prediction`` the generated text."""
        return pl.DataFrame(
            {
                "image_id": data.test.image_ids,
                "patient_id": data.test.patients,
                "label": [ALL] * len(data.test),
                "target": list(data.test.targets),
                "prediction": list(predictions),
            }
        )

    def predicted(self, data: TaskData, table: pl.DataFrame) -> Predictions:
        """See ``Task.predicted``."""
        text = dict(zip(table["image_id"], table["prediction"], strict=True))
        return [text[image] for image in data.test.image_ids]


def _stated(texts: Predictions) -> NDArray[np.bool_]:
    """[n, findings]: whether a text states the finding, for certain or as possible."""
    rows = [asserted(str(text)) for text in texts]
    return np.array([[name in row for name in FINDINGS] for row in rows], dtype=bool)


def _f1(
    hits: NDArray[np.float64], false: NDArray[np.float64], missed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """F1 [resamples]; NaN where the finding is neither there nor written."""
    return divided(2 * hits, 2 * hits + false + missed)


TASK = Reports
