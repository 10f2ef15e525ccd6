"""Nested data scales: the first n images of a fixed, patient-level order."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

import numpy as np
import polars as pl
import pyarrow as pa

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.split import patient_numbers
from radsweep.corpus.strata import check_columns, stratified_order, value_sets
from radsweep.errors import SpecError
from radsweep.specs import Subset

DIGEST_ROWS = 100_000
"""Identifiers that are one text at a time."""

POOL_ROWS = 4_000_000
"""Rows of the manifest that are sorted at once: a sort takes several times their memory."""


@final
@dataclass(frozen=True, kw_only=True)
class SubsetIndex:
    """The images of a subset. A smaller one of the same seed is a prefix of a larger one."""

    table: pa.Table = field(repr=False)
    """Manifest rows in subset order."""
    images: int
    """At least as many as asked for: the last patient is whole."""
    patients: int
    digest: str
    """SHA-256 of the image identifiers in order."""

    def reports(self) -> Iterator[str]:
        """The reports that there are, in order, once per image."""
        for text in self.table["report"]:
            if text.is_valid:
                yield text.as_py()


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """The images to pretrain on, patient by patient."""

    images: pl.DataFrame = field(repr=False)
    """row (of the manifest), image_id and further columns, by patient_id and image_id."""
    patients: pl.DataFrame = field(repr=False)
    """patient_id, len (images) and first (of their rows in ``images``), by patient_id."""


def select(corpus: Corpus, subset: Subset) -> SubsetIndex:
    """The shortest prefix of whole patients, in their keyed order, that reaches ``subset.images``.

    Only patients of the pretrain split, whatever a paradigm may need of them (a report, a label): a
    subset is the same for every paradigm. The order of the manifest's rows does not matter.

    Raises SpecError if the corpus has fewer images for pretraining, or no column to stratify by.
    """
    if subset.corpus != corpus.name:
        raise SpecError(f"a subset of {subset.corpus} cannot be taken from corpus {corpus.name}")
    check_columns(subset.stratify_by, corpus.labels())
    pool = pretrain_pool(corpus.manifest.lazy(), subset.stratify_by)
    if subset.images > pool.images.height:
        raise SpecError(
            f"subset of {subset.images:,} is larger than corpus {corpus.name} "
            f"({pool.images.height:,} images for pretraining); lower `images`"
        )
    order = patient_order(pool, subset.seed, subset.stratify_by)
    place = first_images(pool, order, subset.images)
    rows = corpus.manifest[place["row"]]
    return SubsetIndex(
        table=index_table(rows),
        images=rows.height,
        patients=rows["patient_id"].n_unique(),
        digest=digest_of(rows["image_id"]),
    )


def pretrain_pool(manifest: pl.LazyFrame, columns: Sequence[str] = ()) -> Pool:
    """What there is to pretrain on, sorted once for all seeds and scales.

    Patients are taken by ranges of their identifiers. An ingest leaves rows in the patients' order,
    so that a range is a stretch of the file, of which the rest is not read again; in another order
    the ranges are uneven, and the result is the same.
    """
    count = manifest.select(pl.len()).collect().item()
    cuts = [
        manifest.select("patient_id").slice(at, 1).collect().item()
        for at in range(POOL_ROWS, count, POOL_ROWS)
    ]
    # The row number comes before all else: only so does a range skip what it has nothing of.
    rows = manifest.with_row_index("row").filter(pl.col("split") == "pretrain")
    images, patients = [], []
    for least, end in pairwise((None, *sorted(set(cuts)), None)):
        part = rows if least is None else rows.filter(pl.col("patient_id") >= least)
        part = part if end is None else part.filter(pl.col("patient_id") < end)
        found = (
            part.select("row", "patient_id", "image_id", *columns)
            .sort("patient_id", "image_id")
            .collect()
            .rechunk()
        )
        patients.append(found["patient_id"].rle().struct.unnest())
        images.append(found.drop("patient_id"))
    # Rows are taken by number, which many chunks slow down.
    return Pool(
        images=pl.concat(images, rechunk=True),
        patients=pl.concat(patients, rechunk=True)
        .select(patient_id="value", len="len")
        .with_columns(first=pl.col("len").cum_sum() - pl.col("len")),
    )


def patient_order(pool: Pool, seed: int, stratify_by: Sequence[str] = ()) -> pl.DataFrame:
    """The fixed order of patients that every subset of this seed is a prefix of.

    Args:
        pool: of ``pretrain_pool``, with the columns of ``stratify_by``.
        seed: another is another order.
        stratify_by: columns whose mix every prefix is to have; none takes patients as they come.

    Returns:
        turn (0, 1, ...), patient_id, len and first as in the pool, and before (images of all
        earlier patients).
    """
    numbers = patient_numbers(pool.patients["patient_id"], "subset", seed)
    patients = pool.patients.with_columns(number=pl.Series(numbers, dtype=pl.UInt64))
    if stratify_by:
        sets = value_sets(pool.images, patients["first"], stratify_by)
        order = stratified_order(patients.hstack(sets), stratify_by)
    else:
        # The identifier itself breaks the ties that 64 bits may have among millions.
        order = patients.sort("number", "patient_id")
    return (
        order.select("patient_id", "len", "first")
        .with_row_index("turn")
        .with_columns(before=pl.col("len").cum_sum() - pl.col("len"))
    )


def first_images(pool: Pool, order: pl.DataFrame, images: int) -> pl.DataFrame:
    """A subset of the pool: the whole patients that reach ``images``, in their order.

    Args:
        pool: of ``pretrain_pool``, with at least so many rows.
        order: of ``patient_order`` of that pool.
        images: at least so many.

    Returns:
        row, image_id and turn (the patient's place in the order), in subset order.
    """
    taken = order.filter(pl.col("before") < images)
    length, first, before = (
        taken[name].to_numpy().astype(np.int64) for name in ("len", "first", "before")
    )
    places = np.repeat(first - before, length) + np.arange(length.sum())
    turns = np.repeat(taken["turn"].to_numpy(), length)
    return pool.images.select("row", "image_id")[places].with_columns(turn=pl.Series(turns))


def digest_of(image_ids: pl.Series) -> str:
    """SHA-256 of the identifiers, one a line, in this order."""
    digest = hashlib.sha256()
    for number, block in enumerate(image_ids.to_frame().iter_slices(DIGEST_ROWS)):
        text = block.to_series().str.join("\n").item()
        digest.update((f"\n{text}" if number else text).encode())
    return digest.hexdigest()
