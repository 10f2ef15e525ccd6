"""IU X-ray of Open-i: ``ecgen-radiology/*.xml`` and ``*.png``, or the CSV edition of Kaggle.

Demner-Fushman et al. 2016 (JAMIA 23, 304): one exam per patient, its report in sections,
and headings that indexers coded by hand (``Cardiomegaly/mild``, ``normal``). A heading that is not
coded counts as absent; reports that were not indexed have no labels. The CSV edition is
``indiana_reports.csv`` and ``indiana_projections.csv`` with files called ``*.dcm.png``.
"""

import posixpath
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from typing import Any, final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, join_sections
from radsweep.corpus.adapters.vocabulary import column_of
from radsweep.errors import SpecError

VERSION = 1

SECTIONS = ("indication", "comparison", "findings", "impression")
HEADINGS = (
    "Cardiomegaly", "Pleural Effusion", "Pneumothorax", "Nodule", "Consolidation",
    "Pulmonary Edema", "Pulmonary Atelectasis", "Infiltrate", "Pneumonia", "Emphysema",
    "Pulmonary Emphysema", "Pulmonary Fibrosis", "Hernia, Hiatal", "Mass", "Opacity",
    "Catheters, Indwelling", "Tube, Inserted", "normal",
)  # fmt: skip
"""Coded headings that become columns; the others, over a hundred, are rare or anatomical."""
NOT_INDEXED = frozenset({"no indexing", "technical quality of image unsatisfactory"})
ORIGIN = Origin(
    kind="human",
    by="headings coded by indexers on the report (Demner-Fushman et al. 2016); not coded counts as "
    "absent",
)


def labels_of(headings: Iterable[str]) -> dict[str, int | None]:
    """Label column -> 1 or 0, or all None where nothing was coded."""
    coded = {heading.split("/")[0].strip().lower() for heading in headings} - {""}
    known = bool(coded - NOT_INDEXED)
    labels: dict[str, int | None] = {}
    for heading in HEADINGS:
        column = column_of(heading)
        # Two headings may mean one finding.
        present = max(int(heading.lower() in coded), labels.get(column) or 0)
        labels[column] = present if known else None
    return labels


@final
class IuXray(Layout):
    """7,470 PNG files of 3,955 exams."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        if root.first(["indiana_reports.csv"]) is not None:
            tables = _of_csv(root)
        else:
            xml = root.files("**/*.xml")
            if not xml:
                raise SpecError(
                    "this root has neither *.xml reports nor indiana_reports.csv, one of which IU "
                    "X-ray has; name the folder that holds them and the images"
                )
            tables = _of_xml([root.read(path) for path in xml])
        labels = labels_of(()).keys()
        return Export(files=("**/*.png",), tables=tables, provenance=dict.fromkeys(labels, ORIGIN))


def _of_csv(root: Folder) -> tuple[pl.DataFrame, ...]:
    projections = root.table("indiana_projections.csv", columns=("uid", "filename", "projection"))
    reports = root.table("indiana_reports.csv", columns=("uid", "MeSH", *SECTIONS))
    images = projections.select(
        file_name="filename", patient_id="uid", accession_number="uid", view="projection"
    )
    told = [
        {
            "accession_number": row["uid"],
            "report": join_sections({name: row[name] for name in SECTIONS}),
            **labels_of((row["MeSH"] or "").split(";")),
        }
        for row in reports.to_dicts()
    ]
    return images.unique("file_name", keep="first", maintain_order=True), _frame(told)


def _of_xml(documents: list[bytes]) -> tuple[pl.DataFrame, ...]:
    images, told = [], []
    for document in documents:
        tree = ElementTree.fromstring(document)
        found = tree.find("uId")
        if found is None:
            continue
        exam = found.get("id", "")
        texts = {
            (part.get("Label") or "").lower(): (part.text or "").strip()
            for part in tree.iter("AbstractText")
        }
        told.append(
            {
                "accession_number": exam,
                "report": join_sections({name: texts.get(name) for name in SECTIONS}),
                **labels_of(heading.text or "" for heading in tree.iter("major")),
            }
        )
        for image in tree.iter("parentImage"):
            caption = " ".join(part.text or "" for part in image.iter("caption"))
            images.append(
                {
                    "file_name": f"{posixpath.basename(image.get('id', ''))}.png",
                    "patient_id": exam,
                    "accession_number": exam,
                    "view": re.sub(r"\s+", " ", caption).strip() or None,
                }
            )
    frame = pl.DataFrame(images, schema_overrides={"view": pl.String})
    return frame.unique("file_name", keep="first", maintain_order=True), _frame(told)


def _frame(told: list[dict[str, Any]]) -> pl.DataFrame:
    overrides = {"report": pl.String(), **dict.fromkeys(labels_of(()), pl.Int8())}
    return pl.DataFrame(told, schema_overrides=overrides)


LAYOUT = IuXray
