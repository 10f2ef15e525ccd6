"""What a layout gives an ingest: which files, which tables, and what each label was made by."""

import io
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import fsspec
import polars as pl

from radsweep.errors import SpecError


@final
@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a label column was made by."""

    kind: str
    """``rule`` (on the report), ``model`` (on the report), ``human`` (report or film, see
    ``by``), or several joined by ``+`` where rows differ."""
    by: str
    """Whose labels, which version, from what, and how several readers were joined."""


@final
@dataclass(frozen=True, kw_only=True)
class Export:
    """A public set in the terms of an ingest."""

    files: tuple[str, ...]
    """Folders or globs below the root."""
    tables: tuple[pl.DataFrame, ...] = field(repr=False)
    """With the columns that ``load_tables`` takes; one row per key."""
    provenance: Mapping[str, Origin]


class Layout(ABC):
    """Reads the tables of one published layout. It opens no x-ray and writes nothing."""

    @abstractmethod
    def read(self, root: "Folder") -> Export:
        """The set below ``root``, as it was unpacked.

        Raises SpecError, naming the file that the layout has and this root has not.
        """


@final
class Folder:
    """The root of a download, on disk or in object storage."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet."""
        self._fs, path = fsspec.core.url_to_fs(url)
        self._url = url.rstrip("/")
        self.path = str(path).rstrip("/")
        """As its file system knows it."""

    def url(self, inside: str) -> str:
        """The full URL of a path or glob below the root."""
        return f"{self._url}/{inside}" if inside else self._url

    def first(self, candidates: Sequence[str]) -> str | None:
        """The first of these paths or globs that is there, relative to the root."""
        for candidate in candidates:
            found = self.files(candidate) if "*" in candidate else [candidate]
            if found and self._fs.exists(f"{self.path}/{found[0]}"):
                return found[0]
        return None

    def files(self, pattern: str) -> list[str]:
        """Sorted paths below the root that fit a glob."""
        found = self._fs.glob(f"{self.path}/{pattern}")
        return sorted(posixpath.relpath(path, self.path) for path in found)

    def read(self, inside: str) -> bytes:
        """A whole file."""
        data: bytes = self._fs.cat_file(f"{self.path}/{inside}")
        return data

    def table(self, *candidates: str, columns: Sequence[str]) -> pl.DataFrame:
        """The first of these CSV files (or their ``.gz``) that is there, all columns as text.

        Args:
            candidates: paths or globs below the root.
            columns: what it must have.

        Raises SpecError where none is there, or it lacks a column.
        """
        found = self.first([name for one in candidates for name in (one, f"{one}.gz")])
        if found is None:
            raise SpecError(
                f"this root has no {' or '.join(candidates)}, which its layout has; name the "
                "folder that holds it"
            )
        try:
            frame = pl.read_csv(
                io.BytesIO(self.read(found)),
                infer_schema=False,
                encoding="utf8-lossy",
                truncate_ragged_lines=True,
            )
        except pl.exceptions.PolarsError as fault:
            # Its message quotes the table.
            raise SpecError(
                f"{found} cannot be read ({type(fault).__name__}); is it whole?"
            ) from None
        frame = frame.rename({name: name.strip() for name in frame.columns})
        missing = [name for name in columns if name not in frame.columns]
        if missing:
            raise SpecError(
                f"{found} has no column {missing[0]}; is it another release of the set?"
            )
        return frame.with_columns(pl.all().str.strip_chars().replace({"": None}))


def join_sections(sections: Mapping[str, str | None]) -> str | None:
    """A report of headed sections, in their order; None if all are blank."""
    told = [f"{name.upper()}: {text}" for name, text in sections.items() if text]
    return "\n".join(told) or None


def without_unnamed(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """The rows that have a key, the first of each."""
    return frame.filter(pl.col(key).is_not_null()).unique(key, keep="first", maintain_order=True)
