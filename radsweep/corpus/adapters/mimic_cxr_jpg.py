"""MIMIC-CXR-JPG as PhysioNet publishes it, with the reports of MIMIC-CXR where they lie beside.

Johnson et al. 2019 (arXiv 1901.07042): ``files/p10/p10000032/s50414267/<dicom_id>.jpg``,
``mimic-cxr-2.0.0-metadata.csv.gz``, ``-chexpert.csv.gz`` and ``-split.csv.gz``. Reports are another
download, ``mimic-cxr-reports.zip``: as it is, or unpacked to ``files/p10/p10000032/s50414267.txt``.
The official split is not used: splits here are keyed hashes of patients.
"""

import io
import posixpath
import zipfile
from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, without_unnamed
from radsweep.corpus.adapters.vocabulary import column_of

VERSION = 1

ORIGIN = Origin(
    kind="rule",
    by="CheXpert labeler (Irvin et al. 2019) on the report, as released with MIMIC-CXR-JPG; "
    "blank means not mentioned",
)
REPORTS_ZIP = ("mimic-cxr-reports.zip",)
REPORT_GLOBS = ("mimic-cxr-reports/files/p*/p*/s*.txt", "files/p*/p*/s*.txt")


def read_mimic(root: Folder, ending: str) -> Export:
    """Either format of MIMIC-CXR.

    Args:
        root: of the download.
        ending: of the image files, such as ``.jpg``.
    """
    metadata = root.table(
        "mimic-cxr-2*-metadata.csv", columns=("dicom_id", "subject_id", "study_id", "ViewPosition")
    )
    images = metadata.select(
        file_name=pl.col("dicom_id") + ending,
        patient_id="subject_id",
        # Named so that it is the key of the tables of studies.
        accession_number="study_id",
        view="ViewPosition",
    )
    labels = root.table("mimic-cxr-2*-chexpert.csv", columns=("subject_id", "study_id"))
    columns = {name: column_of(name) for name in labels.columns if not name.endswith("_id")}
    labels = labels.rename({"study_id": "accession_number", **columns}).drop("subject_id")
    reports = _reports(root)
    return Export(
        files=(f"files/**/*{ending}",),
        tables=(
            without_unnamed(images, "file_name"),
            without_unnamed(labels, "accession_number"),
            *([] if reports is None else [reports]),
        ),
        provenance=dict.fromkeys(columns.values(), ORIGIN),
    )


def _reports(root: Folder) -> pl.DataFrame | None:
    archive = root.first(REPORTS_ZIP)
    told: dict[str, str] = {}
    if archive is not None:
        with zipfile.ZipFile(io.BytesIO(root.read(archive))) as opened:
            for name in opened.namelist():
                if name.endswith(".txt"):
                    told[_study(name)] = opened.read(name).decode("utf-8", "replace")
    else:
        for pattern in REPORT_GLOBS:
            for name in root.files(pattern):
                told[_study(name)] = root.read(name).decode("utf-8", "replace")
    if not told:
        return None
    return pl.DataFrame({"accession_number": list(told), "report": list(told.values())})


def _study(name: str) -> str:
    """``files/p10/p10000032/s50414267.txt`` -> ``50414267``."""
    return posixpath.basename(name).removesuffix(".txt").removeprefix("s")


@final
class MimicCxrJpg(Layout):
    """377,110 JPEG files of 227,835 exams."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        return read_mimic(root, ".jpg")


LAYOUT = MimicCxrJpg
