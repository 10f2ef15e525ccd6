"""Training logs as curves over the budget: cut into equal parts, drawn as lines by scale."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import faded, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short

# Enough to see a spike, few enough for a hundred cells in one file.
BINS = 150
SCHEMA = {
    **{"cell": pl.String, "paradigm": pl.String, "images": pl.Int64, "seed": pl.Int64},
    **{"quantity": pl.String, "spent": pl.Float64, "value": pl.Float64, "highest": pl.Float64},
}


def binned(tables: Tables, quantities: Sequence[str]) -> pl.DataFrame:
    """Mean and largest value of logged figures in up to 150 equal parts of the budget, per cell.

    Columns cell, paradigm, images, seed, quantity, spent (end of the part, in [0, 1]), value,
    highest; sorted by quantity in the order given, paradigm, images, seed. What was not logged, or
    is not a finite number, is left out.
    """
    logged = [name for name in quantities if name in tables.steps.columns]
    if not len(tables.steps) or not logged:
        return pl.DataFrame(schema=SCHEMA)
    cells = tables.cells.select("cell", "paradigm", "images", "seed")
    found: pl.DataFrame = (
        tables.steps.select("cell", "spent", pl.col(logged).cast(pl.Float64))
        .unpivot(logged, index=["cell", "spent"], variable_name="quantity")
        .filter(pl.col("value").is_not_null() & pl.col("value").is_finite())
        .with_columns(part=(pl.col("spent") * BINS).ceil())
        .group_by("cell", "quantity", "part")
        .agg(pl.col("spent").max(), pl.col("value").mean(), highest=pl.col("value").max())
        .join(cells, on="cell")
        .sort(
            pl.col("quantity").replace_strict(logged, range(len(logged))),
            *("paradigm", "images", "seed", "spent"),
        )
        .select(*SCHEMA)
    )
    return found


FEW_POINTS = 10
"""Below which each is marked."""


def line_panels(
    points: pl.DataFrame,
    by: Sequence[str],
    titles: Sequence[str],
    formats: Sequence[str],
    *,
    height: int = 220,
    free_colour: bool = False,
) -> go.Figure:
    """A panel per group of ``binned`` rows, a line per cell; the more images, the stronger.

    Args:
        points: what to draw.
        by: the columns whose values make a panel each, in the rows' order.
        titles: of the panels.
        formats: of the panels' values (d3, as in ``.0%``).
        height: of a panel, in pixels.
        free_colour: a panel holds several paradigms, so that its title cannot say which.
    """
    look_of = looks(points["paradigm"])
    groups = points.partition_by(*by, maintain_order=True)
    drawn = panels(titles, columns=3, height=height)
    scales = sorted(points["images"].unique())
    strength = {n: 0.3 + 0.7 * (i + 1) / len(scales) for i, n in enumerate(scales)}
    for i, (group, shown) in enumerate(zip(groups, formats, strict=True)):
        where = place(i)
        for part in group.partition_by("cell", maintain_order=True):
            look, images = look_of[part["paradigm"][0]], part["images"][0]
            name = f"{look.name}, {images_short(images)} images, seed {part['seed'][0]}"
            # A line of one point is none, and one of a few hides that they are few.
            mode = "lines+markers" if part.height < FEW_POINTS else "lines"
            drawn.scatter(
                **{"mode": mode, "showlegend": False, **where.axes},
                **{"x": part["spent"].to_list(), "y": part["value"].to_list()},
                line={"color": faded(look.colour, strength[images]), "width": 1.5},
                marker={"size": 5},
                hovertemplate=f"{name}, %{{x:.0%}} spent: %{{y:{shown}}}<extra></extra>",
            )
        share = {"range": [0, 1.02], "tickformat": ".0%", "title": {"text": "budget spent"}}
        is_share = shown.endswith("%")
        drawn.axes(
            where, x=share, y={"tickformat": ".2~p", "rangemode": "tozero"} if is_share else None
        )
    for images in scales:
        drawn.scatter(
            **{"x": [None], "y": [None], "mode": "lines"},
            name=f"{images_short(images)} images",
            line={"color": faded("#7A7F87", strength[images]), "width": 2.5},
        )
    if free_colour:
        for look in look_of.values():
            drawn.scatter(
                **{"x": [None], "y": [None], "mode": "lines"},
                **{"name": look.name, "line": {"color": look.colour, "width": 2.5}},
            )
    return drawn.figure()
