"""Fit laws to anybody's table: columns of sizes, a column of scores or losses, maybe groups."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radsweep.errors import SpecError
from radsweep.laws.fit import GETS_WORSE, best, checked, fit, why_no_law
from radsweep.laws.forms import FORMS, FloatArray
from radsweep.laws.joint import PARAMETERS, fit_joint, why_no_joint_law
from radsweep.laws.repetition import REPEATS_WORTH, effective_images
from radsweep.laws.wide_forms import ALL_FORMS

NO_LAW = "no law"
"""The form of a group that supports none; its ``flags`` are the sentence that says why."""
COLUMNS = {
    **{"form": pl.String, "chosen": pl.Boolean, "points": pl.Int64, "scales": pl.Int64},
    **{"theta": pl.String, "r2": pl.Float64, "rmse": pl.Float64, "aicc": pl.Float64},
    **{"leave_largest_out": pl.Float64, "flags": pl.String},
}
JOINT_COLUMNS = {
    **{"form": pl.String, "chosen": pl.Boolean, "reads": pl.String},
    **{"points": pl.Int64, "scales": pl.Int64, "theta": pl.String},
    **dict.fromkeys(PARAMETERS, pl.Float64),
    **{f"{name}_{end}": pl.Float64 for name in PARAMETERS for end in ("low", "high")},
    **dict.fromkeys(("r2", "rmse", "leave_largest_out"), pl.Float64),
    "flags": pl.String,
}
# From this many scales on, forms of four parameters are tried as well.
SCALES_FOR_ALL = 7
Rows = list[dict[str, Any]]


def _no_numbers(column: pl.Series) -> str:
    """What stands in a column where a law needs numbers, with the first value that is none."""
    text = column.cast(pl.String, strict=False)
    others = text.filter(text.cast(pl.Float64, strict=False).is_null() & text.is_not_null())
    found = f"such as '{others[0]}'" if len(others) else "numbers written as text"
    return (
        f"column '{column.name}' holds {column.dtype}, {found}, and a law needs numbers; repair or "
        "drop these rows, or name another column"
    )


def read_table(file: Path) -> pl.DataFrame:
    """Anybody's table. Raises SpecError where it is no CSV or Parquet file that can be read."""
    if file.suffix not in (".csv", ".parquet") or not file.is_file():
        raise SpecError(f"{file} is not a .csv or .parquet file that exists")
    try:
        return pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file)
    except (pl.exceptions.PolarsError, OSError) as fault:
        # Polars adds a page of advice on its own options.
        first = str(fault).strip().splitlines()[0]
        raise SpecError(f"{file} cannot be read as a table ({first}); save it again") from fault


def _whole(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, str]:
    """The rows that have every number, and a sentence on those that do not (or an empty one)."""
    for column in columns:
        if not frame.schema[column].is_numeric():
            raise SpecError(_no_numbers(frame[column]))
    whole = frame.filter(pl.all_horizontal(pl.col(c).cast(pl.Float64).is_finite() for c in columns))
    missing = len(frame) - len(whole)
    words = f"{missing} of {len(frame)} rows lack a number and are left out"
    return whole, words if missing else ""


def _array(frame: pl.DataFrame, column: str) -> FloatArray:
    return np.asarray(frame[column].cast(pl.Float64).to_numpy(), dtype=np.float64)


def _sizes(frame: pl.DataFrame, x: str, seen: str | None, repeats_worth: float) -> FloatArray:
    sizes = _array(frame, x)
    if seen is None:
        return sizes
    return effective_images(sizes, _array(frame, seen), repeats_worth=repeats_worth)


