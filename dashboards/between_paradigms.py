"""Which paradigm is ahead of which, at which scale, once all comparisons are held to account?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, OTHERS, image_axis, panels, place, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.compare import comparisons
from radsweep.laws.words import paradigm_title

TITLE = "Difference between paradigms"
PAGE = "compare"
SCHEMA = {
    **{"task": pl.String, "metric": pl.String, "arm": pl.String, "other": pl.String},
    **{"images": pl.Int64, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64},
    **{"p": pl.Float64, "p_holm": pl.Float64, "is_decided": pl.Boolean},
}
DODGE = 1.09


def points(tables: Tables) -> pl.DataFrame:
    """One row per task, pair of paradigms and scale that both have, paired by resample.

    Columns task, metric, arm, other, images, difference (arm minus other), low, high (95 %), p, and
    p_holm, corrected over all rows (Holm 1979); is_decided where that is at most 0.05. Null without
    draws.
    """
    rows = [
        {
            **{"task": one.curve.title, "metric": one.curve.metric_title},
            **{"arm": one.curve.arm, "other": one.other.arm, "images": one.images},
            "difference": one.value,
            **{"low": one.span.low if one.span else None},
            **{"high": one.span.high if one.span else None},
            **{"p": one.p, "p_holm": one.p_holm, "is_decided": one.is_decided},
        }
        for one in comparisons(tables.analyses)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task, a colour per pair; filled markers stand after the correction."""
    groups = points.partition_by("task", "metric", maintain_order=True)
    drawn = panels([part["task"][0] for part in groups], columns=2, height=230)
    pairs = points.select("arm", "other").unique(maintain_order=True).rows()
    axis = image_axis(points["images"])
    named: set[tuple[str, str]] = set()
    for i, group in enumerate(groups):
        where = place(i)
        drawn.scatter(
            x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
            **{"y": [0, 0], "mode": "lines", "line": {"color": NEUTRAL, "width": 1}},
            **{"hoverinfo": "skip", "showlegend": False, **where.axes},
        )
        for part in group.partition_by("arm", "other", maintain_order=True):
            pair = (part["arm"][0], part["other"][0])
            index = pairs.index(pair)
            colour, symbol = OTHERS[index % len(OTHERS)]
            title = f"{plain(paradigm_title(pair[0]))} minus {plain(paradigm_title(pair[1]))}"
            drawn.scatter(
                x=(part["images"] * DODGE ** (index - (len(pairs) - 1) / 2)).to_list(),
                y=part["difference"].to_list(),
                customdata=part.select("images", "low", "high", "p_holm").rows(),
                error_y={
                    "type": "data",
                    "array": (part["high"] - part["difference"]).fill_null(0.0).to_list(),
                    "arrayminus": (part["difference"] - part["low"]).fill_null(0.0).to_list(),
                    **{"thickness": 1.4, "width": 0, "color": colour},
                },
                mode="markers",
                marker={
                    "symbol": [symbol if sure else f"{symbol}-open" for sure in part["is_decided"]],
                    **{"color": colour, "size": 9, "line": {"width": 1.6, "color": colour}},
                },
                **{"name": title, "legendgroup": title},
                hovertemplate=(
                    f"{title}, %{{customdata[0]:,}} images: %{{y:+.3f}} "
                    "(%{customdata[1]:+.3f} to %{customdata[2]:+.3f}), "
                    "corrected p %{customdata[3]:.3f}<extra></extra>"
                ),
                showlegend=pair not in named,
                **where.axes,
            )
            named.add(pair)
        drawn.axes(where, x=axis)
        label = {"title": {"text": f"{group['metric'][0]} difference"}}
        drawn.axes(where, y=label)
    return drawn.figure()
