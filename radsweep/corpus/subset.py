"""Nested data scales: the first n images of a fixed, patient-level order."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import polars as pl
import pyarrow as pa

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.split import patient_number
from radsweep.errors import SpecError
from radsweep.specs import Subset


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


def select(corpus: Corpus, subset: Subset) -> SubsetIndex:
    """The shortest prefix of whole patients, in their keyed order, that reaches ``subset.images``.

    Only patients of the pretrain split, whatever a paradigm may need of them (a report, a label): a
    subset is the same for every paradigm. The order of the manifest's rows does not matter.

    Raises SpecError if the corpus has fewer images for pretraining.
    """
    if subset.corpus != corpus.name:
        raise SpecError(f"a subset of {subset.corpus} cannot be taken from corpus {corpus.name}")
    pool = corpus.manifest.filter(pl.col("split") == "pretrain")
    if subset.images > pool.height:
        raise SpecError(
            f"subset of {subset.images:,} is larger than corpus {corpus.name} "
            f"({pool.height:,} images for pretraining); lower `images`"
        )
    counts = pool.group_by("patient_id").len()
    order = (
        counts.with_columns(
            # The identifier itself breaks the ties that 64 bits may have among millions.
            pl.Series(
                "turn",
                [patient_number(p, "subset", subset.seed) for p in counts["patient_id"]],
                pl.UInt64,
            )
        )
        .sort("turn", "patient_id")
        .with_columns(before=pl.col("len").cum_sum() - pl.col("len"))
    )
    taken = order.filter(pl.col("before") < subset.images)
    rows = pool.join(taken.select("patient_id", "turn"), on="patient_id").sort(
        "turn", "patient_id", "image_id"
    )
    digest = hashlib.sha256("\n".join(rows["image_id"]).encode()).hexdigest()
    return SubsetIndex(
        table=index_table(rows.drop("turn")),
        images=rows.height,
        patients=taken.height,
        digest=digest,
    )
