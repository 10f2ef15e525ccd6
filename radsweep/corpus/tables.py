"""What a hospital's tables say of its files: reports, labels, masks, patients, by any key."""

import hashlib
import io
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from radsweep.corpus.manifest import LABEL_PREFIXES
from radsweep.errors import SpecError

KEYS = ("sop_instance_uid", "path", "file_name", "accession_number", "patient_id")
"""The first of these columns that a table has is its key: the narrowest one."""

MASK_PREFIX = "mask_"
FACTS = (
    "patient_id",
    "exam_id",
    "accession_number",
    "view",
    "sex",
    "age",
    "pixel_spacing_mm",
    "report",
)
"""Columns that are read besides ``finding_*``, ``tube_*`` and ``mask_*``."""

IDENTIFYING = re.compile(
    r"name|patient|mrn|accession|(exam|study)_?id|phone|address|physician|doctor|birth|dob|date|_uid"
)
"""Columns whose values are scrubbed from the report of the same row."""

LABELS = {"1": 1, "0": 0, "-1": -1}
MAX_MASK_CLASSES = 16
MASKS_ASKED_FOR = 20


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class FileKeys:
    """What a table may know a file by; None where the file does not say."""

    path: str
    """Absolute, as its file system knows it."""
    path_in_source: str
    sop_instance_uid: str | None = None
    accession_number: str | None = None
    patient_id: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, sorted by hashed key: workers map it from shared memory instead of copying it."""

    key: str
    folder: str
    """Its own, which paths in it are relative to, as its file system knows it."""
    protocol: str
    """Before such a path where it is not on this machine's disk, as in ``s3://``; else empty."""
    hashes: NDArray[np.uint64] = field(repr=False)
    rows: pa.Table = field(repr=False)

    def find(self, keys: FileKeys) -> dict[str, Any] | None:
        """The row of a file, or None."""
        for wanted in self._candidates(keys):
            at = int(np.searchsorted(self.hashes, _hash(wanted)))
            while at < len(self.hashes) and self.hashes[at] == _hash(wanted):
                row: dict[str, Any] = self.rows.slice(at, 1).to_pylist()[0]
                if row[self.key] == wanted:
                    return row
                at += 1
        return None

    def url(self, path: str) -> str:
        """Of a file that the table names: beside it, or wherever a whole path says."""
        return path if "://" in path else self.protocol + posixpath.join(self.folder, path)

    def masks(self) -> list[str]:
        """Paths of all masks, as the table names them."""
        return [
            path
            for column in self.rows.column_names
            if column.startswith(MASK_PREFIX)
            for path in self.rows[column].drop_null().to_pylist()
        ]

    def _candidates(self, keys: FileKeys) -> list[str]:
        if self.key == "path":
            inside = keys.path.startswith(f"{self.folder}/")
            beside = [keys.path[len(self.folder) + 1 :]] if inside else []
            return [keys.path, *beside, keys.path_in_source]
        if self.key == "file_name":
            return [posixpath.basename(keys.path)]
        value = getattr(keys, self.key)
        return [] if value is None else [value]


