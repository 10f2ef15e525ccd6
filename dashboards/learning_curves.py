"""Did every cell train to the end of its budget, and did its loss come down?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import faded, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short

TITLE = "Loss against the share of the budget spent"
PAGE = "runs"
# Enough to see a spike, few enough for a hundred cells in one file.
BINS = 150
SCHEMA = {
    **{"cell": pl.String, "paradigm": pl.String, "images": pl.Int64, "seed": pl.Int64},
    **{"spent": pl.Float64, "loss": pl.Float64, "highest": pl.Float64},
}


def points(tables: Tables) -> pl.DataFrame:
    """The mean and largest loss in up to 150 equal parts of the budget, per cell.

    Columns cell, paradigm, images, seed, spent (end of the part, in [0, 1]), loss, highest.
    """
    if not len(tables.steps):
        return pl.DataFrame(schema=SCHEMA)
    cells = tables.cells.select("cell", "paradigm", "images", "seed")
    found: pl.DataFrame = (
        tables.steps.filter(pl.col("loss").is_not_null() & pl.col("loss").is_finite())
        .with_columns(part=(pl.col("spent") * BINS).ceil())
        .group_by("cell", "part")
        .agg(pl.col("spent").max(), pl.col("loss").mean(), highest=pl.col("loss").max())
        .join(cells, on="cell")
        .sort("paradigm", "images", "seed", "spent")
        .select("cell", "paradigm", "images", "seed", "spent", "loss", "highest")
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per paradigm; the more images, the stronger the line."""
    look_of = looks(points["paradigm"])
    groups = points.partition_by("paradigm", maintain_order=True)
    titles = [look_of[part["paradigm"][0]].name for part in groups]
    drawn = panels(titles, columns=3, height=260)
    scales = sorted(points["images"].unique())
    strength = {n: 0.3 + 0.7 * (i + 1) / len(scales) for i, n in enumerate(scales)}
    for i, group in enumerate(groups):
        where = place(i)
        colour = look_of[group["paradigm"][0]].colour
        for part in group.partition_by("cell", maintain_order=True):
            images = part["images"][0]
            drawn.add_scatter(
                **{"x": part["spent"].to_list(), "y": part["loss"].to_list(), "mode": "lines"},
                line={"color": faded(colour, strength[images]), "width": 1.5},
                hovertemplate=(
                    f"{images_short(images)} images, seed {part['seed'][0]}, %{{x:.0%}} spent: "
                    "loss %{y:.3f}<extra></extra>"
                ),
                **{"showlegend": False, **where.axes},
            )
        share = {"range": [0, 1.02], "tickformat": ".0%", "title": {"text": "budget spent"}}
        drawn.update_layout({f"xaxis{where.x[1:]}": share})
        drawn.update_layout({f"yaxis{where.y[1:]}": {"title": {"text": "loss"}}})
    for images in scales:
        drawn.add_scatter(
            **{"x": [None], "y": [None], "mode": "lines", "name": f"{images_short(images)} images"},
            line={"color": faded("#7A7F87", strength[images]), "width": 2.5},
        )
    return drawn