def _said(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _group(
    frame: pl.DataFrame,
    x: str,
    y: str,
    *,
    lower_is_better: bool,
    seen: str | None,
    repeats_worth: float,
) -> Rows:
    columns = (x, y) if seen is None else (x, y, seen)
    whole, left_out = _whole(frame, columns)
    anchors, points = whole.filter(pl.col(x) == 0), whole.filter(pl.col(x) != 0)
    images, values = _sizes(points, x, seen, repeats_worth), _array(points, y)
    shape = {"points": len(images), "scales": len(np.unique(images))}
    checked(images, values, lower_is_better=lower_is_better)
    reason = why_no_law(images, values)
    if reason is not None:
        nothing = {"form": NO_LAW, "chosen": False, "theta": "{}", "flags": _said(reason, left_out)}
        return [{**shape, **nothing}]
    anchor = float(_array(anchors, y).mean()) if len(anchors) else None
    forms = ALL_FORMS if shape["scales"] >= SCALES_FOR_ALL else FORMS
    chosen = best(images, values, anchor=anchor, forms=forms, lower_is_better=lower_is_better)
    rows: Rows = []
    for form in forms:
        if form.fitted > shape["scales"] or (form.is_anchored and anchor is None):
            continue
        one = fit(form, images, values, anchor=anchor, lower_is_better=lower_is_better)
        rows.append(
            {
                **shape,
                "form": form.name,
                "chosen": form is chosen.form and GETS_WORSE not in one.flags,
                "theta": json.dumps(one.theta),
                "r2": one.r2,
                "rmse": one.rmse,
                "aicc": one.aicc,
                "leave_largest_out": one.leave_largest_out,
                "flags": _said(*one.flags, left_out),
            }
        )
    return rows


def _joint_group(
    frame: pl.DataFrame, x: Sequence[str], y: str, *, lower_is_better: bool, bootstraps: int
) -> Rows:
    whole, left_out = _whole(frame, (*x, y))
    sizes, data, values = _array(whole, x[0]), _array(whole, x[1]), _array(whole, y)
    if len(values) and (min(sizes.min(), data.min()) <= 0 or values.min() < 0):
        raise SpecError(f"the joint law needs '{x[0]}', '{x[1]}' above 0 and '{y}' of at least 0")
    is_loss = lower_is_better or bool(len(values) and values.max() > 1)
    losses = values if is_loss else 1.0 - values
    shape: dict[str, Any] = {
        **{"points": len(values), "scales": len(np.unique(data))},
        "reads": f"{y} as a loss" if is_loss else f"1 - {y} as a loss",
    }
    reason = why_no_joint_law(sizes, data, losses, x)
    if reason is None and not losses.min() > 0:
        reason = "a loss of 0 has no logarithm"
    if reason is not None:
        nothing = {"form": NO_LAW, "chosen": False, "theta": "{}", "flags": _said(reason, left_out)}
        return [{**shape, **nothing}]
    one = fit_joint(sizes, data, losses, bootstraps=bootstraps)
    row = {**shape, "form": "joint", "chosen": True, "theta": json.dumps(one.theta), **one.theta}
    for name, span in one.intervals.items():
        row |= {f"{name}_low": span.low, f"{name}_high": span.high}
    judged = {"r2": one.r2, "rmse": one.rmse, "leave_largest_out": one.leave_largest_out}
    return [{**row, **judged, "flags": _said(*one.flags, left_out)}]


def _grouped(
    frame: pl.DataFrame,
    needed: Sequence[str],
    by: Sequence[str],
    schema: dict[str, Any],
    rows_of: Callable[[pl.DataFrame], Rows],
) -> pl.DataFrame:
    """The rows of every group under the group's own columns; errors name their group."""
    for column in (*needed, *by):
        if column not in frame.columns:
            near = get_close_matches(column, frame.columns, n=1)
            meant = f" (did you mean '{near[0]}'?)" if near else ""
            raise SpecError(
                f"no column '{column}'{meant}; the table has {', '.join(frame.columns)}"
            )
    if len(set(needed)) < len(needed):
        raise SpecError(f"sizes and scores need a column each, got {', '.join(needed)}")
    for column in by:
        if column in schema:
            raise SpecError(f"rename the column '{column}': the table of fits has one of that name")
    if not len(frame):
        raise SpecError("the table is empty, there is nothing to fit")
    if not by:
        return pl.DataFrame(rows_of(frame), schema=schema)
    rows: Rows = []
    for values, part in frame.group_by(by, maintain_order=True):
        name = dict(zip(by, values, strict=True))
        try:
            rows += [{**name, **row} for row in rows_of(part)]
        except SpecError as error:
            where = ", ".join(f"{column} {value}" for column, value in name.items())
            raise SpecError(f"{where}: {error}") from error
    return pl.DataFrame(rows, schema={**{column: frame.schema[column] for column in by}, **schema})


def fit_table(
    frame: pl.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = (),
    *,
    lower_is_better: bool = False,
    seen: str | None = None,
    repeats_worth: float = REPEATS_WORTH,
) -> pl.DataFrame:
    """Every form that the points allow, fitted to each group; ``chosen`` marks the best predictor.

    Args:
        frame: any table; several rows per size are replicates, a row of size 0 anchors the law.
        x: column of sizes (images, samples, FLOPs).
        y: column of scores in [0, 1], or of losses with ``lower_is_better``.
        by: columns whose values make a curve each, none for one curve.
        lower_is_better: y is a loss.
        seen: column of images seen in training; sizes then become effective unique images
            (``radsweep.laws.repetition``).
        repeats_worth: how many fresh passes repetition is worth at most, where ``seen`` is given.

    Returns:
        One row per group and form: the group's columns, form, chosen, points, scales, theta (JSON),
        r2, rmse, aicc, leave_largest_out, flags. A group that supports no law (one or two sizes,
        values all equal, no usable number) is one row of form "no law", not chosen, whose flags
        say why; of a group that gets worse with size no form is chosen.

    Raises:
        SpecError: an unknown or non-numeric column, values out of range, or a group column named
            like a column of the result.
    """
    needed = (x, y) if seen is None else (x, y, seen)

    def rows_of(part: pl.DataFrame) -> Rows:
        return _group(
            part, x, y, lower_is_better=lower_is_better, seen=seen, repeats_worth=repeats_worth
        )

    return _grouped(frame, needed, by, COLUMNS, rows_of)


def fit_joint_table(
    frame: pl.DataFrame,
    x: Sequence[str],
    y: str,
    by: Sequence[str] = (),
    *,
    lower_is_better: bool = False,
    bootstraps: int = 400,
) -> pl.DataFrame:
    """The joint law E + A / x1^alpha + B / x2^beta (``radsweep.laws.joint``), fitted to each group.

    Args:
        frame: any table, one row per trained model.
        x: two columns: first the size (parameters, FLOPs per image), then the data.
        y: column of losses; scores in [0, 1] are read as losses 1 - y unless ``lower_is_better``
            or a value above 1 says that they are losses. The column ``reads`` says which it was.
        by: columns whose values make a table each.
        lower_is_better: y is a loss.
        bootstraps: resamples of the rows for the intervals; 0 leaves them null.

    Returns:
        One row per group: the group's columns, form ("joint" or "no law"), chosen, reads, points,
        scales, theta (JSON), E, A, B, alpha, beta, each with _low and _high, r2, rmse,
        leave_largest_out, flags.

    Raises:
        SpecError: as ``fit_table``, or not two columns of sizes.
    """
    if len(x) != 2 or x[0] == x[1]:
        raise SpecError(f"the joint law takes two different columns of sizes, got {', '.join(x)}")

    def rows_of(part: pl.DataFrame) -> Rows:
        return _joint_group(part, x, y, lower_is_better=lower_is_better, bootstraps=bootstraps)

    return _grouped(frame, (*x, y), by, JOINT_COLUMNS, rows_of)
