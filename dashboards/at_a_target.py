"""At a number of images that you choose, what would each paradigm score, and how sure is that?"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.slider import Step, add_slider
from radsweep.dashboards.style import NEUTRAL, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.forecasts import cell_device_hours, forecast_at
from radsweep.laws.words import images_in_words, images_short, metric_title, task_title

TITLE = "At a scale of your choice"
PAGE = "forecast"
STEPS = 31
# How far beyond the largest scale the slider goes: past the decade that a law may be carried.
REACH = 30
SCHEMA = {
    **dict.fromkeys(("task", "metric", "arm"), pl.String),
    **dict.fromkeys(("images", "value", "low", "high", "device_hours"), pl.Float64),
    **{"warning": pl.String, "why_not": pl.String},
}


def points(tables: Tables) -> pl.DataFrame:
    """One row per task, paradigm and step of the slider, from the smallest scale on.

    Columns task, metric, arm, images, value, low, high (95 %; null where ``why_not`` says why),
    device_hours (median of a finished cell, whatever its scale; null before one has finished),
    warning beyond the data.
    """
    analyses = [one for one in tables.analyses if one.curve.scales]
    if not any(one.law is not None for one in analyses):
        return pl.DataFrame(schema=SCHEMA)
    scales = [scale.images for one in analyses for scale in one.curve.scales]
    grid = np.geomspace(min(scales), REACH * max(scales), STEPS)
    hours = cell_device_hours(tables.cells)
    several = {one.curve.task for one in analyses if one.curve.probe}
    found = [forecast_at(analyses, float(images), device_hours=hours) for images in grid]
    rows = [
        {
            "task": task_title(row["task"])
            + (f" ({row['probe']})" if row["task"] in several else ""),
            **{"metric": metric_title(row["metric"]), "arm": row["paradigm"]},
            **{name: row[name] for name in SCHEMA if name not in ("task", "metric", "arm")},
        }
        for table in found
        for row in table.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _shown(part: pl.DataFrame, arms: list[str]) -> dict[str, Any]:
    """The data of one panel at one step, an entry per arm."""
    by_arm = {row["arm"]: row for row in part.iter_rows(named=True)}
    rows = [by_arm[arm] for arm in arms]
    known = [row for row in rows if row["value"] is not None]
    return {
        "x": [row["value"] for row in rows],
        "error_x.array": [r["high"] - r["value"] if r in known else None for r in rows],
        "error_x.arrayminus": [r["value"] - r["low"] if r in known else None for r in rows],
        "text": [
            f" {r['value']:.3f} ({r['low']:.3f} to {r['high']:.3f})" if r in known else ""
            for r in rows
        ],
    }


def _heading(images: float, rows: pl.DataFrame) -> str:
    warnings = rows["warning"].drop_nulls().unique().to_list()
    hours = rows["device_hours"].drop_nulls()
    cost = f"; a cell takes about {float(np.median(hours)):,.3g} device-hours" if len(hours) else ""
    warning = f"<br>Warning: {max(warnings, key=len)}" if warnings else "<br>inside the data"
    return f"<b>{images_in_words(images, digits=2)} images</b>{cost}{warning}"


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task with a marker per paradigm; the slider moves the number of images."""
    tasks = points.partition_by("task", "metric", maintain_order=True)
    columns = 2
    titles = [part["task"][0] for part in tasks]
    arms = sorted(points["arm"].unique(), reverse=True)
    drawn = panels(titles, columns=columns, height=max(90, 34 * len(arms) + 30))
    look_of = looks(arms)
    grid = sorted(points["images"].unique())
    first = _first_step(points, grid)
    states: list[list[dict[str, Any]]] = [[] for _ in grid]
    for i, part in enumerate(tasks):
        where = place(i)
        mine = [arm for arm in arms if arm in set(part["arm"])]
        shown = [_shown(part.filter(pl.col("images") == images), mine) for images in grid]
        for step, state in enumerate(shown):
            states[step].append(state)
        drawn.scatter(
            **{"y": [look_of[arm].name for arm in mine], "x": shown[first]["x"]},
            **{"mode": "markers+text", "textposition": "top center", "showlegend": False},
            text=shown[first]["text"],
            marker={
                "color": [look_of[arm].colour for arm in mine],
                "symbol": [look_of[arm].symbol for arm in mine],
                "size": 9,
            },
            error_x={
                **{"type": "data", "thickness": 1.4, "width": 3, "color": NEUTRAL},
                "array": shown[first]["error_x.array"],
                "arrayminus": shown[first]["error_x.arrayminus"],
            },
            **{"hoverinfo": "text", "cliponaxis": False, **where.axes},
        )
        low, high = part["low"].min(), part["high"].max()
        axis: dict[str, Any] = {"title": {"text": part["metric"][0]}}
        if isinstance(low, float) and isinstance(high, float):
            room = 0.12 * (high - low) + 0.005
            axis["range"] = [max(low - room, -0.02), min(high + room, 1.02)]
        drawn.axes(where, x=axis, y={"range": [-0.6, len(mine) - 0.2]})
    steps = [
        Step(
            images_short(float(f"{images:.2g}")),
            _heading(images, points.filter(pl.col("images") == images)),
            tuple(state),
        )
        for images, state in zip(grid, states, strict=True)
    ]
    add_slider(drawn, steps, first)
    return drawn.figure()


def _first_step(points: pl.DataFrame, grid: list[float]) -> int:
    """The last step at which no law is past its decade, or the first one."""
    past = points.filter(pl.col("warning").str.contains("ten times"))["images"].min()
    reached = [i for i, images in enumerate(grid) if past is None or images < float(str(past))]
    return reached[-1] if reached else 0
