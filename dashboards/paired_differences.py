"""Does continued pretraining beat the open weights, at which scale, and by how much?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, image_axis, looks, panels, place
from radsweep.dashboards.tables import Tables

TITLE = "Difference to the open weights"
PAGE = "compare"
SCHEMA = {
    **{"task": pl.String, "metric": pl.String, "arm": pl.String, "images": pl.Int64},
    **{"difference": pl.Float64, "low": pl.Float64, "high": pl.Float64, "is_decided": pl.Boolean},
}
# Paradigms stand side by side: each is moved by this factor on the logarithmic axis.
DODGE = 1.09


def points(tables: Tables) -> pl.DataFrame:
    """One row per paradigm and scale: its score minus its open weights', paired by resample.

    Columns task, metric, arm, images, difference, low, high (95 %, null without draws), is_decided
    (the interval lies on one side of 0).
    """
    rows = []
    for one in tables.analyses:
        curve = one.curve
        for gap in one.differences:
            span = gap.interval
            rows.append(
                {
                    **{"task": curve.title, "metric": curve.metric_title, "arm": curve.arm},
                    **{"images": gap.images, "difference": gap.value},
                    **{"low": span.low if span else None, "high": span.high if span else None},
                    "is_decided": span is not None and not span.low <= 0 <= span.high,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task; filled markers are decided, open ones have an interval that holds 0."""
    groups = points.partition_by("task", "metric", maintain_order=True)
    drawn = panels([part["task"][0] for part in groups], columns=2, height=230)
    look_of = looks(points["arm"])
    axis = image_axis(points["images"])
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        drawn.scatter(
            x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
            **{"y": [0, 0], "mode": "lines", "line": {"color": NEUTRAL, "width": 1}},
            **{"hoverinfo": "skip", "showlegend": False, **where.axes},
        )
        for part in group.partition_by("arm", maintain_order=True):
            look = look_of[part["arm"][0]]
            factor = DODGE ** (list(look_of).index(part["arm"][0]) - (len(look_of) - 1) / 2)
            filled = part["is_decided"].to_list()
            drawn.scatter(
                x=(part["images"] * factor).to_list(),
                y=part["difference"].to_list(),
                customdata=part.select("images", "low", "high").rows(),
                error_y={
                    "type": "data",
                    "array": (part["high"] - part["difference"]).fill_null(0.0).to_list(),
                    "arrayminus": (part["difference"] - part["low"]).fill_null(0.0).to_list(),
                    **{"thickness": 1.4, "width": 0, "color": look.colour},
                },
                mode="markers",
                marker={
                    "symbol": [look.symbol if f else f"{look.symbol}-open" for f in filled],
                    **{
                        "color": look.colour,
                        "size": 9,
                        "line": {"width": 1.6, "color": look.colour},
                    },
                },
                name=look.name,
                legendgroup=look.name,
                hovertemplate=(
                    f"{look.name}, %{{customdata[0]:,}} images: %{{y:+.3f}} "
                    "(%{customdata[1]:+.3f} to %{customdata[2]:+.3f})<extra></extra>"
                ),
                showlegend=look.name not in named,
                **where.axes,
            )
            named.add(look.name)
        drawn.axes(where, x=axis)
        title = f"{group['metric'][0]} difference"
        drawn.axes(where, y={"title": {"text": title}})
    return drawn.figure()
