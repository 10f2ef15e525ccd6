"""Lines-and-tubes segmentation: where does each line or tube run?

Data: frontal images whose masks are known (a known empty mask counts). Split: the corpus's train,
val and test. Target: one binary mask a class, which may overlap. Metrics, per class and as means
over classes: ``dice``, ``iou``, ``cldice`` and ``connectivity``, and the distances
``hausdorff_95_pixels``, ``hausdorff_95_mm`` and ``tip_distance_mm``, lower being better, the latter
two over the images whose pixel spacing is known. All are means over the test images on which the
class is present or predicted: an image where both masks are empty says nothing and is left out, one
where a single mask is empty counts 0, and as a distance the image's diagonal. ``pooled_dice`` is
twice the shared area over the sum of both, areas summed over all test images.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, final

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
from radsweep.tasks.overlap import centre_line_dice, dice, intersection_over_union
from radsweep.tasks.resample import (
    divided,
    macro,
    people,
    shared_people,
    weighted_means,
    weighted_sums,
)
from radsweep.tasks.surface import connectivity, hausdorff_95, tip_distance

VERSION = 2

Metric: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]]
"""Of target and predicted masks [n, H, W]: values [n]."""


@final
class LinesTubesSeg(Task):
    """A small convolutional decoder on frozen maps answers it."""

    name: ClassVar[str] = "lines_tubes_seg"
    columns: ClassVar[tuple[str, ...]] = ("view", "mask_offset")
    probes: ClassVar[tuple[str, ...]] = ("segment",)
    other_probes: ClassVar[tuple[str, ...]] = (
        "segment_image",
        "segment_linear",
        "segment_upernet",
    )
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
        spacing = manifest["pixel_spacing_mm"].fill_null(float("nan")).to_numpy()
        splits = {
            split: Examples(
                rows=rows,
                image_ids=ids,
                patients=patients,
                targets=np.ascontiguousarray(masks[split][:, kept]),
                pixel_spacing_mm=spacing[rows].astype(np.float32),
            )
            for split, (rows, ids, patients) in chosen.items()
        }
        return TaskData(
            labels=tuple(corpus.mask_classes[i] for i in kept), left_out=left_out, **splits
        )

    def measure(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """All metrics of the module's text, per class and macro.

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
        spacing = data.test.pixel_spacing_mm
        assert spacing is not None
        by_image = _by_image(targets, predicted, spacing)
        return _measurements(data, weights, by_image, {"pooled_dice": divided(shared, both)})

    def measure_headline(
        self, data: TaskData, predictions: Predictions, weights: NDArray[np.uint16]
    ) -> list[Measurement]:
        """See ``Task.measure_headline``: Dice needs no skeletons and no distances."""
        values = dice(np.asarray(data.test.targets), np.asarray(predictions))
        return _measurements(data, weights, {"dice": values}, {})

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

    def predicted(self, data: TaskData, table: pl.DataFrame) -> Predictions:
        """See ``Task.predicted``; uint8 [n, classes, H, W]."""
        masks = np.zeros_like(np.asarray(data.test.targets))
        image = {name: i for i, name in enumerate(data.test.image_ids)}
        for row in table.select("image_id", "label", "mask").iter_rows(named=True):
            place = image[row["image_id"]], data.labels.index(row["label"])
            masks[place] = unpacked(row["mask"], *masks[place].shape)
        return masks


def _measurements(
    data: TaskData,
    weights: NDArray[np.uint16],
    by_image: dict[str, NDArray[np.float64]],
    pooled: dict[str, NDArray[np.float64]],
) -> list[Measurement]:
    """Of metrics by image [n, classes], Dice among them, and pooled ones [resamples, classes]."""
    found = {name: weighted_means(weights, values) for name, values in by_image.items()} | pooled
    positives = np.asarray(data.test.targets).any(axis=(2, 3)).sum(axis=0)
    rows = []
    for metric, values in found.items():
        # Pooled areas say something of the images of which their Dice does.
        known = np.isfinite(by_image.get(metric, by_image["dice"]))
        patients = [people(data.test.patients, each) for each in known.T]
        rows += [
            Measurement(
                label=label,
                metric=metric,
                values=values[:, i],
                positives=int(positives[i]),
                patients=patients[i],
            )
            for i, label in enumerate(data.labels)
        ]
        mean = macro([values[:, i] for i in range(len(data.labels))])
        rows.append(
            Measurement(
                label=MACRO,
                metric=metric,
                values=mean,
                positives=None,
                patients=shared_people(patients),
            )
        )
    return rows


def unpacked(mask: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """[height, width] of 0 and 1, from the column ``mask`` of ``LinesTubesSeg.table``."""
    bits = np.frombuffer(zlib.decompress(mask), dtype=np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width)


def _by_image(
    targets: NDArray[np.uint8], predicted: NDArray[np.uint8], spacing_mm: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Metric -> values [n, classes] of masks [n, classes, H, W], NaN where it says nothing.

    Those in millimetres are there where any spacing [n] is known.
    """

    def of(metric: Metric) -> NDArray[np.float64]:
        classes = range(targets.shape[1])
        return np.stack([metric(targets[:, i], predicted[:, i]) for i in classes], axis=1)

    apart = of(hausdorff_95)
    found = {
        "dice": dice(targets, predicted),
        "cldice": of(centre_line_dice),
        "iou": intersection_over_union(targets, predicted),
        "connectivity": of(connectivity),
        "hausdorff_95_pixels": apart,
    }
    if np.isfinite(spacing_mm).any():
        millimetres = spacing_mm.astype(np.float64)[:, None]
        found["hausdorff_95_mm"] = apart * millimetres
        found["tip_distance_mm"] = of(tip_distance) * millimetres
    return found


TASK = LinesTubesSeg
