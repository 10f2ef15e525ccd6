"""Was the budget really the same for every cell, and how often was each image repeated?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import image_axis, looks, panels, place
from radsweep.dashboards.tables import Tables

TITLE = "What each finished cell spent"
PAGE = "provenance"
QUANTITIES = {
    "images seen": "images seen in training",
    "flops": "training FLOPs (2 per multiply-add)",
    "epochs": "epochs (images seen / images)",
}


def points(tables: Tables) -> pl.DataFrame:
    """One row per finished cell and quantity; the open weights spend nothing and are left out.

    Columns quantity, cell, paradigm, images, seed, value, deviation (from the paradigm's median, as
    a share; null for epochs, which differ by design).
    """
    found: pl.DataFrame = (
        tables.cells.filter((pl.col("state") == "done") & (pl.col("images") > 0))
        .select(
            *("cell", "paradigm", "images", "seed"),
            pl.col("images_seen").cast(pl.Float64).alias("images seen"),
            pl.col("flops").cast(pl.Float64),
            epochs=pl.col("images_seen") / pl.col("images"),
        )
        .unpivot(
            list(QUANTITIES),
            index=["cell", "paradigm", "images", "seed"],
            variable_name="quantity",
        )
        .with_columns(
            deviation=pl.when(pl.col("quantity") != "epochs").then(
                pl.col("value") / pl.col("value").median().over("quantity", "paradigm") - 1
            )
        )
        .sort("quantity", "paradigm", "images", "seed", descending=[True, False, False, False])
        .select("quantity", "cell", "paradigm", "images", "seed", "value", "deviation")
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per quantity against the scale; a flat row of markers is an equal budget."""
    groups = points.partition_by("quantity", maintain_order=True)
    titles = [QUANTITIES[part["quantity"][0]] for part in groups]
    drawn = panels([title[0].upper() + title[1:] for title in titles], columns=3, height=200)
    look_of = looks(points["paradigm"])
    axis = image_axis(points["images"], room=0.12)
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        for part in group.partition_by("paradigm", maintain_order=True):
            look = look_of[part["paradigm"][0]]
            drawn.scatter(
                **{"x": part["images"].to_list(), "y": part["value"].to_list(), "mode": "markers"},
                marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.8},
                **{"name": look.name, "legendgroup": look.name},
                hovertemplate=f"{look.name}, %{{x:,}} images: %{{y:,.4s}}<extra></extra>",
                showlegend=look.name not in named,
                **where.axes,
            )
            named.add(look.name)
        drawn.axes(where, x=axis)
        free = (
            {"type": "log", "dtick": 1}
            if group["quantity"][0] == "epochs"
            else {"rangemode": "tozero"}
        )
        drawn.axes(where, y=free)
    return drawn.figure()
