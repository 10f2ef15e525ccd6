"""Forecasts to decide by: the score at a scale, the images for a score, and what one cell costs.

All cells of a sweep get one budget, so a cell at ten times the images costs no more GPU time than
any other of its paradigm; what more images cost is collecting them, which no table here knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from radsweep.laws.analysis import Analysis
from radsweep.laws.sentences import Answer, why_no_forecast
from radsweep.laws.words import images_in_words

FORECAST_SCHEMA = {
    **dict.fromkeys(("sweep", "task", "probe", "paradigm", "metric", "form", "asked"), pl.String),
    **dict.fromkeys(("images", "images_low", "images_high"), pl.Float64),
    **dict.fromkeys(("value", "low", "high", "share"), pl.Float64),
    **dict.fromkeys(("device_hours", "usd"), pl.Float64),
    **{"warning": pl.String, "why_not": pl.String},
}


def cell_device_hours(cells: pl.DataFrame) -> dict[str, float]:
    """Median device-hours of a finished, trained cell by paradigm, as measured.

    Reads the columns paradigm, images, state, seconds and workers; one worker is one device, a GPU
    or a CPU process. A paradigm without a finished cell is absent.
    """
    done = cells.filter((pl.col("state") == "done") & (pl.col("images") > 0))
    done = done.drop_nulls(["seconds", "workers"])
    hours = pl.col("seconds") * pl.col("workers") / 3600
    return dict(done.group_by("paradigm").agg(hours.median()).rows())


def _row(
    one: Analysis, hours: Mapping[str, float], usd_per_device_hour: float | None
) -> dict[str, Any]:
    curve = one.curve
    spent = hours.get(curve.paradigm)
    row: dict[str, Any] = dict.fromkeys(FORECAST_SCHEMA)
    row.update(sweep=curve.sweep, task=curve.task, probe=curve.probe, paradigm=curve.arm)
    row.update(metric=curve.metric, form=None if one.fit is None else one.fit.form.name)
    row.update(device_hours=spent)
    if spent is not None and usd_per_device_hour is not None:
        row.update(usd=spent * usd_per_device_hour)
    return row


def _why_not(one: Analysis, *, is_inside: bool) -> str | None:
    if is_inside and one.law is not None:
        return None
    return why_no_forecast(one)


def forecast_at(
    analyses: Sequence[Analysis],
    images: float,
    *,
    device_hours: Mapping[str, float] | None = None,
    usd_per_device_hour: float | None = None,
) -> pl.DataFrame:
    """The score of every curve at ``images``, with its interval: one row per curve.

    Columns as ``FORECAST_SCHEMA``: value, low, high (95 %) at ``images``; ``warning`` beyond the
    data, a stronger one past ten times the largest scale; ``why_not`` where nothing can be said,
    and then no number. ``device_hours`` (of one cell by paradigm) and its price in USD come from
    the caller and stay null where unknown. ``images_low``, ``images_high`` and ``share`` are null.
    """
    rows = []
    for one in analyses:
        row = _row(one, device_hours or {}, usd_per_device_hour)
        row.update(asked=f"score at {images_in_words(images)} images", images=float(images))
        largest = max((scale.images for scale in one.curve.scales), default=0)
        smallest = min((scale.images for scale in one.curve.scales), default=0)
        row["why_not"] = _why_not(one, is_inside=smallest <= images <= largest)
        if row["why_not"] is None and one.law is not None:
            ahead = one.law.forecast(images)
            row.update(value=ahead.value.value, low=ahead.value.low, high=ahead.value.high)
            row.update(warning=ahead.warning)
        rows.append(row)
    return pl.DataFrame(rows, schema=FORECAST_SCHEMA)


def images_needed(
    analyses: Sequence[Analysis],
    score: float,
    *,
    device_hours: Mapping[str, float] | None = None,
    usd_per_device_hour: float | None = None,
) -> pl.DataFrame:
    """The images that every curve needs to reach ``score``, with their interval: one row per curve.

    Columns as ``FORECAST_SCHEMA``: images, images_low, images_high (an end is null where it lies at
    or below the smallest scale, or past ten times the largest); ``share`` of the resamples whose
    law gets there within ten times the largest scale; ``value`` is the score asked for.
    """
    rows = []
    for one in analyses:
        row = _row(one, device_hours or {}, usd_per_device_hour)
        row.update(asked=f"images for a score of {score:g}", value=score)
        best = max((scale.value for scale in one.curve.scales), default=-1.0)
        row["why_not"] = _why_not(one, is_inside=score <= best)
        if row["why_not"] is None and one.law is not None:
            needed = one.law.images_for(score)
            row.update(images=needed.images, images_low=needed.low, images_high=needed.high)
            row.update(share=needed.reached, warning=needed.words)
        rows.append(row)
    return pl.DataFrame(rows, schema=FORECAST_SCHEMA)


def forecast_sentences(table: pl.DataFrame, analyses: Sequence[Analysis]) -> list[Answer]:
    """A sentence per row of ``forecast_at`` or ``images_needed`` (made of the same analyses)."""
    found = []
    for row, one in zip(table.iter_rows(named=True), analyses, strict=True):
        curve = one.curve
        if row["why_not"] is not None:
            text = f"for {curve.arm_title} this cannot be said: {row['why_not']}"
        elif row["share"] is None:
            warning = f"; warning: {row['warning']}" if row["warning"] else ""
            text = (
                f"{curve.arm_title} is expected at {curve.metric_title} {row['value']:.3f} "
                f"({row['low']:.3f} to {row['high']:.3f}) with {images_in_words(row['images'])} "
                f"images{warning}"
            )
        else:
            text = _needed_words(curve.arm_title, row)
        numbers = {name: row[name] for name in ("images", "value", "low", "high", "share")}
        numbers["paradigm"] = curve.arm
        found.append(
            Answer(curve.task, curve.title, "forecast", f"{curve.title}: {text}.", numbers)
        )
    return found


def _needed_words(arm: str, row: Mapping[str, Any]) -> str:
    share = f"{row['share']:.0%} of resamples reach it within ten times the largest scale"
    if row["images"] is None:
        return f"{arm} and a score of {row['value']:g}: {row['warning']} ({share})"
    low, high = (row["images_low"], row["images_high"])
    first = "the smallest scale or fewer" if low is None else images_in_words(low, digits=2)
    last = "beyond ten times the data" if high is None else images_in_words(high, digits=2)
    warning = f"; warning: {row['warning']}" if row["warning"] else ""
    about = images_in_words(row["images"], digits=2)
    return (
        f"{arm} reaches {row['value']:g} at about {about} images ({first} to {last}; {share})"
        f"{warning}"
    )
