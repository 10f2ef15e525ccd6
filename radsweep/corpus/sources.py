"""Which files an ingest reads, in one fixed order."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa

from radsweep.errors import SpecError

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl", ".ndjson")


def list_files(sources: Sequence[str], left_out: set[str]) -> pa.Table:
    """Files of folders (with all below), globs and paths, each once, sorted within its source.

    Hidden files, tables and ``left_out`` are no x-rays and are passed over; everything else is
    read, or accounted for in the quarantine.

    Args:
        sources: paths or fsspec URLs.
        left_out: paths as their file system knows them, such as those of masks.

    Returns:
        ``source`` (int32, which of the sources), ``path`` (as its file system knows it),
        ``path_in_source`` and ``stamp`` (size and tag or time of change; null where the storage
        lists none), one row per file.

    Raises SpecError, naming a source by its number, where there is no file.
    """
    seen: set[str] = set(left_out)
    found: list[tuple[int, str, str, str | None]] = []
    for number, source in enumerate(sources):
        paths, root = _expand(source)
        before = len(found)
        for path, stamp in sorted(paths.items()):
            if path in seen or not _may_be_image(path[len(root) :].lstrip("/")):
                continue
            seen.add(path)
            inside = posixpath.relpath(path, root) if root else path
            found.append((number, path, inside, stamp))
        if len(found) == before:
            raise SpecError(
                f"source {number + 1} of {len(sources)} holds no file to read; check its path, and "
                "quote a glob so that the shell leaves it alone"
            )
    columns = list(zip(*found, strict=True))
    return pa.table(
        {
            "source": pa.array(columns[0], pa.int32()),
            "path": pa.array(columns[1], pa.large_string()),
            "path_in_source": pa.array(columns[2], pa.large_string()),
            "stamp": pa.array(columns[3], pa.large_string()),
        }
    )


def _expand(source: str) -> tuple[dict[str, str | None], str]:
    """Paths of a source with their stamps, and the folder that they are told apart below."""
    fs, path = fsspec.core.url_to_fs(source)
    if fs.isdir(path):
        return _stamped(fs.find(path, detail=True)), path.rstrip("/")
    if any(mark in path for mark in "*?["):
        fixed = path[: min(path.index(mark) for mark in "*?[" if mark in path)]
        return _stamped(fs.glob(path, detail=True)), posixpath.dirname(fixed)
    return _stamped({path: fs.info(path)} if fs.exists(path) else {}), posixpath.dirname(path)


TAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified")
"""What file systems call that which changes with a file's content, best first."""


def _stamped(listed: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """Path -> stamp, of the files alone."""
    stamps: dict[str, str | None] = {}
    for path, info in listed.items():
        if info["type"] != "directory":
            tag = next((str(info[name]) for name in TAGS if info.get(name) is not None), None)
            stamps[path] = None if tag is None else f"{info['size']} {tag}"
    return stamps


def _may_be_image(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and not path.lower().endswith(TABLE_ENDINGS)
