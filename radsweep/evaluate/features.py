"""Frozen features, once per encoder, kind and set of images, whoever asks for them. No Ray here.

``features/<key>/`` holds ``block-NNNNN-PP.safetensors`` and, last, ``DONE``. A block covers a fixed
range of manifest rows, so that one pass of an encoder over a block serves all that is asked of it,
and a pass that was killed goes on with the blocks that are not there. Maps are large (a pyramid of
MedImageInsight is 14 MB), so that a block of them has many parts, and what a trial reads of them
lies on its machine's disk.
"""

import errno
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, final

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.errors import StoreError
from radsweep.evaluate.encoders import Encoder
from radsweep.keys import key_of
from radsweep.probes.base import FrozenFeatures
from radsweep.store import Store
from radsweep.store.layout import features_folder
from radsweep.tasks.base import Examples, Needs

VERSION = 2
BLOCK_ROWS = 8192
"""Manifest rows of a block; only some of them are asked for."""
PART_IMAGES: Mapping[Needs, int] = {"dense": 128}
"""Images of one file; all of a block where a kind is not named."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk says that has no room for a file."""


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """What one split of a task asks of every encoder."""

    needs: Needs
    side: int
    """Of the grid of visual tokens; 0 where none are wanted."""
    rows: NDArray[np.int64]
    """Manifest rows, ascending."""
    images: str
    """Digest of the image identifiers."""

    @classmethod
    def of(cls, examples: Examples, needs: Needs, side: int) -> "Request":
        """For the images of ``examples``."""
        return cls(needs=needs, side=side, rows=examples.rows, images=examples.digest)

    def key(self, encoder: Encoder, corpus_digest: str) -> str:
        """Names the features by what they are: weights, preprocessing, kind and images."""
        return key_of(
            {
                "version": VERSION,
                "encoder": encoder.identity,
                "needs": self.needs,
                "side": self.side,
                "corpus": corpus_digest,
                "images": self.images,
            },
            length=16,
        )

    def in_block(self, block: int) -> NDArray[np.int64]:
        """Its rows in one block."""
        first, last = np.searchsorted(self.rows, (block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS))
        return self.rows[first:last]

    @property
    def blocks(self) -> list[int]:
        """Blocks that hold any of its rows."""
        return [int(block) for block in np.unique(self.rows // BLOCK_ROWS)]

    def parts(self, block: int) -> list[int]:
        """How many images each file of a block has, in order."""
        images = len(self.in_block(block))
        size = PART_IMAGES.get(self.needs, images)
        return [min(size, images - start) for start in range(0, images, size)]

    def names(self, block: int) -> list[str]:
        """Of the files of a block, in order."""
        return [block_name(block, part) for part in range(len(self.parts(block)))]


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """One pass of one encoder over one block, for the requests that lack it."""

    encoder: Encoder
    block: int
    requests: tuple[int, ...]
    """Positions in the list of requests."""


@final
@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What a pass over all missing work did."""

    images: int
    """That went through an encoder, summed over encoders."""
    faults: dict[str, str]
    """Cell -> why its encoder has no features, or not all of them."""


def block_name(block: int, part: int = 0) -> str:
    """Of the file with one part of a block."""
    return f"block-{block:05d}-{part:02d}.safetensors"


def block_file(key: str, block: int, part: int = 0) -> str:
    """Of the features in one part of a block."""
    return f"{features_folder(key)}/{block_name(block, part)}"


def missing_work(
    store: Store, encoders: Sequence[Encoder], requests: Sequence[Request], corpus_digest: str
) -> list[Work]:
    """Everything that is not in the store yet, encoder by encoder."""
    found = []
    done = set(store.names("features"))
    for encoder in encoders:
        lacking: dict[int, list[int]] = {}
        for position, request in enumerate(requests):
            key = request.key(encoder, corpus_digest)
            present = set(store.names(features_folder(key))) if key in done else set()
            if "DONE" in present:
                continue
            for block in request.blocks:
                if not present.issuperset(request.names(block)):
                    lacking.setdefault(block, []).append(position)
        found += [
            Work(encoder=encoder, block=block, requests=tuple(positions))
            for block, positions in sorted(lacking.items())
        ]
    return found


def close(
    store: Store, encoders: Sequence[Encoder], requests: Sequence[Request], corpus_digest: str
) -> None:
    """Write ``DONE`` where every block is there."""
    for encoder in encoders:
        for request in requests:
            folder = features_folder(request.key(encoder, corpus_digest))
            present = set(store.names(folder))
            files = {name for block in request.blocks for name in request.names(block)}
            if "DONE" not in present and files <= present:
                store.write_bytes(f"{folder}/DONE", b"")


def load_features(
    store: Store, encoder: Encoder, request: Request, corpus_digest: str
) -> FrozenFeatures:
    """All of a request's features, in its order: maps and tokens mapped from this machine's disk.

    Their files have no names and go with the last array. Raises StoreError where a block is not
    there, or the disk has no room.
    """
    try:
        return _loaded(store, encoder, request, corpus_digest)
    except OSError as fault:
        if fault.errno not in FULL:
            raise
        raise StoreError(
            f"features do not fit into {tempfile.gettempdir()} of this machine ({fault}); set "
            "TMPDIR to a folder on a larger disk, or lower the protocol's train_images"
        ) from fault


def _loaded(store: Store, encoder: Encoder, request: Request, corpus_digest: str) -> FrozenFeatures:
    folder = features_folder(request.key(encoder, corpus_digest))
    vectors: dict[str, list[NDArray[Any]]] = {}
    grids: dict[str, IO[bytes]] = {}
    like: dict[str, NDArray[Any]] = {}
    with ExitStack() as stack:
        for name in (name for block in request.blocks for name in request.names(block)):
            part = safetensors.numpy.load(store.read_bytes(f"{folder}/{name}"))
            for kind, values in part.items():
                if values.ndim == 2:
                    vectors.setdefault(kind, []).append(values)
                    continue
                if kind not in grids:
                    grids[kind] = stack.enter_context(tempfile.TemporaryFile())
                grids[kind].write(values.data)
                like[kind] = values
        found = {kind: np.concatenate(values) for kind, values in vectors.items()}
        for kind, file in grids.items():
            file.flush()
            shape = len(request.rows), *like[kind].shape[1:]
            # Whoever writes to one writes to a copy.
            found[kind] = np.asarray(np.memmap(file, like[kind].dtype, "c", shape=shape))
    return FrozenFeatures(
        pooled=found["pooled"],
        mean=found["mean"],
        tokens=found.get("tokens"),
        maps=tuple(found[kind] for kind in sorted(found) if kind.startswith("map")),
    )


def index_of(corpus: Corpus, requests: Sequence[Request]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The manifest rows that any request needs, as the reader takes them, and their positions."""
    rows = np.unique(np.concatenate([request.rows for request in requests]))
    return index_table(corpus.manifest[rows.tolist()]), rows
