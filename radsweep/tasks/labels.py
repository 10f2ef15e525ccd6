"""What findings and lines-and-tubes classification share: label columns in, ranking metrics out.

Uncertain (-1) and missing labels are excluded, image by image and label by label, in training and
in scoring alike: neither is evidence of presence or of absence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.specs import Protocol
from radsweep.tasks.base import (
    FRONTAL,
    MACRO,
    MIN_PATIENTS,
    Examples,
    Measurement,
    Predictions,
    TaskData,
    choose,
    require_images,
)
from radsweep.tasks.ranking import ranking_areas
from radsweep.tasks.resample import macro, people, shared_people

TEXT_PROBES = ("linear_projected", "zero_shot")
"""That ask what an encoder left of its text side."""

OTHER_PROBES = ("few_shot", "knn", "linear_mean", "linear_pooled", *TEXT_PROBES)
"""That answer such a task where they are asked for."""


def check_label_columns(card: Mapping[str, Any], task: str, prefix: str) -> None:
    """Raise SpecError unless the corpus card lists a column that begins with ``prefix``."""
    if not any(str(column).startswith(prefix) for column in card["label_columns"]):
        raise SpecError(
            f"task {task} needs {prefix}* labels; corpus {card['corpus']} has none: ingest it with "
            "a labels table, or leave the task out of the protocol"
        )


def label_data(
    corpus: Corpus, protocol: Protocol, task: str, prefix: str, *, frontal_only: bool
) -> TaskData:
    """Images with a known label, and targets float32 [n, labels], NaN where not known.

    A label is left out where train or test has too few patients with it or without it. Raises
    SpecError where none is left.
    """
    columns = corpus.labels(prefix)
    check_label_columns(corpus.card, task, prefix)
    manifest = corpus.manifest
    eligible = manifest.select(pl.any_horizontal(pl.col(columns).is_in([0, 1]))).to_series()
    eligible = eligible.fill_null(False)
    if frontal_only:
        eligible &= (manifest["view"] == FRONTAL).fill_null(False)
    chosen = choose(corpus, eligible, protocol)
    require_images(
        task, corpus, f"a known {prefix}* label", {s: len(r) for s, (r, _, _) in chosen.items()}
    )
    known = manifest.select(
        pl.when(pl.col(column).is_in([0, 1]))
        .then(pl.col(column))
        .cast(pl.Float32)
        .fill_null(float("nan"))
        for column in columns
    ).to_numpy()
    left_out = _left_out(columns, known, chosen)
    kept = [i for i, column in enumerate(columns) if column not in left_out]
    if not kept:
        raise SpecError(
            f"task {task}: no {prefix}* label of corpus {corpus.name} has {MIN_PATIENTS} patients "
            f"with it and {MIN_PATIENTS} without in train and in test; ingest more patients or "
            "raise the caps"
        )
    splits = {
        split: Examples(
            rows=rows,
            image_ids=ids,
            patients=patients,
            targets=np.ascontiguousarray(known[rows][:, kept]),
        )
        for split, (rows, ids, patients) in chosen.items()
    }
    return TaskData(
        labels=tuple(columns[i].removeprefix(prefix) for i in kept), left_out=left_out, **splits
    )


def _left_out(
    columns: Sequence[str],
    known: NDArray[np.float32],
    chosen: Mapping[str, tuple[NDArray[np.int64], list[str], NDArray[np.str_]]],
) -> dict[str, str]:
    reasons = {}
    for i, column in enumerate(columns):
        for split, (rows, _, patients) in chosen.items():
            least = 1 if split == "val" else MIN_PATIENTS
            values = known[rows, i]
            for value, word in ((1, "with"), (0, "without")):
                found = len(np.unique(patients[values == value]))
                if found < least:
                    reasons[column] = (
                        f"{found} {split} patients {word} it; at least {least} are needed"
                    )
    return reasons


def measure_labels(
    data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
) -> list[Measurement]:
    """AUROC and AUPRC of every label, and their macro means.

    Args:
        data: with targets [n, labels].
        predictions: float [n, labels], higher means more likely.
        weights: [resamples, n].
    """
    targets = np.asarray(data.test.targets)
    scores = np.asarray(predictions)
    found: dict[str, list[Measurement]] = {"auroc": [], "auprc": []}
    for i, label in enumerate(data.labels):
        known = np.isfinite(targets[:, i])
        positive = targets[known, i] == 1
        patients = data.test.patients[known]
        areas = ranking_areas(scores[known, i], positive, weights[:, known])
        for metric, values in zip(found, areas, strict=True):
            found[metric].append(
                Measurement(
                    label=label,
                    metric=metric,
                    values=values,
                    positives=int(positive.sum()),
                    patients=min(people(patients, positive), people(patients, ~positive)),
                )
            )
    return [
        row
        for metric, rows in found.items()
        for row in (
            *rows,
            Measurement(
                label=MACRO,
                metric=metric,
                values=macro([row.values for row in rows]),
                positives=None,
                patients=shared_people([row.patients for row in rows]),
                is_biased=metric == "auprc",
            ),
        )
    ]


def label_table(data: TaskData, predictions: Predictions) -> pl.DataFrame:
    """Known targets (1 or 0) and predicted logits, one row per image and label."""
    targets = np.asarray(data.test.targets)
    images, labels = targets.shape
    return (
        pl.DataFrame(
            {
                "image_id": np.repeat(np.array(data.test.image_ids), labels),
                "patient_id": np.repeat(data.test.patients, labels),
                "label": list(data.labels) * images,
                "target": targets.ravel(),
                "prediction": np.asarray(predictions, dtype=np.float32).ravel(),
            }
        )
        .filter(pl.col("target").is_not_nan())
        .with_columns(pl.col("target").cast(pl.Int8))
    )


def label_predictions(data: TaskData, table: pl.DataFrame) -> NDArray[np.float32]:
    """Logits float32 [n, labels] of a ``label_table``; NaN where the target is not known."""
    image = {name: i for i, name in enumerate(data.test.image_ids)}
    label = {name: i for i, name in enumerate(data.labels)}
    logits = np.full((len(data.test), len(data.labels)), np.nan, dtype=np.float32)
    rows = table["image_id"].replace_strict(image), table["label"].replace_strict(label)
    logits[rows[0].to_numpy(), rows[1].to_numpy()] = table["prediction"].to_numpy()
    return logits
