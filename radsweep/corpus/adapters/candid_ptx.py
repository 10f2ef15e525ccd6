"""CANDID-PTX: DICOM files named by their UID in ``dataset/``, and three CSV files beside it.

Feng et al. 2021 (Radiology: Artificial Intelligence 3(6), e210136). ``Pneumothorax_reports.csv``
has one row per outlined region (``EncodedPixels``, -1 for none) with the report and a file name
that begins with the patient; ``chest_tube.csv`` and ``acute_rib_fracture.csv`` list only films that
show one (``anon_SOPUID``). The outlines themselves are not read.
"""

from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin

VERSION = 1

REPORTS = "Pneumothorax_reports.csv"
LISTS = {
    "tube_chest_tube": "chest_tube.csv",
    "finding_acute_rib_fracture": "acute_rib_fracture.csv",
}
ORIGIN = Origin(
    kind="human",
    by="radiologists and registrars, outlines on the film with the report at hand (Feng et al. "
    "2021); a film that is not in a list counts as absent",
)


@final
class CandidPtx(Layout):
    """19,237 DICOM files with reports."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        rows = root.table(
            REPORTS, columns=("SOPInstanceUID", "EncodedPixels", "Report", "filename")
        )
        # A film with several regions has several rows.
        encoded = pl.col("EncodedPixels")
        images = (
            rows.filter(pl.col("SOPInstanceUID").is_not_null())
            .group_by("SOPInstanceUID", maintain_order=True)
            .agg(
                patient_id=pl.col("filename").first().str.extract(r"^(P?\d+)_"),
                report=pl.col("Report").drop_nulls().first(),
                finding_pneumothorax=(encoded != "-1").any(ignore_nulls=False).cast(pl.Int8),
            )
        )
        for column, file in LISTS.items():
            shown = root.table(file, columns=("anon_SOPUID",))["anon_SOPUID"].drop_nulls()
            images = images.with_columns(
                pl.col("SOPInstanceUID").is_in(shown.to_list()).cast(pl.Int8).alias(column)
            )
        return Export(
            files=("dataset",),
            tables=(images.rename({"SOPInstanceUID": "file_name"}),),
            provenance=dict.fromkeys(("finding_pneumothorax", *LISTS), ORIGIN),
        )


LAYOUT = CandidPtx
