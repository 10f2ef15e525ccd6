"""Which labels gain most over the open weights at the largest scale, and which lose?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, looks, panels, place, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short, label_title, metric_title, task_title

TITLE = "Label by label: the gain at the largest scale"
PAGE = "compare"
ROW_HEIGHT = 19
SCHEMA = {
    **dict.fromkeys(("task", "metric", "label", "arm"), pl.String),
    **{"images": pl.Int64, "seeds": pl.Int64, "n_positive": pl.Int64},
    **dict.fromkeys(("gain", "low", "high", "p_holm"), pl.Float64),
    "is_decided": pl.Boolean,
}


def points(tables: Tables) -> pl.DataFrame:
    """One row per task, label and paradigm; those with the largest mean gain first.

    Columns task, metric, label, arm, images, seeds, n_positive, gain, low, high (95 %, paired with
    the open weights), p_holm (corrected over a task's labels and paradigms), is_decided (that is
    at most 0.05).
    """
    several = pl.col("start_from").n_unique().over("paradigm") > 1
    named = pl.when(several).then(pl.format("{} from {}", "paradigm", "start_from"))
    found: pl.DataFrame = (
        tables.label_gains.with_columns(arm=named.otherwise("paradigm"))
        .with_columns(mean=pl.col("gain").mean().over("task", "label"))
        .sort(
            *("task", "mean", "label", "arm"),
            descending=[False, True, False, False],
        )
        .with_columns(is_decided=(pl.col("p_holm") <= 0.05).fill_null(value=False))
        .rename({"ci_low": "low", "ci_high": "high"})
        .select(*SCHEMA)
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task, a row per label; filled markers stand after the correction."""
    groups = points.partition_by("task", "metric", maintain_order=True)
    most = max(part["label"].n_unique() for part in groups)
    titles = [task_title(part["task"][0]) for part in groups]
    height = max(110, ROW_HEIGHT * most * max(1, points["arm"].n_unique()) // 2 + 40)
    drawn = panels(titles, columns=1, height=height)
    look_of = looks(points["arm"])
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        labels = group["label"].unique(maintain_order=True).to_list()
        arms = group["arm"].unique().sort().to_list()
        # Labels from top to bottom; the paradigms of one label close together.
        row = {label: -float(k) for k, label in enumerate(labels)}
        apart = {arm: 0.22 * ((len(arms) - 1) / 2 - k) for k, arm in enumerate(arms)}
        drawn.scatter(
            **{"x": [0, 0], "y": [0.6, -len(labels) + 0.4], "mode": "lines", "hoverinfo": "skip"},
            **{"line": {"color": NEUTRAL, "width": 1}, "showlegend": False, **where.axes},
        )
        for part in group.partition_by("arm", maintain_order=True):
            look, rows = look_of[part["arm"][0]], part.to_dicts()
            drawn.scatter(
                x=[r["gain"] for r in rows],
                y=[row[r["label"]] + apart[r["arm"]] for r in rows],
                error_x={
                    **{"type": "data", "thickness": 1.4, "width": 0, "color": look.colour},
                    "array": [r["high"] - r["gain"] for r in rows],
                    "arrayminus": [r["gain"] - r["low"] for r in rows],
                },
                mode="markers",
                marker={
                    "symbol": [
                        look.symbol if r["is_decided"] else f"{look.symbol}-open" for r in rows
                    ],
                    **{"color": look.colour, "size": 8},
                    "line": {"width": 1.5, "color": look.colour},
                },
                customdata=[_hover(r) for r in rows],
                hovertemplate=f"{look.name}, %{{customdata}}<extra></extra>",
                **{"name": look.name, "legendgroup": look.name},
                **{"showlegend": look.name not in named, **where.axes},
            )
            named.add(look.name)
        metric = metric_title(group["metric"][0])
        ticks: dict[str, Any] = {
            **{
                "tickvals": list(row.values()),
                "ticktext": [plain(label_title(one)) for one in labels],
            },
            **{"range": [-len(labels) + 0.4, 0.6], "showgrid": False},
        }
        drawn.axes(where, x={"title": {"text": f"{metric} difference"}}, y=ticks)
    return drawn.figure()


def _hover(row: dict[str, Any]) -> str:
    positives = (
        "" if row["n_positive"] is None else f"<br>{row['n_positive']:,} test images have it"
    )
    p = "" if row["p_holm"] is None else f", corrected p {row['p_holm']:.3f}"
    interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
    return (
        f"{plain(label_title(row['label']))}: {row['gain']:+.3f} ({interval})"
        f"<br>at {images_short(row['images'])} images{p}{positives}"
    )
