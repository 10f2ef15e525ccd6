"""What a task is: rows of a corpus with targets, and metrics that know how to be resampled.

NumPy and polars only, so that a plan can ask a task whether a corpus has what it needs without
torch.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus
from radsweep.corpus.split import patient_number
from radsweep.errors import SpecError
from radsweep.keys import seed_of
from radsweep.specs import Protocol
from radsweep.tasks.resample import interval

Needs: TypeAlias = Literal["pooled", "tokens", "dense", "shared"]
"""What of a frozen encoder: two vectors an image, a small grid of vectors beside them, whole maps,
or the two vectors beside what the text tower says of the reports."""

Targets: TypeAlias = NDArray[Any] | list[str]
"""Labels float32 [n, labels] with NaN where unknown; masks uint8 [n, classes, H, W]; or n texts."""

Predictions: TypeAlias = NDArray[Any] | list[str]
"""Logits float32 [n, labels]; masks uint8 [n, classes, H, W]; or n texts."""

SPLITS = ("train", "val", "test")

MACRO = "macro"
"""The label of a mean over labels."""

FRONTAL = "frontal"
"""The view on which lines and tubes are judged and reports are written."""

MIN_PATIENTS = 5
"""Patients with and without a label that train and test must each have; one of each suffices in
val."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The images of one split, in manifest order."""

    rows: NDArray[np.int64]
    """Rows of the corpus manifest."""
    image_ids: list[str]
    patients: NDArray[np.str_]
    """Patient of each image: the unit that is resampled."""
    targets: Targets
    pixel_spacing_mm: NDArray[np.float32] | None = None
    """Of each image, NaN where unknown; None in a task that measures no distance."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """Of the image identifiers in order: names a set of images whatever task asks for it."""
        return hashlib.sha256("\n".join(self.image_ids).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Everything that a task takes from a corpus under a protocol; the same for every encoder."""

    labels: tuple[str, ...]
    train: Examples
    val: Examples
    test: Examples
    left_out: Mapping[str, str]
    """Label -> why it is not scored."""

    def split(self, name: str) -> Examples:
        """``train``, ``val`` or ``test``."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One metric of one label under every resample."""

    label: str
    metric: str
    values: NDArray[np.float64]
    """One per row of the weights; NaN where the metric is not defined."""
    positives: int | None
    """Test images (or reports) that have the label; None for a macro mean or a text metric."""
    patients: float
    """Patients that the number rests on, which its interval is widened by: of a label, those with
    it or those without, whichever are fewer."""
    is_biased: bool = False
    """Whether its resamples are off from it as it is off on average, and its interval is moved."""

    def interval(self) -> tuple[float, float] | None:
        """Nominally 95%; None where no resample defines the number.

        Average precision of few positives is too high (Boyd, Eng and Page 2013), and a resample's
        by as much again. Of one label the interval is wide enough for both; that of a mean over
        labels narrows with their number, and the bias does not. So it is moved by twice what the
        median resample is off the number, which is kept inside, and never past 0 or 1.
        ``tests/tasks/test_coverage.py`` holds it to known truths.
        """
        bounds = interval(self.values[1:], self.patients)
        number = float(self.values[0])
        if bounds is None or not self.is_biased or not np.isfinite(number):
            return bounds
        moved = 2 * (float(np.nanmedian(self.values[1:])) - number)
        low, high = (min(max(bound - moved, 0.0), 1.0) for bound in bounds)
        return min(low, number), max(high, number)


