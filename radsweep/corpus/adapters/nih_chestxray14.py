"""NIH ChestX-ray14: ``Data_Entry_2017*.csv`` and ``images*/**/*.png``.

Wang et al. 2017 (CVPR). Fourteen labels mined from reports that were not released; what is not
listed for an image counts as absent, as in the paper. The table's pixel spacing is that of the
original film and not of the 1,024-pixel files, so that it is left out.
"""

from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, without_unnamed
from radsweep.corpus.adapters.vocabulary import column_of

VERSION = 1

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
    "No Finding",
)  # fmt: skip
ORIGIN = Origin(
    kind="rule",
    by="NegBio-style mining of the report (Wang et al. 2017); not listed counts as absent",
)


@final
class NihChestXray14(Layout):
    """112,120 PNG files of 30,805 patients."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        rows = root.table(
            "Data_Entry_2017*.csv",
            columns=("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"),
        )
        sex = "Patient Sex" if "Patient Sex" in rows.columns else "Patient Gender"
        listed = pl.col("Finding Labels").str.split("|")
        images = rows.select(
            file_name="Image Index",
            patient_id="Patient ID",
            view="View Position",
            sex=sex,
            age="Patient Age",
            **{column_of(label): listed.list.contains(label).cast(pl.Int8) for label in LABELS},
        )
        return Export(
            files=("images*/**/*.png",),
            tables=(without_unnamed(images, "file_name"),),
            provenance={column_of(label): ORIGIN for label in LABELS},
        )


LAYOUT = NihChestXray14
