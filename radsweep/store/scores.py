"""The one table that laws and dashboards know: a number, its interval and all its coordinates."""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from radsweep.store.layout import Store, scores_file
from radsweep.store.together import together

COLUMNS: dict[str, pl.DataType | pl.datatypes.DataTypeClass] = {
    "sweep": pl.String,
    "cell": pl.String,
    "paradigm": pl.String,
    "start_from": pl.String,
    "images": pl.Int64,  # unique in-domain images; 0 is the open weights
    "images_seen": pl.Int64,
    "epochs": pl.Float64,
    "flops": pl.Float64,
    "seed": pl.Int64,
    "subset_seed": pl.Int64,
    "stratify_by": pl.String,  # columns whose mix subsets share, such as "sex+view"; null for none
    "task": pl.String,
    "probe": pl.String,
    "label": pl.String,  # "macro" is the mean over labels
    "metric": pl.String,
    "headline": pl.Boolean,  # the one number by which the task is plotted first
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_test": pl.Int64,
    "n_positive": pl.Int64,
    "split": pl.String,
    "code_version": pl.String,
    "finished_at": pl.Datetime("us", "UTC"),
    "draws": pl.List(pl.Float32),  # draw i is the same resample of patients for every encoder
}
SCHEMA = pl.Schema(COLUMNS)
SUMS = ("macro", "micro", "all")
"""In the column ``label``: what is measured of all labels together."""
OLDER: dict[str, Literal["insert", "raise"]] = {"stratify_by": "insert"}
"""Columns that older files lack."""

LABEL_GAINS = pl.Schema(
    {
        **dict.fromkeys(
            ("task", "probe", "metric", "label", "paradigm", "start_from"), pl.String()
        ),
        **dict.fromkeys(("images", "seeds", "n_positive"), pl.Int64()),
        **dict.fromkeys(("gain", "ci_low", "ci_high", "p", "p_holm"), pl.Float64()),
    }
)
"""What ``radsweep.evaluate.label_gains`` finds: a label's gain over the open weights."""

SLICES = pl.Schema(
    {
        "task": pl.String(),
        "probe": pl.String(),
        "cell": pl.String(),
        "by": pl.String(),
        "slice": pl.String(),
        "metric": pl.String(),
        "label": pl.String(),
        "headline": pl.Boolean(),
        "value": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "n_test": pl.Int64(),
        "n_positive": pl.Int64(),
        "reason": pl.String(),
    }
)
"""What ``radsweep.evaluate.slices`` finds; ``reason`` says why there is no value."""


def write(store: Store, trial: str, rows: pl.DataFrame) -> None:
    """One file per trial; the columns must be the schema's.

    Raises polars.exceptions.SchemaError where a column is missing or of another type.
    """
    store.write_table(scores_file(trial), rows.select(SCHEMA.names()).match_to_schema(SCHEMA))


def read_each(store: Store, trials: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The rows of each of these trials, in their order; a trial that is not there is left out.

    Those that were written before ``stratify_by`` was a column have a null there.
    """
    present = set(store.names("scores"))
    found = [trial for trial in trials if f"{trial}.parquet" in present]
    tables = together(lambda trial: store.read_table(scores_file(trial)), found)
    whole = (one.match_to_schema(SCHEMA, missing_columns=OLDER) for one in tables)
    return dict(zip(found, whole, strict=True))


def read(store: Store, trials: Sequence[str]) -> pl.DataFrame:
    """The rows of these trials in one table."""
    return pl.concat([SCHEMA.to_frame(), *read_each(store, trials).values()])
