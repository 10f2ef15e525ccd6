"""Did every cell train to the end of its budget, and did its loss come down?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.logs import binned, line_panels
from radsweep.dashboards.style import looks
from radsweep.dashboards.tables import Tables

TITLE = "Loss against the share of the budget spent"
PAGE = "runs"


def points(tables: Tables) -> pl.DataFrame:
    """The mean and largest loss in up to 150 equal parts of the budget, per cell.

    Columns as ``logs.binned``.
    """
    found: pl.DataFrame = binned(tables, ["loss"])
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per paradigm; the more images, the stronger the line."""
    look_of = looks(points["paradigm"])
    names = points["paradigm"].unique(maintain_order=True)
    titles = [look_of[name].name for name in names]
    return line_panels(points, ["paradigm"], titles, [".3f"] * len(titles), height=260)
