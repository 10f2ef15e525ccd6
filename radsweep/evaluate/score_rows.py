"""From measurements under every resample to rows of the score table."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from radsweep import __version__
from radsweep.store.scores import SCHEMA
from radsweep.tasks.base import MACRO, Measurement

CELL_COLUMNS = (
    "sweep",
    "cell",
    "paradigm",
    "start_from",
    "images",
    "images_seen",
    "epochs",
    "flops",
    "seed",
    "subset_seed",
    "stratify_by",
)
"""What a row says of its cell; the rest is the same for every cell with these weights."""

MEASURED = pl.Schema({name: kind for name, kind in SCHEMA.items() if name not in CELL_COLUMNS})


def measured_rows(
    measurements: Sequence[Measurement], *, task: str, probe: str, headline: str, n_test: int
) -> pl.DataFrame:
    """One row per metric and label, without its cell.

    A metric that is not defined on the data, such as an F1 of what is neither there nor written, is
    null. Draws are kept for means over labels only.
    """
    finished = datetime.now(UTC)
    rows = []
    for one in measurements:
        value = float(one.values[0])
        bounds = one.interval()
        rows.append(
            {
                "task": task,
                "probe": probe,
                "label": one.label,
                "metric": one.metric,
                "headline": one.label == MACRO and one.metric == headline,
                "value": value if np.isfinite(value) else None,
                "ci_low": bounds[0] if bounds else None,
                "ci_high": bounds[1] if bounds else None,
                "n_test": n_test,
                "n_positive": one.positives,
                "split": "test",
                "code_version": __version__,
                "finished_at": finished,
                "draws": _draws(one) if one.label == MACRO else None,
            }
        )
    return pl.DataFrame(rows, schema=MEASURED)


def _draws(one: Measurement) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in one.values[1:]]


def with_cell(measured: pl.DataFrame, facts: dict[str, Any]) -> pl.DataFrame:
    """Rows of the score table: the measured ones as rows of one cell."""
    columns = [pl.lit(facts[name], dtype=SCHEMA[name]).alias(name) for name in CELL_COLUMNS]
    return measured.with_columns(columns).select(SCHEMA.names())
