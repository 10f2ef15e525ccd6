"""What would ten times the data buy, if the fitted law held beyond what was measured?"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, band, image_axis, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.analysis import Analysis
from radsweep.laws.sentences import AHEAD, why_no_forecast

TITLE = "The laws, carried one decade beyond the data"
PAGE = "forecast"
LAW_POINTS = 25
SCHEMA = {
    **{"task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String},
    **{"images": pl.Float64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64},
}


def _rows(one: Analysis) -> list[dict[str, Any]]:
    curve, law = one.curve, one.law
    named = {"task": curve.title, "metric": curve.metric_title, "arm": curve.arm}
    rows: list[dict[str, Any]] = [
        {**named, "kind": "score", "images": float(s.images), "value": s.value}
        for s in curve.scales
    ]
    if law is None:
        return rows
    smallest, largest = float(curve.images.min()), float(curve.images.max())
    reaches = [("law", smallest, largest)]
    if why_no_forecast(one) is None:
        reaches.append(("forecast", largest, AHEAD * largest))
    for kind, first, last in reaches:
        grid = np.geomspace(first, last, LAW_POINTS)
        for n, value, low, high in zip(grid, *law.band(grid), strict=True):
            numbers = {"images": n, "value": value, "low": low, "high": high}
            rows.append({**named, "kind": kind, **{k: float(v) for k, v in numbers.items()}})
    return rows


def points(tables: Tables) -> pl.DataFrame:
    """One row per score and per point of a law, inside the data ("law") and beyond ("forecast").

    Columns task, metric, arm, kind, images, value, low, high (95 %; null for scores). A paradigm
    has no forecast where its curve does not support one.
    """
    rows = [row for one in tables.analyses for row in _rows(one)]
    return pl.DataFrame(rows, schema=SCHEMA)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task; solid inside the data, dashed beyond it."""
    groups = points.partition_by("task", "metric", maintain_order=True)
    drawn = panels([part["task"][0] for part in groups], columns=2, height=240)
    look_of = looks(points["arm"])
    scales = sorted(points.filter(pl.col("kind") == "score")["images"].unique())
    axis = image_axis([*scales, max(points["images"])], room=0.1)
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        for part in group.partition_by("arm", maintain_order=True):
            look = look_of[part["arm"][0]]
            shared = {"legendgroup": look.name, **where.axes}
            for kind, dash in (("law", "solid"), ("forecast", "dash")):
                law = part.filter(pl.col("kind") == kind)
                if not len(law):
                    continue
                x = law["images"].to_list()
                filled = band(x, law["low"].to_list(), law["high"].to_list(), look.colour)
                drawn.scatter(**filled, **shared)
                drawn.scatter(
                    **{"x": x, "y": law["value"].to_list(), "mode": "lines", "showlegend": False},
                    line={"color": look.colour, "width": 2, "dash": dash},
                    customdata=law.select("low", "high").rows(),
                    hovertemplate=(
                        f"{look.name} {kind}, %{{x:,.3s}} images: %{{y:.3f}} "
                        "(%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>"
                    ),
                    **shared,
                )
            score = part.filter(pl.col("kind") == "score")
            drawn.scatter(
                **{"x": score["images"].to_list(), "y": score["value"].to_list()},
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 7},
                hovertemplate=f"{look.name}, %{{x:,}} images: %{{y:.3f}}<extra></extra>",
                **{"name": look.name, "showlegend": look.name not in named, **shared},
            )
            named.add(look.name)
        drawn.axes(where, x=axis, y={"title": {"text": group["metric"][0]}})
        drawn.layout.setdefault("shapes", []).append(
            {
                **{"type": "line", "x0": scales[-1], "x1": scales[-1], "y0": 0, "y1": 1},
                **{"xref": where.x, "yref": f"{where.y} domain"},
                "line": {"color": NEUTRAL, "width": 1, "dash": "dot"},
            }
        )
    return drawn.figure()
