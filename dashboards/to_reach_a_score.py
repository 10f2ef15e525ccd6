"""For the score that you want, how many images would each paradigm need, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.slider import Step, add_slider
from radsweep.dashboards.style import NEUTRAL, image_axis, looks, panels, place, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.analysis import Analysis, by_task
from radsweep.laws.bootstrap import DECADE
from radsweep.laws.forecasts import images_needed
from radsweep.laws.words import images_in_words

TITLE = "For a gain of your choice"
PAGE = "forecast"
STEPS = 26
LEAST_REACH = 0.02
SCHEMA = {
    **dict.fromkeys(("task", "metric", "arm"), pl.String),
    **dict.fromkeys(("gain", "score", "images", "low", "high", "share"), pl.Float64),
    **dict.fromkeys(("smallest", "largest"), pl.Float64),
    **{"words": pl.String, "why_not": pl.String},
}


def _start(group: Sequence[Analysis]) -> float | None:
    """The best open weights' score of a task."""
    known = [one.curve.open_weights.value for one in group if one.curve.open_weights is not None]
    return max(known) if known else None


def _reach(groups: Sequence[tuple[float, Sequence[Analysis]]]) -> float:
    """The largest gain on the slider: what any law expects at the end of its decade."""
    ends = [
        one.law.forecast(DECADE * float(one.law.images.max())).value.value - start
        for start, group in groups
        for one in group
        if one.law is not None
    ]
    return max(LEAST_REACH, math.ceil(100 * max(ends, default=0.0)) / 100)


def points(tables: Tables) -> pl.DataFrame:
    """One row per task, paradigm and step of the slider; tasks without open weights are left out.

    Columns task, metric, arm, gain (over the task's best open weights, 0 and more), score (what
    that makes), images, low, high (95 %; null where an end is open), share (of the resamples that
    get there within ten times the largest scale), smallest, largest (scales that were measured),
    words (where there is no number, or the number is beyond the data), why_not (where nothing can
    be said at all).
    """
    found = [(_start(group), group) for group in by_task(tables.analyses).values()]
    groups = [(start, group) for start, group in found if start is not None]
    if not any(one.law is not None for _, group in groups for one in group):
        return pl.DataFrame(schema=SCHEMA)
    rows = []
    for gain in np.linspace(0, _reach(groups), STEPS):
        for start, group in groups:
            score = start + float(gain)
            needed = images_needed(group, score)
            for one, row in zip(group, needed.iter_rows(named=True), strict=True):
                curve = one.curve
                if not curve.scales:
                    continue
                rows.append(
                    {
                        **{"task": curve.title, "metric": curve.metric_title, "arm": curve.arm},
                        **{"gain": float(gain), "score": score, "images": row["images"]},
                        **{"low": row["images_low"], "high": row["images_high"]},
                        **{"share": row["share"], "words": row["warning"]},
                        **{"smallest": curve.images.min(), "largest": curve.images.max()},
                        "why_not": row["why_not"],
                    }
                )
    return pl.DataFrame(rows, schema=SCHEMA)


def _said(row: dict[str, Any]) -> str:
    if row["why_not"] is not None:
        return "cannot be said"
    if row["images"] is None:
        return f"{row['words']} ({row['share']:.0%} of resamples)"
    low = "fewer" if row["low"] is None else images_in_words(row["low"], digits=2)
    high = "beyond" if row["high"] is None else images_in_words(row["high"], digits=2)
    return f"{images_in_words(row['images'], digits=2)} ({low} to {high})"


def _shown(part: pl.DataFrame, arms: Sequence[str]) -> dict[str, Any]:
    """The data of one panel at one step, an entry per arm; an open end reaches the panel's edge."""
    by_arm = {row["arm"]: row for row in part.iter_rows(named=True)}
    rows = [by_arm[arm] for arm in arms]
    smallest, largest = min(part["smallest"]), DECADE * max(part["largest"])
    ends: dict[str, list[float | None]] = {"x": [], "high": [], "low": []}
    for row in rows:
        x = row["images"]
        ends["x"].append(x if x is not None else (smallest * largest) ** 0.5)
        known = x is not None
        ends["high"].append((row["high"] or largest) - x if known else None)
        ends["low"].append(x - (row["low"] or smallest) if known else None)
    return {
        **{"x": ends["x"], "error_x.array": ends["high"], "error_x.arrayminus": ends["low"]},
        "marker.opacity": [0.0 if row["images"] is None else 1.0 for row in rows],
        "text": [_said(row) for row in rows],
        # Words near an edge lean away from it.
        "textposition": [f"top {_lean(x, smallest, largest)}" for x in ends["x"]],
    }


def _lean(x: float | None, smallest: float, largest: float) -> str:
    share = 0.5 if x is None else math.log(x / smallest) / math.log(largest / smallest)
    return "right" if share < 0.2 else "left" if share > 0.8 else "center"


def _heading(gain: float, part: pl.DataFrame) -> str:
    tasks = part.unique("task", maintain_order=True).select("task", "metric", "score").rows()
    aims = "; ".join(f"{plain(task)} {score:.3f}" for task, _, score in tasks)
    aim = f"{gain:+.3f} over the best open weights" if gain else "As good as the best open weights"
    return f"<b>{aim}</b><br>{aims}"


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task with a marker per paradigm; the slider moves the gain."""
    tasks = points.partition_by("task", "metric", maintain_order=True)
    arms = sorted(points["arm"].unique(), reverse=True)
    titles = [part["task"][0] for part in tasks]
    drawn = panels(titles, columns=2, height=max(90, 34 * len(arms) + 30))
    look_of = looks(arms)
    gains = sorted(points["gain"].unique())
    first = len(gains) // 4
    states: list[list[dict[str, Any]]] = [[] for _ in gains]
    ends = [min(points["smallest"]), max(points["largest"]), DECADE * max(points["largest"])]
    for i, part in enumerate(tasks):
        where = place(i)
        mine = [arm for arm in arms if arm in set(part["arm"])]
        for step, gain in enumerate(gains):
            states[step].append(_shown(part.filter(pl.col("gain") == gain), mine))
        now = states[first][-1]
        drawn.scatter(
            **{"y": [look_of[arm].name for arm in mine], "x": now["x"], "text": now["text"]},
            **{"mode": "markers+text", "textposition": now["textposition"], "showlegend": False},
            marker={
                "color": [look_of[arm].colour for arm in mine],
                "symbol": [look_of[arm].symbol for arm in mine],
                **{"size": 9, "opacity": now["marker.opacity"]},
            },
            error_x={
                **{"type": "data", "thickness": 1.6, "width": 0, "color": NEUTRAL},
                "array": now["error_x.array"],
                "arrayminus": now["error_x.arrayminus"],
            },
            **{"hoverinfo": "text", "cliponaxis": False, **where.axes},
        )
        drawn.axes(where, x=image_axis(ends), y={"range": [-0.6, len(mine) - 0.2]})
    steps = [
        Step(f"{gain:+.3f}", _heading(gain, points.filter(pl.col("gain") == gain)), tuple(state))
        for gain, state in zip(gains, states, strict=True)
    ]
    add_slider(drawn, steps, first)
    return drawn.figure()
