"""RANZCR-CLiP, lines and tubes: ``train.csv`` and ``train/<StudyInstanceUID>.jpg``.

Tang et al. 2021 (Scientific Data 8, 285), on films of NIH ChestX-ray14. Each position of a tube is
a column (``tube_ett_abnormal``), and so is its presence (``tube_ett``): present in any position.
``test/`` has no labels and no patients, so that its films are not read.
"""

from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, without_unnamed
from radsweep.corpus.adapters.vocabulary import column_of, slug

VERSION = 1

TUBES = ("ETT", "NGT", "CVC")
SWAN_GANZ = "Swan Ganz Catheter Present"
ORIGIN = Origin(
    kind="human", by="radiologists and registrars on the film (Tang et al. 2021), one of them each"
)


@final
class RanzcrClip(Layout):
    """30,083 JPEG files of 3,255 patients."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        rows = root.table("train.csv", columns=("StudyInstanceUID", "PatientID", SWAN_GANZ))
        positions = {
            name: f"{column_of(name.split(' - ')[0])}_{slug(name.split(' - ')[1])}"
            for name in rows.columns
            if " - " in name
        }
        images = rows.select(
            file_name=pl.col("StudyInstanceUID") + ".jpg",
            patient_id="PatientID",
            exam_id="StudyInstanceUID",
            tube_swan_ganz=SWAN_GANZ,
            **{
                column_of(tube): pl.max_horizontal(
                    *(name for name in positions if name.startswith(tube))
                )
                for tube in TUBES
            },
            **{column: name for name, column in positions.items()},
        )
        labels = [name for name in images.columns if name.startswith("tube_")]
        return Export(
            files=("train/*.jpg",),
            tables=(without_unnamed(images, "file_name"),),
            provenance=dict.fromkeys(labels, ORIGIN),
        )


LAYOUT = RanzcrClip
