"""Copies of what was read, on this machine's own disk: an object store is asked for an image once.

A copy is a file with its shard's name and offsets, and holes where nothing was read yet. What is
there the manifest's checksums say: a hole, a write that was cut off and a shard of another ingest
all differ from them. So there is no index and no lock, and any number of processes share them.

An epoch reads every image once. What came first is then worth as much as what comes next, and once
the disk is nearly full nothing is added and nothing thrown out.
"""

import logging
import os
import shutil
import zlib
from pathlib import Path
from typing import NamedTuple, Self, final

from radsweep.corpus.manifest import shard_file
from radsweep.errors import StreamError
from radsweep.keys import key_of
from radsweep.store import Store

VARIABLE = "RADSWEEP_COPIES"
"""Names the folder. A fact of the machine and not of the run, whose nodes may have other disks."""

KEEP_FREE = 0.1
"""Share of the disk that is left alone; Ray stops at 5%."""


class Place(NamedTuple):
    """Where a picture lies, as the manifest says."""

    corpus: str
    shard: int
    offset: int
    length: int
    crc32: int

    @property
    def file(self) -> str:
        """Path of the shard in the store."""
        return shard_file(self.corpus, self.shard)


@final
class Copies:
    """Of one store, in a folder of this machine."""

    def __init__(self, folder: str, store: Store) -> None:
        """Makes the folder, for the eyes of this user alone.

        Raises StreamError where that fails.
        """
        self._folder = Path(folder) / key_of(store.url)
        self._is_full = False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise StreamError(
                f"{VARIABLE} is {folder}, where no folder can be made ({fault}); name a folder on "
                "this machine's own disk, or unset it"
            ) from fault

    @classmethod
    def here(cls, store: Store) -> Self | None:
        """Those that this machine keeps; None where nobody asked for any."""
        folder = os.environ.get(VARIABLE)
        if not folder:
            return None
        if not os.path.isabs(folder):
            raise StreamError(
                f"{VARIABLE} is {folder}; give the whole path, since each process has a working "
                "folder of its own"
            )
        return cls(folder, store)

    def read(self, place: Place) -> bytes | None:
        """The stored bytes of a picture; None if they are not here, or not those of the ingest."""
        try:
            with open(self._folder / place.file, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), place.length, place.offset)
        except OSError:
            # Not copied yet, or this disk fails: the store has it.
            return None
        return data if zlib.crc32(data) == place.crc32 else None

    def keep(self, place: Place, data: bytes) -> None:
        """Copy a picture's bytes where there is room; a disk's fault is told, and no more kept."""
        if self._is_full:
            return
        path = self._folder / place.file
        try:
            disk = shutil.disk_usage(self._folder)
            self._is_full = disk.free < KEEP_FREE * disk.total
            if not self._is_full:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
                try:
                    os.pwrite(file, data, place.offset)
                finally:
                    os.close(file)
        except OSError as fault:
            self._is_full = True
            logging.getLogger(__name__).warning("no more is copied to %s: %s", path, fault)
