"""VinDr-CXR as PhysioNet publishes it: ``train|test/<image_id>.dicom``, ``annotations/*.csv``.

Nguyen et al. 2022 (Scientific Data 9, 429). Three of seventeen radiologists read each training
image, and five agreed on each test image. There is no patient identifier: every image counts as a
patient of its own, so that a split cannot be known to keep patients whole.
"""

from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin
from radsweep.corpus.adapters.vocabulary import column_of

VERSION = 1

ORIGIN = Origin(
    kind="human",
    by="radiologists on the film: present if at least half of its readers say so, absent if none "
    "does, else uncertain; consensus of five on the test images",
)


@final
class VinDrCxr(Layout):
    """18,000 DICOM files."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        parts = [
            _votes(root.table(f"annotations/image_labels_{name}.csv", columns=("image_id",)))
            for name in ("train", "test")
        ]
        rows = pl.concat(parts, how="diagonal")
        images = rows.with_columns(
            file_name=pl.col("image_id") + ".dicom", patient_id="image_id"
        ).drop("image_id")
        labels = [name for name in images.columns if name not in ("file_name", "patient_id")]
        return Export(
            files=("train/*.dicom", "test/*.dicom"),
            tables=(images,),
            provenance=dict.fromkeys(labels, ORIGIN),
        )


def _votes(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per image: 1, 0 or -1 by the share of its readers that saw the label."""
    names = [name for name in rows.columns if name not in ("image_id", "rad_id")]
    share = rows.group_by("image_id", maintain_order=True).agg(
        pl.col(name).cast(pl.Float64, strict=False).mean().alias(column_of(name)) for name in names
    )
    return share.with_columns(
        pl.when(pl.col(label) >= 0.5)
        .then(1)
        .when(pl.col(label) > 0)
        .then(-1)
        .when(pl.col(label) == 0)
        .then(0)
        .cast(pl.Int8)
        .alias(label)
        for label in map(column_of, names)
    )


LAYOUT = VinDrCxr
