"""What two copies of one film have in common, in 199 bytes, from the stored pictures alone.

Two copies differ in window, size, compression, polarity or a marker; two chests differ in what lies
between the coarse shape that all chests share and the grain. So a fingerprint is the band of
spatial frequencies between those, whitened. Difference hashes of a few bits find thousands of false
pairs among chest films, since they hold little but the coarse shape.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from radsweep.corpus.manifest import corpus_file, index_table
from radsweep.corpus.reader import Reader
from radsweep.store import Store

Fingerprints = NDArray[np.int8]
"""[n, FINGERPRINT_BYTES]: the direction of each row is what counts."""

MapShards = Callable[[Callable[[int], Fingerprints], Sequence[int]], Iterable[Fingerprints]]
"""Applies a function to numbers and keeps their order: ``map``, or that of an executor. Decoding
lets go of the interpreter lock, so that threads will do."""

VERSION = 1
"""Of the numbers; part of the name under which they are stored."""

SIDE = 64
"""Pixels along each side of the reduced picture."""

BAND = (4, 16)
"""Half cycles per picture, from and below. Measured on 1,381 real films (950,000 pairs of different
patients): in this band the most similar pair has 0.87; in (2, 12), not whitened, 919 pass 0.9."""

CLIP = 2.0
"""Times the median magnitude, beyond which the band-passed picture is cut: it bounds what a burnt
in marker weighs. Measured with a white box over an eighth by a sixth of the film: similarity to the
original rises from 0.67 to 0.85."""


def _radius() -> NDArray[np.float32]:
    """Distance of each DCT coefficient from the constant one, [SIDE, SIDE]."""
    steps = np.arange(SIDE, dtype=np.float32)
    return np.hypot(steps[:, None], steps[None, :])


_RADIUS = _radius()
_KEPT = np.logical_and(np.greater_equal(_RADIUS, BAND[0]), np.less(_RADIUS, BAND[1]))
# Films fall off as one over frequency, so that the radius whitens (Field, J. Opt. Soc. Am. A 1987).
_GAIN = np.where(_KEPT, _RADIUS, np.float32(0)).astype(np.float32)
FINGERPRINT_BYTES = int(_KEPT.sum())

_READ = ("image_id", "corpus", "shard", "offset", "length", "crc32")
_NO_REPORT = pl.lit(None, pl.String)


def fingerprints_of(pictures: Sequence[NDArray[np.uint8]]) -> Fingerprints:
    """Fingerprints, int8 [n, FINGERPRINT_BYTES], of pictures uint8 [H, W] of any size.

    A constant picture gives zeros, which are similar to nothing.
    """
    reduced = np.empty((len(pictures), SIDE, SIDE), np.float32)
    for row, picture in enumerate(pictures):
        image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
        reduced[row] = np.asarray(image, np.float32)
    band = fft.idctn(
        fft.dctn(reduced, axes=(1, 2), norm="ortho") * _GAIN, axes=(1, 2), norm="ortho"
    )
    middle = np.median(np.abs(band), axis=(1, 2), keepdims=True)
    limit = np.float32(CLIP) * middle
    kept = fft.dctn(np.clip(band, -limit, limit), axes=(1, 2), norm="ortho")[:, _KEPT]
    largest = np.abs(kept).max(axis=1, keepdims=True)
    # Rounding noise of a constant picture is no direction.
    scale = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 1e-2)
    found: Fingerprints = np.rint(kept * scale).astype(np.int8)
    return found


@final
@dataclass(frozen=True, kw_only=True)
class _Job:
    store: Store
    shards: tuple[tuple[str, int], ...]
    rows: tuple[pl.DataFrame, ...] = field(repr=False)


def corpus_fingerprints(
    store: Store,
    rows: pl.DataFrame,
    *,
    map_shards: MapShards = map,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pl.DataFrame, Fingerprints]:
    """Fingerprints of the images of these manifest rows, read from the store where it has them.

    What is computed is stored beside the shard that it came from, so that a second check, or a
    later version of the corpus that shares the shard, decodes nothing again.

    Args:
        store: where the corpus is.
        rows: manifest rows with at least image_id, corpus, shard, offset, length and crc32.
        map_shards: runs the shards, here or elsewhere.
        progress: is given (shards done, shards in all).

    Returns:
        the rows in another order (by shard), and their fingerprints in that order.

    Raises StreamError where stored bytes are not the ones that were ingested.
    """
    ordered = rows.sort("corpus", "shard", "offset")
    parts = ordered.partition_by("corpus", "shard", maintain_order=True)
    job = _Job(
        store=store,
        shards=tuple((part["corpus"][0], part["shard"][0]) for part in parts),
        rows=tuple(part.select(_READ).with_columns(report=_NO_REPORT) for part in parts),
    )
    found = np.empty((ordered.height, FINGERPRINT_BYTES), np.int8)
    at = 0
    for done, block in enumerate(map_shards(partial(_of_shard, job), range(len(parts))), 1):
        found[at : at + len(block)] = block
        at += len(block)
        if progress is not None:
            progress(done, len(parts))
    return ordered, found


def _of_shard(job: _Job, number: int) -> Fingerprints:
    """Those of the job's rows in one shard, in order."""
    (corpus, shard), rows = job.shards[number], job.rows[number]
    name = corpus_file(corpus, f"fingerprints/v{VERSION}-{shard:05d}.parquet")
    if job.store.exists(name):
        known = rows.join(
            job.store.read_table(name), on="image_id", how="left", maintain_order="left"
        )
        if known["fingerprint"].null_count() == 0:
            return _as_array(known["fingerprint"])
    examples = Reader(job.store, index_table(rows)).examples(range(rows.height))
    found = fingerprints_of([example.pixels for example in examples])
    stored = rows.select("image_id").with_columns(
        fingerprint=pl.Series([row.tobytes() for row in found], dtype=pl.Binary)
    )
    job.store.write_table(name, stored)
    return found


def _as_array(fingerprints: pl.Series) -> Fingerprints:
    joined = b"".join(fingerprints)
    return np.frombuffer(joined, np.int8).reshape(-1, FINGERPRINT_BYTES)