class Task(ABC):
    """Abstract; each task is final and stateless. Its module ends in ``TASK = Class``."""

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    """Columns of the manifest that it reads; ``finding_*`` stands for all that begin so."""
    probes: ClassVar[tuple[str, ...]]
    """Modules of ``radsweep.probes`` that always answer it."""
    other_probes: ClassVar[tuple[str, ...]] = ()
    """Those that answer it too where the protocol asks, by giving one of their settings."""
    text_probes: ClassVar[tuple[str, ...]] = ()
    """Those of them that ask a text side, in words or for its projection: not of an encoder without
    one."""
    headline: ClassVar[str]
    """The metric by whose macro mean the task is plotted first."""
    needs: ClassVar[Needs]

    @classmethod
    @abstractmethod
    def check(cls, card: Mapping[str, Any]) -> None:
        """Raise SpecError, from the card alone, where the corpus has nothing for this task."""

    @abstractmethod
    def data(self, corpus: Corpus, protocol: Protocol) -> TaskData:
        """Images and targets. Raises SpecError where too little is there to score anything."""

    @abstractmethod
    def measure(
        self,
        data: TaskData,
        predictions: Predictions,
        weights: NDArray[np.uint16],
    ) -> list[Measurement]:
        """All metrics on test.

        Args:
            data: what the predictions answer.
            predictions: of ``data.test``, in order.
            weights: [resamples, n], how often each image counts; row 0 is the data as they are.
        """

    def measure_headline(
        self,
        data: TaskData,
        predictions: Predictions,
        weights: NDArray[np.uint16],
    ) -> list[Measurement]:
        """What ``measure`` says of ``headline`` alone; overridden where the rest takes long."""
        measured = self.measure(data, predictions, weights)
        return [one for one in measured if one.metric == self.headline]

    @abstractmethod
    def table(self, data: TaskData, predictions: Predictions) -> pl.DataFrame:
        """One row per test image and label, from which any metric can be recomputed.

        Columns ``image_id``, ``patient_id``, ``label``, ``target``, ``prediction``, and the task's
        own.
        """

    @abstractmethod
    def predicted(self, data: TaskData, table: pl.DataFrame) -> Predictions:
        """The predictions that ``table`` wrote, for ``measure`` to be asked again.

        Args:
            data: what they answer.
            table: as ``table`` gave it.
        """


def choose(
    corpus: Corpus, eligible: pl.Series, protocol: Protocol
) -> dict[str, tuple[NDArray[np.int64], list[str], NDArray[np.str_]]]:
    """Rows, image identifiers and patients of each split, capped in whole patients.

    The order in which patients are taken depends on the protocol's seed and the patient alone, so
    that all tasks take the same people as far as they can, and their features are shared.

    Args:
        corpus: whose manifest is read.
        eligible: boolean, one per manifest row.
        protocol: gives the caps and the seed.
    """
    manifest = corpus.manifest.with_row_index("row").filter(eligible)
    chosen = {}
    for split in SPLITS:
        part = manifest.filter(pl.col("split") == split)
        cap = protocol.train_images if split == "train" else protocol.test_images
        if cap is not None:
            kept = _first_patients(part["patient_id"].to_list(), cap, protocol.seed)
            part = part.filter(pl.col("patient_id").is_in(kept))
        chosen[split] = (
            part["row"].to_numpy().astype(np.int64),
            part["image_id"].to_list(),
            np.array(part["patient_id"].to_list(), dtype=np.str_),
        )
    return chosen


def _first_patients(patient_of_image: Sequence[str], cap: int, seed: int) -> list[str]:
    """The longest prefix of the patient order with at most ``cap`` images; at least one."""
    patients, images = np.unique(np.array(patient_of_image, dtype=np.str_), return_counts=True)
    order = sorted(
        range(len(patients)), key=lambda i: (patient_number(str(patients[i]), "evaluate", seed), i)
    )
    within = int((np.cumsum(images[order]) <= cap).sum())
    return [str(patients[i]) for i in order[: max(1, within)]]


def require_images(task: str, corpus: Corpus, what: str, found: Mapping[str, int]) -> None:
    """Raise SpecError unless every split has an image with ``what`` (such as ``a report``)."""
    for split, images in found.items():
        if images == 0:
            raise SpecError(
                f"task {task}: no {split} image of corpus {corpus.name} has {what}; ingest more "
                "patients, or leave the task out of the protocol"
            )


def check_reports(card: Mapping[str, Any], task: str) -> None:
    """Raise SpecError unless the corpus has reports."""
    if not card["reports"]:
        raise SpecError(
            f"task {task} needs reports; corpus {card['corpus']} has none: ingest it with "
            "a reports table, or leave the task out of the protocol"
        )


def reported(corpus: Corpus, protocol: Protocol, task: str) -> dict[str, Examples]:
    """Frontal images with a report, split by split; targets are the n texts.

    Raises SpecError where a split has none.
    """
    manifest = corpus.manifest
    eligible = (manifest["view"] == FRONTAL).fill_null(False)
    eligible &= (manifest["report"].str.strip_chars().str.len_chars() > 0).fill_null(False)
    chosen = choose(corpus, eligible, protocol)
    found = {split: len(rows) for split, (rows, _, _) in chosen.items()}
    require_images(task, corpus, "a frontal view and a report", found)
    texts = manifest["report"]
    return {
        split: Examples(
            rows=rows,
            image_ids=ids,
            patients=patients,
            targets=texts.gather(rows.tolist()).to_list(),
        )
        for split, (rows, ids, patients) in chosen.items()
    }


def resample_seed(protocol: Protocol, task: str) -> int:
    """Seeds the patients' resamples: of the protocol and the task, so that encoders pair."""
    return seed_of("resample", protocol.seed, task)
