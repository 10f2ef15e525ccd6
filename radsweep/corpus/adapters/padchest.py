"""PadChest: ``PADCHEST_chest_x_ray_images_labels_160K*.csv`` and 16-bit PNG files in folders.

Bustos et al. 2020 (Medical Image Analysis, arXiv 1901.07441). Reports are in Spanish and pass
through; labels are lists per report, by physicians (27%) or by a recurrent network, see
``MethodLabel``. What is not listed counts as absent where the report has labels at all; "exclude"
and "suboptimal study" say nothing about findings.
"""

import ast
from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, without_unnamed
from radsweep.corpus.adapters.vocabulary import column_of

VERSION = 1

COLUMNS = (
    "ImageID", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "Projection", "Report", "MethodLabel", "Labels",
)  # fmt: skip
VIEWS = {"L": "LATERAL", "AP_horizontal": "AP"}
"""Where PadChest's own projection is not a word that a header would hold."""
NO_LABELS = frozenset({"exclude", "suboptimal study", "unchanged", ""})
FEWEST = 50
"""Images that a label needs to become a column, as in the paper's own experiments; others are
counted among none."""
ORIGIN = Origin(
    kind="human+model",
    by="physicians (27%) or a recurrent network trained on them, on the Spanish report (Bustos et "
    "al. 2020, MethodLabel); not listed counts as absent",
)


def labels_of(text: str | None) -> frozenset[str] | None:
    """Label columns of one report; None where it has no label that says anything."""
    if text is None:
        return None
    try:
        names = [str(name).strip() for name in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return None
    told = frozenset(column_of(name) for name in names if name not in NO_LABELS)
    return told or None


@final
class PadChest(Layout):
    """160,868 PNG files of 67,625 patients."""

    def __init__(self, fewest: int = FEWEST) -> None:
        """Args: fewest: images that a label needs to become a column."""
        self._fewest = fewest

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        rows = without_unnamed(
            root.table("PADCHEST_chest_x_ray_images_labels*.csv", columns=COLUMNS), "ImageID"
        )
        told = [labels_of(text) for text in rows["Labels"]]
        counts: dict[str, int] = {}
        for labels in told:
            for label in labels or ():
                counts[label] = counts.get(label, 0) + 1
        columns = sorted(label for label, count in counts.items() if count >= self._fewest)
        year = pl.col("StudyDate_DICOM").str.slice(0, 4).cast(pl.Int32, strict=False)
        born = pl.col("PatientBirth").cast(pl.Float64, strict=False)
        images = rows.select(
            file_name="ImageID",
            patient_id="PatientID",
            exam_id="StudyID",
            view=pl.col("Projection").replace(VIEWS),
            sex="PatientSex_DICOM",
            age=(year - born).cast(pl.Int32),
            report="Report",
        ).with_columns(
            pl.Series(label, [None if t is None else int(label in t) for t in told], pl.Int8)
            for label in columns
        )
        return Export(
            files=("**/*.png",), tables=(images,), provenance=dict.fromkeys(columns, ORIGIN)
        )


LAYOUT = PadChest
