"""Lines-and-tubes segmentation: where does each line or tube run?

Data: frontal images whose masks are known (a known empty mask counts). Split: the corpus's train,
val and test. Target: one binary mask a class, which may overlap. Metrics, per class and as means
over classes: ``dice`` and ``cldice``, means over the test images on which the class is present or
predicted; an image where both masks are empty says nothing and is left out, one where a single mask
is empty counts 0. ``pooled_dice`` is twice the shared area over the sum of both, areas summed over
all test images.
"""

import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.reader import Reader
from radsweep.errors import SpecError
from radsweep.specs import Protocol
from radsweep.tasks.base import (
    FRONTAL,
    MACRO,
    MIN_PATIENTS,
    SPLITS,
    Examples,
    Measurement,
    Needs,
    Predictions,
    Task,
    TaskData,
    choose,
    require_images,
)
from radsweep.tasks.overlap import centre_line_dice, dice
from radsweep.tasks.resample import divided, macro, weighted_means, weighted_sums

VERSION = 1


@final
class LinesTubesSeg(Task):
    """A small convolutional decoder on frozen maps answers it."""

    name: ClassVar[str] = "lines_tubes_seg"
    columns: ClassVar[tuple[str, ...]] = ("view", "mask_offset")
    probes: ClassVar[tuple[str, ...]] = ("segment",)
    headline: ClassVar[str] = "dice"
    needs: ClassVar[Needs] = "dense"

    @classmethod
    def check(cls, card: Mapping[str, Any]) -> None:
        """See ``Task.check``."""
        if not card["mask_classes"]:
            raise SpecError(
                f"task {cls.name} needs masks; corpus {card['corpus']} has none: ingest it with a "
                "masks table, or leave the task out of the protocol"
            )

    def data(self, corpus: Corpus, protocol: Protocol) -> TaskData:
        """See ``Task.data``; targets are uint8 [n, classes, H, W] of 0 and 1."""
        self.check(corpus.card)
        manifest = corpus.manifest
        eligible = (manifest["view"] == FRONTAL).fill_null(False)
        eligible &= manifest["mask_offset"].is_not_null()
        chosen = choose(corpus, eligible, protocol)
        found = {split: len(rows) for split, (rows, _, _) in chosen.items()}
        require_images(self.name, corpus, "a frontal view and known masks", found)
        everything = np.concatenate([chosen[split][0] for split in SPLITS])
        reader = Reader(corpus.store, index_table(manifest[everything.tolist()]))
        starts = dict(zip(SPLITS, np.cumsum([0, *found.values()]), strict=False))
        masks = {
            split: reader.masks(np.arange(starts[split], starts[split] + found[split]))
            for split in SPLITS
        }
        left_out = {
            name: f"fewer than {MIN_PATIENTS} {split} patients have it"
            for i, name in enumerate(corpus.mask_classes)
            for split, (_, _, patients) in chosen.items()
            if split != "val"
            and len(np.unique(patients[masks[split][:, i].any(axis=(1, 2))])) < MIN_PATIENTS
        }
        kept = [i for i, name in enumerate(corpus.mask_classes) if name not in left_out]
        if not kept:
            raise SpecError(
                f"task {self.name}: no mask class of corpus {corpus.name} is drawn in "
                f"{MIN_PATIENTS} patients of train and of test; ingest more or raise the caps"
            )
        splits = {
            split: Examples(
                rows=rows,
                image_ids=ids,
                patients=patients,
                targets=np.ascontiguousarray(masks[split][:, kept]),
            )
            for split, (rows, ids, patients) in chosen.items()
        }
        return TaskData(
            labels=tuple(corpus.mask_classes[i] for i in kept), left_out=left_out, **splits
        )

    def measure(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """``dice``, ``cldice`` and ``pooled_dice`` per class and macro.

        Args:
            data: with targets uint8 [n, classes, H, W].
            predictions: uint8 [n, classes, H, W] of 0 and 1.
            weights: [resamples, n].
        """
        targets, predicted = np.asarray(data.test.targets), np.asarray(predictions)
        area = (
            2.0 * (targets & predicted).sum(axis=(2, 3)),
            (targets + predicted).sum(axis=(2, 3)),
        )
        shared, both = (weighted_sums(weights, each.astype(np.float64)) for each in area)
        lines = np.stack(
            [centre_line_dice(targets[:, i], predicted[:, i]) for i in range(len(data.labels))],
            axis=1,
        )
        found = {
            "dice": weighted_means(weights, dice(targets, predicted)),
            "cldice": weighted_means(weights, lines),
            "pooled_dice": divided(shared, both),
        }
        positives = targets.any(axis=(2, 3)).sum(axis=0)
        rows = []
        for metric, values in found.items():
            rows += [
                Measurement(
                    label=label, metric=metric, values=values[:, i], positives=int(positives[i])
                )
                for i, label in enumerate(data.labels)
            ]
            mean = macro([values[:, i] for i in range(len(data.labels))])
            rows.append(Measurement(label=MACRO, metric=metric, values=mean, positives=None))
        return rows

    def table(self, data: TaskData, predictions: Predictions) -> pl.DataFrame:
        """Areas in pixels and Dice, one row per image and class.

        ``target`` and ``prediction`` are areas. ``mask`` is the predicted mask: zlib of
        ``numpy.packbits`` of the flattened ``height`` x ``width`` pixels; the target's is in the
        corpus.
        """
        targets, predicted = np.asarray(data.test.targets), np.asarray(predictions)
        images, classes, height, width = targets.shape
        overlap = dice(targets, predicted).ravel()
        return pl.DataFrame(
            {
                "image_id": np.repeat(np.array(data.test.image_ids), classes),
                "patient_id": np.repeat(data.test.patients, classes),
                "label": list(data.labels) * images,
                "target": targets.sum(axis=(2, 3), dtype=np.int64).ravel(),
                "prediction": predicted.sum(axis=(2, 3), dtype=np.int64).ravel(),
                "dice": pl.Series(overlap).fill_nan(None),
                "mask": [
                    zlib.compress(np.packbits(mask).tobytes())
                    for mask in predicted.reshape(images * classes, height * width)
                ],
                "height": pl.repeat(height, images * classes, dtype=pl.Int32, eager=True),
                "width": pl.repeat(width, images * classes, dtype=pl.Int32, eager=True),
            }
        )


TASK = LinesTubesSeg
