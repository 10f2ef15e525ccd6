"""Frozen features, once per encoder, kind and set of images, whoever asks for them. No Ray here.

``features/<key>/`` holds ``block-NNNNN.safetensors`` and, last, ``DONE``. A block covers a fixed
range of manifest rows, so that one pass of an encoder over a block serves all that is asked of it,
and a pass that was killed goes on with the blocks that are not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.evaluate.encoders import Encoder
from radsweep.keys import key_of
from radsweep.probes.base import FrozenFeatures
from radsweep.store import Store
from radsweep.store.layout import features_folder
from radsweep.tasks.base import Examples, Needs

VERSION = 1
BLOCK_ROWS = 8192
"""Manifest rows of a block; only some of them are asked for."""


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


def block_name(block: int) -> str:
    """Of the file with one block."""
    return f"block-{block:05d}.safetensors"


def block_file(key: str, block: int) -> str:
    """Of the features in one block."""
    return f"{features_folder(key)}/{block_name(block)}"


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
                if block_name(block) not in present:
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
            blocks = {block_name(block) for block in request.blocks}
            if "DONE" not in present and blocks <= present:
                store.write_bytes(f"{folder}/DONE", b"")


def load_features(
    store: Store, encoder: Encoder, request: Request, corpus_digest: str
) -> FrozenFeatures:
    """All of a request's features, in its order. Raises StoreError where a block is not there."""
    key = request.key(encoder, corpus_digest)
    blocks = [
        safetensors.numpy.load(store.read_bytes(block_file(key, block))) for block in request.blocks
    ]
    whole: Mapping[str, NDArray[Any]] = (
        blocks[0]
        if len(blocks) == 1
        else {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    )
    return FrozenFeatures(
        pooled=whole["pooled"],
        mean=whole["mean"],
        tokens=whole.get("tokens"),
        maps=tuple(whole[name] for name in sorted(whole) if name.startswith("map")),
    )


def index_of(corpus: Corpus, requests: Sequence[Request]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The manifest rows that any request needs, as the reader takes them, and their positions."""
    rows = np.unique(np.concatenate([request.rows for request in requests]))
    return index_table(corpus.manifest[rows.tolist()]), rows