@final
@dataclass(frozen=True, kw_only=True)
class Tables:
    """All tables of an ingest, asked as one."""

    tables: tuple[Table, ...]
    labels: tuple[str, ...]
    """Label columns of all tables, sorted."""
    mask_classes: tuple[str, ...]
    """Without their prefix, in the order of the columns: class i is bit i of the stored mask."""

    def find(self, keys: FileKeys) -> tuple[dict[str, Any], tuple[int, ...]]:
        """All that is known of a file, and the numbers of the tables that know it.

        Where two tables give the same column, the table with the narrower key counts. ``masks`` is
        there only if every table with masks has a row for the file: class -> path of its PNG, or
        None where it is known to be absent.
        """
        known: dict[str, Any] = {}
        found: list[int] = []
        masks: dict[str, str | None] = {}
        identifiers: list[str] = []
        for number, table in enumerate(self.tables):
            row = table.find(keys)
            if row is None:
                continue
            found.append(number)
            # A patient or an exam that one table names may be the key of the next.
            named = {key: row[key] for key in ("patient_id", "accession_number") if row.get(key)}
            keys = replace(keys, **named)
            for column, value in row.items():
                if column.startswith(MASK_PREFIX):
                    place = None if value is None else table.url(value)
                    masks[column.removeprefix(MASK_PREFIX)] = place
                elif value is not None:
                    known.setdefault(column, value)
                    if IDENTIFYING.search(column):
                        identifiers.append(str(value))
        known["identifiers"] = tuple(identifiers)
        if self.mask_classes and set(masks) == set(self.mask_classes):
            known["masks"] = masks
        return known, tuple(found)

    def mask_paths(self) -> set[str]:
        """Every mask file that the tables name: none of them is an x-ray."""
        return {
            str(fsspec.core.url_to_fs(path)[1])
            if "://" in path
            else posixpath.join(table.folder, path)
            for table in self.tables
            for path in table.masks()
        }

    def check_masks(self) -> None:
        """Raise SpecError for a table of whose masks none is there; asks for a few of them.

        Later each would cost its image; likelier is that the table lies elsewhere than its masks.
        """
        for table in self.tables:
            named = table.masks()
            asked = named[:: max(1, len(named) // MASKS_ASKED_FOR)]
            if asked and not any(_is_there(table.url(path)) for path in asked):
                raise SpecError(
                    f"of {len(named):,} mask files that a table names, {len(asked)} were looked "
                    "for and none is there; paths are relative to the table's own folder: put it "
                    "where its masks are, or write whole paths"
                )


def load_tables(
    places: Sequence[str], frames: Sequence[pl.DataFrame] = (), folder: str = ""
) -> Tables:
    """Read CSV, Parquet or JSON-lines tables, each once.

    Args:
        places: paths or fsspec URLs. Columns: one of KEYS, and any of FACTS, ``finding_*``,
        ``tube_*``
            (1, 0, -1, blank) and ``mask_*`` (path of a PNG relative to the table; blank is known
            absent).
        frames: tables that are in memory already, with the same columns; numbered after the others.
        folder: URL that paths in ``frames`` are relative to.

    Raises SpecError, naming a table by its number, for a table that cannot be read or joined.
    """
    tables = [_load(place, number) for number, place in enumerate(dict.fromkeys(places), 1)]
    tables += [
        _table(_as_text(frame), folder, number)
        for number, frame in enumerate(frames, len(tables) + 1)
    ]
    tables.sort(key=lambda table: KEYS.index(table.key))
    columns = list(dict.fromkeys(c for table in tables for c in table.rows.column_names))
    masks = tuple(c.removeprefix(MASK_PREFIX) for c in columns if c.startswith(MASK_PREFIX))
    if len(masks) > MAX_MASK_CLASSES:
        raise SpecError(f"{len(masks)} mask classes; a stored mask has room for {MAX_MASK_CLASSES}")
    return Tables(
        tables=tuple(tables),
        labels=tuple(sorted(c for c in columns if c.startswith(LABEL_PREFIXES))),
        mask_classes=masks,
    )


def _load(place: str, number: int) -> Table:
    fs, path = fsspec.core.url_to_fs(place)
    if not fs.exists(path):
        raise SpecError(f"table {number} is not there; check its path")
    return _table(_frame(fs.cat_file(path), path, number), posixpath.dirname(place), number)


def _is_there(url: str) -> bool:
    fs, path = fsspec.core.url_to_fs(url)
    try:
        # Not ``exists``, which takes any fault for an absence.
        fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _table(frame: pl.DataFrame, folder_url: str, number: int) -> Table:
    key = next((column for column in KEYS if column in frame.columns), None)
    if key is None:
        raise SpecError(f"table {number} has no key column; give it one of {', '.join(KEYS)}")
    frame = frame.filter(pl.col(key).is_not_null())
    if key == "path":
        frame = frame.with_columns(pl.col(key).map_elements(posixpath.normpath, pl.String))
    repeated = frame.height - frame[key].n_unique()
    if repeated:
        raise SpecError(f"table {number}: {repeated:,} rows repeat a {key}; keep one row per key")
    _check_labels(frame, number)
    frame = _renamed(frame).select(pl.col(key), pl.exclude(key))
    if not any(_is_read(column) for column in frame.columns if column != key):
        raise SpecError(
            f"table {number} has nothing to read beside {key}; columns are {', '.join(FACTS)}, "
            "finding_*, tube_* and mask_*"
        )
    kept = [c for c in frame.columns if _is_read(c) or c == key or IDENTIFYING.search(c)]
    hashes = np.array([_hash(value) for value in frame[key]], np.uint64)
    order = np.argsort(hashes, kind="stable")
    rows = frame.select(kept)[order].to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    fs, folder = fsspec.core.url_to_fs(folder_url)
    return Table(
        key=key,
        folder=folder,
        # An address of the web is a path with its protocol already.
        protocol=""
        if "://" in folder or isinstance(fs, LocalFileSystem)
        else fs.unstrip_protocol(""),
        hashes=hashes[order],
        rows=rows,
    )


def _frame(data: bytes, path: str, number: int) -> pl.DataFrame:
    """All columns as stripped text, blank as null."""
    try:
        if path.endswith(".parquet"):
            frame = pl.read_parquet(io.BytesIO(data))
        elif path.endswith((".jsonl", ".ndjson")):
            frame = pl.read_ndjson(io.BytesIO(data))
        else:
            # As text: an accession number keeps its leading zeros.
            frame = pl.read_csv(io.BytesIO(data), infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as fault:
        # Its message quotes the table.
        raise SpecError(
            f"table {number} cannot be read ({type(fault).__name__}); check its format"
        ) from None
    return _as_text(frame.rename({column: column.strip().lower() for column in frame.columns}))


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.all().cast(pl.String).str.strip_chars().replace({"": None}))


def _check_labels(frame: pl.DataFrame, number: int) -> None:
    for column in frame.columns:
        if column.startswith(LABEL_PREFIXES):
            odd = (
                frame[column]
                .drop_nulls()
                .str.replace(r"\.0+$", "")
                .is_in(list(LABELS))
                .not_()
                .sum()
            )
            if odd:
                raise SpecError(
                    f"table {number}, {column}: {odd:,} values are not 1, 0, -1 or blank"
                )


def _renamed(frame: pl.DataFrame) -> pl.DataFrame:
    spare = {"age_years": "age", "study_id": "exam_id", "view_position": "view"}
    return frame.rename(
        {
            old: new
            for old, new in spare.items()
            if old in frame.columns and new not in frame.columns
        }
    )


def _is_read(column: str) -> bool:
    return column in FACTS or column.startswith((*LABEL_PREFIXES, MASK_PREFIX))


def label_value(text: str | None) -> int | None:
    """1, 0, -1, or None for a blank."""
    return None if text is None else LABELS[re.sub(r"\.0+$", "", text)]


def _hash(value: str) -> np.uint64:
    digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
