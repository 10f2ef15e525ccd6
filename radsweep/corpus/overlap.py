"""Which images of a corpus a starting checkpoint was trained on, by a published list of them."""

import csv
from pathlib import Path, PurePosixPath

import polars as pl

from radsweep.corpus.identity import PatientKey
from radsweep.errors import SpecError

COLUMNS = {"image_id": "image", "file_id": "file"}
"""Manifest column -> kind of the pseudonym it holds: SOP instance UID, file name without suffix."""


def listed_images(path: Path) -> frozenset[str]:
    """All that may name an image in a list: each cell, and the last part of it as a path.

    Args:
        path: text with one entry a line, or CSV with or without a header; which column holds the
            names need not be said, since a header or a label matches no image.

    Raises SpecError where the file is missing or names nothing.
    """
    if not path.is_file():
        raise SpecError(f"the list of training images {path} is not there; name a text or CSV file")
    names: set[str] = set()
    with path.open(newline="", encoding="utf-8-sig") as lines:
        for cells in csv.reader(lines):
            for cell in (cell.strip() for cell in cells):
                last = PurePosixPath(cell.replace("\\", "/")).name
                names |= {cell, last, last.rpartition(".")[0]}
    names.discard("")
    if not names:
        raise SpecError(f"the list of training images {path} names no image")
    return frozenset(names)


def overlap(
    manifest: pl.LazyFrame, listed: frozenset[str], patient_key: PatientKey
) -> pl.DataFrame:
    """Rows (image_id, split) of the listed images.

    Args:
        manifest: with image_id and split; a ``file_id`` column, where it has one, is matched too.
        listed: SOP instance UIDs or file names as ``listed_images`` gives.
        patient_key: the one that the corpus was made with; with another nothing would match.
    """
    found = []
    for column in sorted(COLUMNS.keys() & set(manifest.collect_schema().names())):
        keyed = [patient_key.pseudonym(COLUMNS[column], name) for name in listed]
        names = pl.LazyFrame({column: keyed}, schema={column: pl.String()})
        found.append(manifest.join(names, on=column, how="semi").select("image_id", "split"))
    return pl.concat(found).unique().sort("image_id").collect()
