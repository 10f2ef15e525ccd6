"""Lines-and-tubes classification: which lines and tubes does the film show?

Data: frontal images with a known ``tube_*`` label. Split: the corpus's train, val and test. Target:
present or absent; uncertain and missing labels are excluded. Metrics: AUROC and AUPRC per tube, and
their means over the tubes that enough patients have and lack.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus
from radsweep.specs import Protocol
from radsweep.tasks.base import Measurement, Needs, Predictions, Task, TaskData
from radsweep.tasks.labels import (
    OTHER_PROBES,
    TEXT_PROBES,
    check_label_columns,
    label_data,
    label_predictions,
    label_table,
    measure_labels,
)

VERSION = 3
PREFIX = "tube_"


@final
class LinesTubes(Task):
    """A linear probe on pooled features answers it."""

    name: ClassVar[str] = "lines_tubes"
    columns: ClassVar[tuple[str, ...]] = ("tube_*", "view")
    probes: ClassVar[tuple[str, ...]] = ("linear",)
    other_probes: ClassVar[tuple[str, ...]] = OTHER_PROBES
    text_probes: ClassVar[tuple[str, ...]] = TEXT_PROBES
    headline: ClassVar[str] = "auroc"
    needs: ClassVar[Needs] = "pooled"

    @classmethod
    def check(cls, card: Mapping[str, Any]) -> None:
        """See ``Task.check``."""
        check_label_columns(card, cls.name, PREFIX)

    def data(self, corpus: Corpus, protocol: Protocol) -> TaskData:
        """See ``Task.data``; targets are float32 [n, labels], NaN where not known."""
        return label_data(corpus, protocol, self.name, PREFIX, frontal_only=True)

    def measure(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """``auroc`` and ``auprc`` per label and macro."""
        return measure_labels(data, predictions, weights)

    def table(self, data: TaskData, predictions: Predictions) -> pl.DataFrame:
        """One row per image and known label; ``prediction`` is a logit."""
        return label_table(data, predictions)

    def predicted(self, data: TaskData, table: pl.DataFrame) -> Predictions:
        """See ``Task.predicted``; NaN where the target is not known."""
        return label_predictions(data, table)


TASK = LinesTubes
