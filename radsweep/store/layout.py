"""Where things lie under the root, and how a file gets there whole.

``corpora/<name@version>/``  ``cells/<cell>/``  ``features/<key>/``  ``scores/<trial>.parquet``
``predictions/<trial>.parquet``  ``sweeps/<name>.json``

A file is complete or absent: local files are written beside their place and renamed, objects are
put in one request. Nothing is appended to and nothing is renamed afterwards, so an object store
will do.
"""

import errno
import io
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import fsspec
import polars as pl

from radsweep.errors import AbsentError, StoreError

LOCAL_PROTOCOLS = ("file", "local")

PAUSES_SECONDS = (0.5, 2.0, 8.0)
"""Between tries of what may have been the store's bad moment: busy, timed out, an internal error.
The clients of object stores try again by themselves first."""

PASSING = {
    *(errno.EIO, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.ENETUNREACH),
    # What s3fs makes of an internal error of the server, where the system has it.
    getattr(errno, "EREMOTEIO", errno.EIO),
}
UNREACHABLE = {
    *("botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError"),
    "aiohttp.client_exceptions.ClientConnectionError",
}
"""What clients raise where they reach nobody: no ``OSError``, and without a base of their own."""

FULL = {errno.ENOSPC, errno.EDQUOT}

Answer = TypeVar("Answer")


