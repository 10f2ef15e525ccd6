"""Does a score hold for everybody: for each view, sex and age band alike?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import looks, panels, place, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short, metric_title, task_title

TITLE = "Slices of the test images, at the largest scale and with open weights"
PAGE = "compare"
SCHEMA = {
    **dict.fromkeys(("task", "metric", "by", "slice", "arm"), pl.String),
    **{"images": pl.Int64, "n_test": pl.Int64},
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    "reason": pl.String,
}


def points(tables: Tables) -> pl.DataFrame:
    """One row per task, kind of slice, slice, paradigm and scale (0 and the largest).

    Columns task, metric, by, slice, arm, images, n_test, value (mean over seeds), low, high (95 %,
    mean of the seeds' ends), reason (why there is no value).
    """
    if not len(tables.slices):
        return pl.DataFrame(schema=SCHEMA)
    cells = tables.scores.select("cell", "paradigm", "start_from", "images").unique()
    several = pl.col("start_from").n_unique().over("paradigm") > 1
    named = pl.when(several).then(pl.format("{} from {}", "paradigm", "start_from"))
    rows = tables.slices.join(
        cells.select("cell", "images", arm=named.otherwise("paradigm")), on="cell"
    )
    found: pl.DataFrame = (
        rows.filter(pl.col("images").is_in([0, rows["images"].max()]))
        .group_by("task", "probe", "metric", "by", "slice", "arm", "images")
        .agg(
            pl.col("n_test").first(),
            pl.col("value").mean(),
            low=pl.col("ci_low").mean(),
            high=pl.col("ci_high").mean(),
            reason=pl.col("reason").drop_nulls().first(),
        )
        .sort("task", "probe", "by", "slice", "arm", "images")
        .select(*SCHEMA)
    )
    # With nothing but reasons there is nothing to draw.
    return found if found["value"].null_count() < len(found) else found.clear()


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task and kind of slice; filled is the largest scale, open the open weights."""
    kinds = points.partition_by("by", "task", "metric", maintain_order=True)
    groups = [part for part in kinds if part["value"].null_count() < len(part)]
    titles = [f"{task_title(part['task'][0])}, by {part['by'][0]}" for part in groups]
    drawn = panels(titles, columns=2, height=190)
    look_of = looks(points["arm"])
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        names = group["slice"].unique().sort().to_list()
        counts = dict(group.select("slice", "n_test").unique("slice").rows())
        at = {name: float(k) for k, name in enumerate(names)}
        arms = group["arm"].unique().sort().to_list()
        for part in group.drop_nulls("value").partition_by("arm", "images", maintain_order=True):
            arm, images, rows = part["arm"][0], part["images"][0], part.to_dicts()
            look = look_of[arm]
            shift = 0.18 * (arms.index(arm) - (len(arms) - 1) / 2) + (0.06 if images else 0.0)
            drawn.scatter(
                **{"x": [at[row["slice"]] + shift for row in rows], "y": part["value"].to_list()},
                error_y={
                    **{"type": "data", "thickness": 1.3, "width": 0, "color": look.colour},
                    "array": [row["high"] - row["value"] for row in rows],
                    "arrayminus": [row["value"] - row["low"] for row in rows],
                },
                mode="markers",
                marker={
                    "symbol": look.symbol if images else f"{look.symbol}-open",
                    **{"color": look.colour, "size": 8, "line": {"width": 1.5}},
                },
                customdata=[_hover(row) for row in rows],
                hovertemplate=f"{look.name}, %{{customdata}}<extra></extra>",
                **{"name": look.name, "legendgroup": look.name},
                **{"showlegend": bool(images) and look.name not in named, **where.axes},
            )
            named |= {look.name} if images else set()
        ticks = [f"{plain(name)}<br>{counts[name]:,}" for name in names]
        axis: dict[str, Any] = {
            **{"tickvals": list(at.values()), "ticktext": ticks, "showgrid": False},
            **{"range": [-0.6, len(names) - 0.4], "tickangle": 0},
        }
        drawn.axes(where, x=axis, y={"title": {"text": metric_title(group["metric"][0])}})
    return drawn.figure()


def _hover(row: dict[str, Any]) -> str:
    scale = f"{images_short(row['images'])} images" if row["images"] else "open weights"
    interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return (
        f"{scale}: {row['value']:.3f}{interval}<br>"
        f"{plain(row['by'])} {plain(row['slice'])}, {row['n_test']:,} test images"
    )
