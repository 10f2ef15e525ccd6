"""Which images of a corpus a starting checkpoint was trained on, by a published list of them.

Lists name SOP instances, or files: MIMIC-CXR's ``02aa804e-bde0afdd-...``, NIH's
``00000001_000.png``, CheXpert's ``train/patient00001/study1/view1_frontal.jpg``. So the manifest
holds keyed hashes of all three: of the SOP instance, of the file's name and of the end of its path,
since ``view1_frontal`` alone is everybody's.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import polars as pl

from radsweep.corpus.identity import PatientKey
from radsweep.errors import SpecError

SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")
"""What is no part of a file's name: has a letter first, unlike the last number of a UID."""

TOLD_BY = ("SOP instance", "path", "file name")
"""What may tell that an image is listed, the surest first."""

PATH_PARTS = 3
"""Folders of patient and exam, and the file."""


@final
@dataclass(frozen=True, kw_only=True)
class Listed:
    """All that may name an image in a list."""

    names: frozenset[str]
    """SOP instance UIDs, or names of files without folder and suffix."""
    paths: frozenset[str]
    """Ends of paths, as ``path_end`` gives."""


def file_name(path: str) -> str:
    """The last part of a path, without its suffix."""
    last = _parts(path)[-1]
    suffix = last.rfind(".")
    return last[:suffix] if suffix > 0 and SUFFIX.fullmatch(last[suffix:]) else last


def path_end(path: str) -> str | None:
    """The last PATH_PARTS parts of a path, without the suffix; None where it has fewer."""
    parts = _parts(path)
    return "/".join((*parts[-PATH_PARTS:-1], file_name(path))) if len(parts) >= PATH_PARTS else None


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part] or [""]


def file_pseudonyms(path: str, patient_key: PatientKey) -> dict[str, str | None]:
    """``file_id`` and ``path_id`` of a manifest row: keyed hashes of its file's name and path.

    Args:
        path: whole, as its file system knows it, so that they do not depend on which folder an
            ingest was pointed at.
        patient_key: the corpus's.
    """
    end = path_end(path)
    return {
        "file_id": patient_key.pseudonym("file name", file_name(path)),
        "path_id": None if end is None else patient_key.pseudonym("path end", end),
    }


def listed_images(path: Path) -> Listed:
    """All that may name an image in a list.

    Args:
        path: text with one entry a line, or CSV with or without a header; which column holds the
            names need not be said, since a header or a label matches no image.

    Raises SpecError where the file is missing or names nothing.
    """
    if not path.is_file():
        raise SpecError(f"the list of training images {path} is not there; name a text or CSV file")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        cells = {cell.strip() for row in csv.reader(lines) for cell in row} - {""}
    if not cells:
        raise SpecError(f"the list of training images {path} names no image")
    ends = {path_end(cell) for cell in cells}
    return Listed(
        names=frozenset(file_name(cell) for cell in cells),
        paths=frozenset(end for end in ends if end is not None),
    )


def overlap(manifest: pl.LazyFrame, listed: Listed, patient_key: PatientKey) -> pl.DataFrame:
    """Rows (image_id, split, by) of the listed images, each once.

    ``by`` is the first of TOLD_BY that told it. A name that the films of several patients bear
    tells nothing, and those films are known by their paths alone.

    Args:
        manifest: with image_id, patient_id, split, file_id and path_id.
        listed: of ``listed_images``.
        patient_key: the one that the corpus was made with; with another nothing would match.

    Raises SpecError where the manifest is of a corpus that was made before files' names were kept:
    it could not be told from one without overlap.
    """
    if not {"file_id", "path_id"} <= set(manifest.collect_schema().names()):
        raise SpecError(
            "this corpus was made before files' names were kept (as keyed hashes), so a list that "
            "names files would match nothing; ingest it anew as its next version with --extends, "
            "which shares the pictures"
        )
    rows = manifest.select("image_id", "patient_id", "split", "file_id", "path_id")
    found = [
        _among(rows, "image_id", "image", listed.names, patient_key),
        _among(rows, "path_id", "path end", listed.paths, patient_key),
        _among(rows, "file_id", "file name", listed.names, patient_key).filter(
            pl.col("patient_id").n_unique().over("file_id") == 1
        ),
    ]
    told = [frame.with_columns(by=pl.lit(by)) for by, frame in zip(TOLD_BY, found, strict=True)]
    return (
        pl.concat(told)
        .select("image_id", "split", "by")
        .unique("image_id", keep="first", maintain_order=True)
        .sort("image_id")
        .collect()
    )


def _among(
    rows: pl.LazyFrame, column: str, kind: str, names: frozenset[str], patient_key: PatientKey
) -> pl.LazyFrame:
    keyed = [patient_key.pseudonym(kind, name) for name in names]
    return rows.join(
        pl.LazyFrame({column: keyed}, schema={column: pl.String()}), on=column, how="semi"
    )