class Store:
    """A root URL and the few verbs that radsweep needs of it.

    Picklable; paths are relative to the root.
    """

    def __init__(self, url: str) -> None:
        """Opens nothing yet.

        Args:
            url: a folder, or an fsspec URL such as ``s3://bucket/prefix``.
        """
        self.url = url if "://" in url else os.path.abspath(url)
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(self.url)
        self._root = str(root)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine."""
        protocol = self._fs.protocol
        return any(
            name in LOCAL_PROTOCOLS
            for name in ([protocol] if isinstance(protocol, str) else protocol)
        )

    def full(self, path: str) -> str:
        """The path as the root's file system knows it (no protocol)."""
        return f"{self._root}/{path}" if path else self._root

    def check_writable(self) -> None:
        """Write and delete a small file, before compute is spent; StoreError tells why it fails."""
        probe = f".writable-{secrets.token_hex(4)}"
        try:
            self.write_bytes(probe, b"radsweep")
            self._fs.rm_file(self.full(probe))
        except Exception as fault:
            raise StoreError(
                f"the store {self.url} cannot be written ({type(fault).__name__}: {fault}); "
                "choose another with --store or RADSWEEP_STORE, or mend its permissions"
            ) from fault

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there now."""
        try:
            # Not ``exists``, which takes any fault for an absence.
            self._patiently(path, lambda: self._fs.info(self.full(path)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read_bytes(self, path: str) -> bytes:
        """The whole file. Raises AbsentError where it is not there, StoreError at a fault."""
        try:
            return self._patiently(path, lambda: cast(bytes, self._fs.cat_file(self.full(path))))
        except FileNotFoundError as fault:
            raise AbsentError(f"{path} is not in the store {self.url}") from fault

    def read_ranges(self, path_start_end: list[tuple[str, int, int]]) -> list[bytes]:
        """Byte ranges ``[start, end)`` of files, fetched together where the file system can.

        Raises StoreError if a file is not there or a range is short.
        """
        if not path_start_end:
            return []
        found: dict[tuple[str, int, int], bytes] = {}

        def fetch() -> None:
            # Not again what is here: a store that throttles would only be asked for more.
            left = [one for one in dict.fromkeys(path_start_end) if one not in found]
            paths, starts, ends = zip(*left, strict=True)
            full = [self.full(path) for path in paths]
            answers = self._fs.cat_ranges(full, list(starts), list(ends), on_error="return")
            for one, answer in zip(left, answers, strict=True):
                if not isinstance(answer, BaseException):
                    found[one] = answer
            faults = [answer for answer in answers if isinstance(answer, Exception)]
            if faults:
                # First what no patience mends.
                raise min(faults, key=_may_pass)

        try:
            self._patiently(path_start_end[0][0], fetch)
        except FileNotFoundError as fault:
            raise StoreError(
                f"a pixel shard is missing from the store {self.url}: {fault}"
            ) from fault
        for (path, start, end), data in found.items():
            if len(data) != end - start:
                raise StoreError(
                    f"{path} ends before byte {end:,}; the file is damaged, ingest it again"
                )
        return [found[one] for one in path_start_end]

    def write_bytes(self, path: str, data: bytes) -> None:
        """Put a file there, whole or not at all; replaces what was there.

        Raises StoreError where the store is full, or fails for longer than a moment.
        """
        write = self._write_local if self.is_local else self._fs.pipe_file
        self._patiently(path, lambda: write(self.full(path), data))

    @staticmethod
    def _write_local(full: str, data: bytes) -> None:
        os.makedirs(os.path.dirname(full), exist_ok=True)
        beside = f"{full}.{secrets.token_hex(4)}.partial"
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, full)
        finally:
            if os.path.exists(beside):
                os.remove(beside)

    def _patiently(self, path: str, do: Callable[[], Answer]) -> Answer:
        for pause in (*PAUSES_SECONDS, None):
            # What was listed before says nothing of what others have written since, and file
            # systems take a file's absence and its size from it.
            self._fs.invalidate_cache()
            try:
                return do()
            except Exception as fault:
                if isinstance(fault, OSError) and fault.errno in FULL:
                    raise StoreError(
                        f"the store {self.url} is full: {path} was not written; make room and run "
                        "the same command again, it goes on from what is there"
                    ) from fault
                if not _may_pass(fault):
                    raise
                if pause is None:
                    raise StoreError(
                        f"the store {self.url} fails at {path} ({type(fault).__name__}: {fault}), "
                        f"{1 + len(PAUSES_SECONDS)} times in {sum(PAUSES_SECONDS):g} s; once it "
                        "answers, run the same command again, it goes on from what is there"
                    ) from fault
                time.sleep(pause)
        raise AssertionError("the last try either returns or raises")

    def create_bytes(self, path: str, data: bytes) -> bool:
        """Put a file there only if none is; False if there is one. The base of every claim.

        An answer may be lost on its way, so what is there is compared with ``data``: make it unlike
        what any other caller writes, or be content that all of them get True.
        """
        full = self.full(path)
        try:
            self._patiently(path, lambda: self._create(full, data))
        except FileExistsError:
            with suppress(FileNotFoundError):
                return self._patiently(path, lambda: bool(self._fs.cat_file(full) == data))
            return False
        return True

    def _create(self, full: str, data: bytes) -> None:
        if self.is_local:
            os.makedirs(os.path.dirname(full), exist_ok=True)
        file = self._fs.open(full, "xb")
        try:
            with file:
                file.write(data)
        except OSError:
            # A claim that nobody could read would stand for ever.
            if self.is_local:
                os.remove(full)
            raise

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing happens if it is not there."""
        if self.exists(path):
            with suppress(FileNotFoundError):
                self._patiently(path, lambda: self._fs.rm(self.full(path), recursive=True))

    def read_json(self, path: str) -> Any:
        """The JSON value of a file."""
        return json.loads(self.read_bytes(path))

    def write_json(self, path: str, value: object) -> None:
        """Write ``value`` as indented JSON with sorted names."""
        self.write_bytes(
            path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()
        )

    def read_table(self, path: str) -> pl.DataFrame:
        """A Parquet file."""
        return pl.read_parquet(io.BytesIO(self.read_bytes(path)))

    def write_table(self, path: str, table: pl.DataFrame) -> None:
        """Write a Parquet file."""
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self.write_bytes(path, buffer.getvalue())

    def names(self, folder: str) -> list[str]:
        """Sorted names of what lies directly in a folder; empty if there is no such folder."""
        try:
            found = self._patiently(
                folder, lambda: cast(list[str], self._fs.ls(self.full(folder), detail=False))
            )
        except FileNotFoundError:
            return []
        return sorted(
            name for path in found if not (name := PurePosixPath(path).name).endswith(".partial")
        )


def _may_pass(fault: Exception) -> bool:
    if isinstance(fault, OSError):
        return fault.errno in PASSING or isinstance(fault, TimeoutError)
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(fault).__mro__}
    return not kinds.isdisjoint(UNREACHABLE)


def corpus_folder(corpus: str) -> str:
    """Of a corpus called ``name@version``."""
    return f"corpora/{corpus}"


def cell_folder(cell: str) -> str:
    """Of a cell, by its name."""
    return f"cells/{cell}"


def features_folder(key: str) -> str:
    """Of the features of one encoder on one set of images, by their key."""
    return f"features/{key}"


def scores_file(trial: str) -> str:
    """The score rows of one trial, by its key."""
    return f"scores/{trial}.parquet"


def predictions_file(trial: str) -> str:
    """The per-example predictions of one trial, by its key."""
    return f"predictions/{trial}.parquet"


def sweep_file(name: str, suffix: str = "json") -> str:
    """A sweep's declaration (``json``), fits (``fits.parquet``) and the like."""
    return f"sweeps/{name}.{suffix}"
