"""Strata of patients, so that every scale has the corpus's own mix of views, sexes, ages or labels.

A patient is whole, and belongs to one stratum: that of all the values which its images have in each
column (frontal films only; frontal and lateral ones; ...). A missing value is a value. Within a
stratum patients keep their keyed order and stand at even distances from 0 to 1, each at a random
place of the stretch that is its own (jittered sampling: Cook, ACM Trans. Graphics 1986, in one
dimension); sorted by that place, the strata are taken at equal rates. So a prefix has of each
stratum its share of the images, give or take a patient, and prefixes nest.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.errors import SpecError
from radsweep.parts import did_you_mean

COLUMNS = ("view", "projection", "sex", "age_years")
"""Beside the label columns, what a subset may be stratified by: few values each."""

AGE_BAND_YEARS = 10
"""Ages are compared by decade."""

JITTER_BITS = 32
"""The lowest bits of a patient's number place it within its stretch. The order within a stratum is
that of the highest bits, so that the two are independent."""


def check_columns(columns: Sequence[str], labels: Sequence[str]) -> None:
    """Raise SpecError, with the nearest name, for a column that no stratum can be made of.

    Args:
        columns: asked for.
        labels: the corpus's own label columns.
    """
    known = sorted((*COLUMNS, *labels))
    for column in columns:
        if column not in known:
            raise SpecError(
                f"subsets cannot be stratified by {column!r}; {did_you_mean(column, known)}"
            )


def value_sets(pool: pl.DataFrame, first: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    """Each patient's stratum.

    Args:
        pool: has ``columns``; a patient's images are a stretch of rows.
        first: of each patient's stretch, rising from 0.
        columns: of at most 64 values each; those that ``check_columns`` lets pass have under 20.

    Returns:
        For each column the set of its values in each patient's images, as the bits of a uint64.
        Which bit is which value depends on the values that the pool has.
    """
    starts = first.to_numpy()
    return pl.DataFrame(
        {
            column: np.bitwise_or.reduceat(_bits(pool[column]), starts)
            for column in columns
            if len(starts)
        },
        schema=dict.fromkeys(columns, pl.UInt64),
    )


def _bits(column: pl.Series) -> NDArray[np.uint64]:
    value = column // AGE_BAND_YEARS if column.name == "age_years" else column
    known = value.unique()
    bits = pl.Series([1 << place for place in range(len(known))], dtype=pl.UInt64)
    return value.replace_strict(known, bits).to_numpy()


def stratified_order(patients: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Patients in the order in which every prefix has the strata's own shares of the images.

    Args:
        patients: patient_id, len (images), number (uint64, keyed) and the ``columns`` of
            ``value_sets``, in any order.
        columns: what the strata are made of, at least one.

    Returns:
        The same rows, in an order that does not depend on theirs.
    """
    earlier = (pl.col("len").cum_sum() - pl.col("len")).over(columns)
    jitter = (pl.col("number") % 2**JITTER_BITS).cast(pl.Float64) / 2**JITTER_BITS
    place = (earlier + jitter * pl.col("len")) / pl.col("len").sum().over(columns)
    return (
        patients.sort("number", "patient_id")
        .with_columns(place=place)
        .sort("place", "number", "patient_id")
        .drop("place")
    )
