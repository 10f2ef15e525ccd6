"""How does each task's score grow with in-domain images, and does it pass the open weights?"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, band, image_axis, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.analysis import Analysis, spread

TITLE = "Score against in-domain images"
PAGE = "overview"
LAW_POINTS = 30
SCHEMA = {
    **{"task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String},
    **{"images": pl.Float64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64},
    "seeds": pl.Int64,
}


def _rows(one: Analysis) -> list[dict[str, Any]]:
    curve = one.curve
    rows = []
    known = [("score", scale) for scale in curve.scales]
    if curve.open_weights is not None:
        known.append(("open weights", curve.open_weights))
    for kind, scale in known:
        span = spread(curve, scale)
        rows.append(
            {
                **{"kind": kind, "images": float(scale.images), "value": scale.value},
                **{"low": span.low if span else None, "high": span.high if span else None},
                "seeds": len(scale.values),
            }
        )
    if one.law is not None:
        grid = np.geomspace(curve.images.min(), curve.images.max(), LAW_POINTS)
        for n, value, low, high in zip(grid, *one.law.band(grid), strict=True):
            law = {"images": n, "value": value, "low": low, "high": high}
            rows.append({"kind": "law", **{name: float(number) for name, number in law.items()}})
    named = {"task": curve.title, "metric": curve.metric_title, "arm": curve.arm}
    return [{**named, **row} for row in rows]


def points(tables: Tables) -> pl.DataFrame:
    """One row per score, per open-weights score and per point of a fitted law with its band.

    Columns task, metric, arm, kind ("score", "open weights", "law"), images, value, low, high
    (95 %, null without draws), seeds (null for a law).
    """
    rows = [row for one in tables.analyses for row in _rows(one)]
    return pl.DataFrame(rows, schema=SCHEMA)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task; markers with bars are scores, lines with bands laws, dots open weights."""
    groups = points.partition_by("task", "metric", maintain_order=True)
    drawn = panels([part["task"][0] for part in groups], columns=2, height=250)
    look_of = looks(points["arm"])
    axis = image_axis(points.filter(pl.col("kind") == "score")["images"])
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        for part in group.partition_by("arm", maintain_order=True):
            look = look_of[part["arm"][0]]
            law = part.filter(pl.col("kind") == "law")
            score = part.filter(pl.col("kind") == "score")
            base = part.filter(pl.col("kind") == "open weights")
            shared = {"legendgroup": look.name, **where.axes}
            if len(law):
                x = law["images"].to_list()
                filled = band(x, law["low"].to_list(), law["high"].to_list(), look.colour)
                line = {"color": look.colour, "width": 2}
                drawn.add_trace(filled.update(shared))
                drawn.add_scatter(
                    **{"x": x, "y": law["value"].to_list(), "mode": "lines", "line": line},
                    **{"hoverinfo": "skip", "showlegend": False, **shared},
                )
            if len(base):
                drawn.add_scatter(
                    x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
                    y=base["value"].to_list() * 2,
                    mode="lines",
                    line={"color": look.colour, "width": 1.3, "dash": "dot"},
                    hovertemplate=f"{look.name} open weights %{{y:.3f}}<extra></extra>",
                    showlegend=False,
                    **shared,
                )
            drawn.add_scatter(
                x=score["images"].to_list(),
                y=score["value"].to_list(),
                error_y=_bars(score, look.colour),
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 8},
                name=look.name,
                hovertemplate=f"{look.name}, %{{x:,}} images: %{{y:.3f}}<extra></extra>",
                showlegend=look.name not in named,
                **shared,
            )
            named.add(look.name)
        drawn.update_layout({f"xaxis{where.x[1:]}": axis})
        drawn.update_layout({f"yaxis{where.y[1:]}": {"title": {"text": group["metric"][0]}}})
    drawn.add_scatter(
        **{"x": [None], "y": [None], "mode": "lines", "name": "open weights"},
        line={"color": NEUTRAL, "width": 1.3, "dash": "dot"},
    )
    return drawn


def _bars(score: pl.DataFrame, colour: str) -> dict[str, Any]:
    if score["low"].null_count() == len(score):
        return {"visible": False}
    return {
        "type": "data",
        "array": (score["high"] - score["value"]).fill_null(0.0).to_list(),
        "arrayminus": (score["value"] - score["low"]).fill_null(0.0).to_list(),
        **{"thickness": 1.2, "width": 3, "color": colour},
    }
