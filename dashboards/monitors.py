"""Does every encoder stay alive: do its features spread, or do they fall together?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.logs import binned, line_panels
from radsweep.dashboards.style import looks
from radsweep.dashboards.tables import Tables

TITLE = "What the paradigms watch while they train"
PAGE = "runs"
PREFIX = "monitor_"


def points(tables: Tables) -> pl.DataFrame:
    """Every monitor that was logged, per cell; columns as ``logs.binned``, sorted by paradigm."""
    watched = sorted(name for name in tables.steps.columns if name.startswith(PREFIX))
    found: pl.DataFrame = binned(tables, watched)
    return found.sort("paradigm", "quantity", maintain_order=True)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per paradigm and monitor; the more images, the stronger the line."""
    look_of = looks(points["paradigm"])
    groups = points.select("paradigm", "quantity").unique(maintain_order=True).rows()
    titles = [
        f"{look_of[paradigm].name}: {quantity.removeprefix(PREFIX).replace('_', ' ')}"
        for paradigm, quantity in groups
    ]
    formats = [".3g"] * len(titles)
    return line_panels(points, ["paradigm", "quantity"], titles, formats, height=170)
