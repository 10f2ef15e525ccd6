"""Which findings and which tubes gain from more images, and which do not?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import band, image_axis, looks, panels, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import label_title, metric_title, task_title
from radsweep.store.scores import SUMS

TITLE = "Each label by itself"
PAGE = "labels"
WHERE = ("task", "probe", "metric")


def points(tables: Tables) -> pl.DataFrame:
    """One row per label, paradigm and scale, in each task's headline metric on the test split.

    Columns task, metric, label, arm, images, value (mean over seeds), low, high (mean of the seeds'
    interval ends), n_positive. The open weights are images 0. Frequent labels come first. A task
    with several probes is one task per probe.
    """
    headline = tables.headline.filter(pl.col("split") == "test").select(WHERE).unique()
    several_probes = pl.col("probe").n_unique().over("task") > 1
    task = pl.when(several_probes).then(pl.format("{} ({})", "task", "probe")).otherwise("task")
    own = tables.scores.join(headline, on=WHERE, how="semi").filter(pl.col("split") == "test")
    arms = own.group_by("paradigm").agg(several=pl.col("start_from").n_unique() > 1)
    named = (
        pl.when("several")
        .then(pl.format("{} from {}", "paradigm", "start_from"))
        .otherwise("paradigm")
    )
    found: pl.DataFrame = (
        own.filter(~pl.col("label").is_in(SUMS), pl.col("value").is_not_nan())
        .join(arms, on="paradigm")
        .group_by(*WHERE, "label", "images", arm=named)
        .agg(
            pl.col("value").mean(),
            low=pl.col("ci_low").mean(),
            high=pl.col("ci_high").mean(),
            n_positive=pl.col("n_positive").max(),
        )
        .sort(
            *("task", "probe", "n_positive", "label", "arm", "images"),
            descending=[False, False, True, False, False, False],
        )
        .select(
            task.alias("task"),
            *("metric", "label", "arm", "images", "value", "low", "high", "n_positive"),
        )
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A small panel per label, with one range of scores per task; dots are the open weights."""
    groups: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for row in points.iter_rows(named=True):
        panel = groups.setdefault((row["task"], row["metric"], row["label"]), {})
        panel.setdefault(row["arm"], []).append(row)
    labels = [label_title(label) for _, _, label in groups]
    titles = [label[0].upper() + label[1:] for label in labels]
    counts = [next(iter(panel.values()))[0]["n_positive"] for panel in groups.values()]
    subtitles = [
        _subtitle(task, metric, count)
        for (task, metric, _), count in zip(groups, counts, strict=True)
    ]
    drawn = panels(titles, columns=3, height=165, subtitles=subtitles)
    look_of = looks(points["arm"])
    axis = image_axis(points["images"], room=0.12)
    first_of: dict[str, str] = {}
    named: set[str] = set()
    for i, ((task, _, _), panel) in enumerate(groups.items()):
        where = place(i)
        for arm, rows in panel.items():
            look = look_of[arm]
            trained = [row for row in rows if row["images"] > 0]
            base = [row["value"] for row in rows if row["images"] == 0]
            shared = {"legendgroup": look.name, **where.axes}
            if base:
                drawn.scatter(
                    x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
                    y=base * 2,
                    mode="lines",
                    line={"color": look.colour, "width": 1, "dash": "dot"},
                    **{"hoverinfo": "skip", "showlegend": False, **shared},
                )
            sure = [row for row in trained if row["low"] is not None and row["high"] is not None]
            x, low, high = ([row[name] for row in sure] for name in ("images", "low", "high"))
            drawn.scatter(**band(x, low, high, look.colour), **shared)
            drawn.scatter(
                x=[row["images"] for row in trained],
                y=[row["value"] for row in trained],
                customdata=[(row["low"], row["high"]) for row in trained],
                mode="lines+markers",
                line={"color": look.colour, "width": 1.5},
                marker={"color": look.colour, "symbol": look.symbol, "size": 5},
                name=look.name,
                hovertemplate=(
                    f"{look.name}, %{{x:,}} images: %{{y:.3f}} "
                    "(%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>"
                ),
                showlegend=look.name not in named,
                **shared,
            )
            named.add(look.name)
        first = first_of.setdefault(task, where.y)
        score: dict[str, Any] = {"tickfont": {"size": 10}, "nticks": 5}
        if first != where.y:
            score["matches"] = first
        drawn.axes(where, x={**axis, "tickfont": {"size": 10}}, y=score)
    return drawn.figure()


def _subtitle(task: str, metric: str, positives: int | None) -> str:
    count = "" if positives is None else f", {positives:,} positive"
    return f"{task_title(task)}, {metric_title(metric)}{count}"
