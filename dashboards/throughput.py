"""How fast does each cell train, how well does it use its devices, and does it wait for data?"""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.logs import binned, line_panels
from radsweep.dashboards.tables import Tables

TITLE = "Speed against the share of the budget spent"
PAGE = "runs"
QUANTITIES = {
    "images_per_second": ("Images per second, all devices of a cell", ",.3s"),
    "data_wait": ("Share of the time that waits for data", ".0%"),
    "mfu": ("Model FLOPs utilisation (MFU)", ".0%"),
}


def points(tables: Tables) -> pl.DataFrame:
    """Images per second, data wait and, where the device's peak is known, MFU, per cell.

    Columns as ``logs.binned``; the two shares are in [0, 1].
    """
    found: pl.DataFrame = binned(tables, list(QUANTITIES))
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per quantity."""
    shown = [QUANTITIES[name] for name in points["quantity"].unique(maintain_order=True)]
    titles, formats = [title for title, _ in shown], [form for _, form in shown]
    return line_panels(points, ["quantity"], titles, formats, free_colour=True)
