"""Which cells are done, running, waiting or failed, and why?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import BOTTOM, NEUTRAL, STATES, TOP, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short, paradigm_title

TITLE = "The cells"
PAGE = "runs"
ROW_HEIGHT = 21


def points(tables: Tables) -> pl.DataFrame:
    """One row per cell, as the store has it.

    Columns cell, paradigm, images, seed, state, spent (share of the budget), hours (wall clock),
    steps, workers, reason (null where nothing is wrong).
    """
    found: pl.DataFrame = tables.cells.sort("paradigm", "images", "seed").select(
        "cell",
        "paradigm",
        "images",
        "seed",
        "state",
        pl.col("spent").cast(pl.Float64),
        (pl.col("seconds") / 3600).round(3).alias("hours"),
        "steps",
        "workers",
        pl.col("reason").cast(pl.String),
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A bar per cell: its length is the share of the budget spent, its colour the state."""
    names = [
        f"{plain(paradigm_title(row['paradigm']))} "
        f"{images_short(row['images']) if row['images'] else 'open weights'}, seed {row['seed']}"
        for row in points.iter_rows(named=True)
    ]
    # Two recipes of one paradigm would share a bar; the cell's own name tells them apart.
    if len(set(names)) < len(names):
        names = [plain(cell) for cell in points["cell"]]
    rows = points.with_columns(name=pl.Series(names, dtype=pl.String))
    drawn = go.Figure(
        layout={
            "height": len(names) * ROW_HEIGHT + TOP + BOTTOM,
            "barmode": "overlay",
            "bargap": 0.3,
            "xaxis": {
                "range": [0, 1.002],
                "tickformat": ".0%",
                "dtick": 0.25,
                "title": {"text": "budget spent"},
            },
            "yaxis": {"categoryarray": names[::-1], "categoryorder": "array", "dtick": 1},
        }
    )
    drawn.add_bar(
        **{"x": [1.0] * len(names), "y": names, "orientation": "h", "showlegend": False},
        **{"marker": {"color": "rgba(138,143,152,0.13)"}, "hoverinfo": "skip"},
    )
    for state in sorted(rows["state"].unique(), key=lambda s: (s not in STATES, s)):
        part = rows.filter(pl.col("state") == state)
        shown = [_words(row) for row in part.iter_rows(named=True)]
        drawn.add_bar(
            **{"x": part["spent"].to_list(), "y": part["name"].to_list(), "orientation": "h"},
            **{"name": plain(state), "customdata": shown},
            text=[plain(reason or "") for reason in part["reason"]],
            textposition=["inside" if (spent or 0) > 0.6 else "outside" for spent in part["spent"]],
            insidetextanchor="start",
            marker={"color": STATES.get(state, NEUTRAL)},
            hovertemplate="%{y}: %{x:.0%} spent<br>%{customdata}<extra></extra>",
        )
    return drawn


def _words(row: dict[str, Any]) -> str:
    parts = [plain(row["state"])]
    if row["steps"] is not None:
        parts.append(f"{row['steps']:,} steps")
    if row["hours"] is not None:
        parts.append(f"{row['hours']:,.2f} hours")
    reason = f"<br>{plain(row['reason'])}" if row["reason"] else ""
    return f"{', '.join(parts)}{reason}"
