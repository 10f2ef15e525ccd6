"""Fit laws to anybody's table: a column of sizes, a column of scores or losses, maybe groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from radsweep.errors import SpecError
from radsweep.laws.fit import best, fit
from radsweep.laws.forms import FORMS

COLUMNS = {
    **{"form": pl.String, "chosen": pl.Boolean, "points": pl.Int64, "scales": pl.Int64},
    **{"theta": pl.String, "r2": pl.Float64, "rmse": pl.Float64, "aicc": pl.Float64},
    **{"leave_largest_out": pl.Float64, "flags": pl.String},
}


def _numbers(frame: pl.DataFrame, column: str) -> list[float]:
    if not frame.schema[column].is_numeric():
        raise SpecError(f"column '{column}' holds {frame.schema[column]}, a law needs numbers")
    missing = frame[column].null_count()
    if missing:
        raise SpecError(f"column '{column}' lacks {missing} of {len(frame)} numbers; drop the rows")
    return frame[column].cast(pl.Float64).to_list()


def _group(
    frame: pl.DataFrame, x: str, y: str, lower_is_better: bool, name: dict[str, Any]
) -> list[dict[str, Any]]:
    anchors = frame.filter(pl.col(x) == 0)
    points = frame.filter(pl.col(x) != 0)
    images, values = _numbers(points, x), _numbers(points, y)
    anchor = sum(_numbers(anchors, y)) / len(anchors) if len(anchors) else None
    chosen = best(images, values, anchor=anchor, lower_is_better=lower_is_better)
    rows = []
    for form in FORMS:
        if form.fitted > len(set(images)) or (form.is_anchored and anchor is None):
            continue
        one = fit(form, images, values, anchor=anchor, lower_is_better=lower_is_better)
        rows.append(
            {
                **name,
                "form": form.name,
                "chosen": form is chosen.form,
                "points": len(images),
                "scales": len(set(images)),
                "theta": json.dumps(one.theta),
                "r2": one.r2,
                "rmse": one.rmse,
                "aicc": one.aicc,
                "leave_largest_out": one.leave_largest_out,
                "flags": "; ".join(one.flags),
            }
        )
    return rows


def fit_table(
    frame: pl.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = (),
    *,
    lower_is_better: bool = False,
) -> pl.DataFrame:
    """Every form that the points allow, fitted to each group; ``chosen`` marks the best predictor.

    Args:
        frame: any table; several rows per size are replicates, a row of size 0 anchors the law.
        x: column of sizes (images, samples, FLOPs).
        y: column of scores in [0, 1], or of losses with ``lower_is_better``.
        by: columns whose values make a curve each, none for one curve.
        lower_is_better: y is a loss.

    Returns:
        One row per group and form: the group's columns, form, chosen, points, scales, theta (JSON),
        r2, rmse, aicc, leave_largest_out, flags.

    Raises:
        SpecError: an unknown or non-numeric column, missing numbers, a group with one size only, or
            a group column named like a column of the result.
    """
    for column in (x, y, *by):
        if column not in frame.columns:
            raise SpecError(f"no column '{column}'; the table has {', '.join(frame.columns)}")
    for column in by:
        if column in COLUMNS:
            raise SpecError(f"rename the column '{column}': the table of fits has one of that name")
    if not len(frame):
        raise SpecError("the table is empty, there is nothing to fit")
    if not by:
        return pl.DataFrame(_group(frame, x, y, lower_is_better, {}), schema=COLUMNS)
    rows: list[dict[str, Any]] = []
    for values, part in frame.group_by(by, maintain_order=True):
        name = dict(zip(by, values, strict=True))
        try:
            rows += _group(part, x, y, lower_is_better, name)
        except SpecError as error:
            where = ", ".join(f"{column} {value}" for column, value in name.items())
            raise SpecError(f"{where}: {error}") from error
    return pl.DataFrame(rows, schema={**{column: frame.schema[column] for column in by}, **COLUMNS})
