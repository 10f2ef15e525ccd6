"""What has pretraining taken so far, and what was it planned to take?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import BOTTOM, NEUTRAL, TOP, faded, looks
from radsweep.dashboards.tables import Tables

TITLE = "Device-hours spent and planned"
PAGE = "runs"
ROW_HEIGHT = 46
SCHEMA = {
    **{"paradigm": pl.String, "done": pl.Float64, "running": pl.Float64, "lost": pl.Float64},
    **{"planned": pl.Float64, "usd": pl.Float64, "usd_planned": pl.Float64},
}
KINDS = {
    "done": ("finished cells", 0.85),
    "running": ("cells under way or paused", 0.5),
    "lost": ("cells that failed", 0.25),
}
LOST = ("failed", "collapsed", "diverged")


def on_cpu(tables: Tables) -> bool:
    """Whether any cell was trained without a GPU."""
    trained = tables.cells.filter(pl.col("images") > 0)
    return bool((trained["device"].drop_nulls() == "cpu").any())


def points(tables: Tables) -> pl.DataFrame:
    """Device-hours by paradigm, measured; planned ones and money where a plan was kept.

    Columns paradigm, done, running, lost (measured device-hours by how the cell stands), planned
    (device-hours of all its cells on the plan's machine), usd (spent, at the plan's price),
    usd_planned. ``radsweep plan`` keeps the plan; without one the last three are null, and where
    cells ran on CPUs: hours of those cannot be held against hours of the plan's devices.
    """
    plan: dict[str, Any] | None = None if on_cpu(tables) else tables.sweep.get("plan")
    cells = tables.cells.filter(pl.col("images") > 0)
    if not len(cells):
        return pl.DataFrame(schema=SCHEMA)
    hours = pl.col("seconds") * pl.col("workers").fill_null(1) / 3600
    kind = (
        pl.when(pl.col("state") == "done")
        .then(pl.lit("done"))
        .when(pl.col("state").is_in(LOST))
        .then(pl.lit("lost"))
        .otherwise(pl.lit("running"))
    )
    planned = {} if plan is None else plan["cells"]
    price = None if plan is None else plan["usd_per_device_hour"]
    held = cells.with_columns(
        kind=kind,
        hours=hours.fill_null(0.0),
        planned=pl.col("cell").replace_strict(planned, default=None, return_dtype=pl.Float64),
    )
    per_kind = [
        pl.col("hours").filter(pl.col("kind") == name).sum().cast(pl.Float64).alias(name)
        for name in KINDS
    ]
    complete = pl.col("planned").null_count() == 0
    found: pl.DataFrame = (
        held.group_by("paradigm")
        .agg(*per_kind, planned=pl.when(complete).then(pl.col("planned").sum()))
        .with_columns(
            usd=pl.sum_horizontal(list(KINDS)) * pl.lit(price, dtype=pl.Float64),
            usd_planned=pl.col("planned") * pl.lit(price, dtype=pl.Float64),
        )
        .sort("paradigm")
        .select(*SCHEMA)
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A bar per paradigm of what was spent, stacked by how the cells stand; a line for the plan."""
    look_of = looks(points["paradigm"])
    names = [look_of[one].name for one in points["paradigm"]]
    colours = [look_of[one].colour for one in points["paradigm"]]
    traces: list[dict[str, Any]] = []
    for kind, (words, opacity) in KINDS.items():
        traces.append(
            dict(
                **{"type": "bar", "orientation": "h", "x": points[kind].to_list(), "y": names},
                **{"name": words, "marker": {"color": [faded(c, opacity) for c in colours]}},
                hovertemplate=f"%{{y}}, {words}: %{{x:,.3g}} device-hours<extra></extra>",
            )
        )
    plan = points.drop_nulls("planned")
    if len(plan):
        said = [
            f"{hours:,.3g} device-hours, {usd:,.2f} USD"
            for hours, usd in plan.select("planned", "usd_planned").rows()
        ]
        marker = {"symbol": "line-ns-open", "size": 24, "color": NEUTRAL, "line": {"width": 2.5}}
        traces.append(
            dict(
                **{"type": "scatter", "mode": "markers", "name": "planned", "marker": marker},
                **{"x": plan["planned"].to_list(), "customdata": said},
                y=[look_of[one].name for one in plan["paradigm"]],
                hovertemplate="%{y}, planned: %{customdata}<extra></extra>",
            )
        )
    layout = {
        "height": len(names) * ROW_HEIGHT + TOP + BOTTOM,
        **{"barmode": "stack", "bargap": 0.45},
        "xaxis": {"rangemode": "tozero", "title": {"text": "device-hours"}},
        "yaxis": {"categoryarray": names[::-1], "categoryorder": "array"},
    }
    return go.Figure(data=traces, layout=layout)
