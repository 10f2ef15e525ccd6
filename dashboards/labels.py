"""Which findings and which tubes gain from more images, and which do not?"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import band, image_axis, looks, panel_layout, place
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import label_title, metric_title, task_title

TITLE = "Each label by itself"
PAGE = "labels"
WHERE = ("task", "probe", "metric")


def points(tables: Tables) -> pl.DataFrame:
    """One row per label, paradigm and scale, in each task's headline metric on the test split.

    Columns task, metric, label, arm, images, value (mean over seeds), low, high (mean of the seeds'
    interval ends), n_positive. The open weights are images 0. Frequent labels come first. A task
    with several probes is one task per probe.
    """
    test = tables.scores.filter(pl.col("split") == "test")
    headline = test.filter("headline").select(WHERE).unique()
    several_probes = pl.col("probe").n_unique().over("task") > 1
    task = pl.when(several_probes).then(pl.format("{} ({})", "task", "probe")).otherwise("task")
    arms = test.group_by("paradigm").agg(several=pl.col("start_from").n_unique() > 1)
    named = (
        pl.when("several")
        .then(pl.format("{} from {}", "paradigm", "start_from"))
        .otherwise("paradigm")
    )
    found: pl.DataFrame = (
        test.filter(pl.col("label") != "macro", pl.col("value").is_not_nan())
        .join(headline, on=WHERE, how="semi")
        .join(arms, on="paradigm")
        .group_by(*WHERE, "label", "images", arm=named)
        .agg(
            pl.col("value").mean(),
            low=pl.col("ci_low").mean(),
            high=pl.col("ci_high").mean(),
            n_positive=pl.col("n_positive").max(),
        )
        .sort(
            "task",
            "probe",
            "n_positive",
            "label",
            "arm",
            "images",
            descending=[False, False, True, False, False, False],
        )
        .select(
            task.alias("task"),
            "metric",
            "label",
            "arm",
            "images",
            "value",
            "low",
            "high",
            "n_positive",
        )
    )
    return found


def figure(points: pl.DataFrame) -> go.Figure:
    """A small panel per label, with one range of scores per task; dots are the open weights."""
    groups = points.partition_by("task", "metric", "label", maintain_order=True)
    labels = [label_title(part["label"][0]) for part in groups]
    titles = [label[0].upper() + label[1:] for label in labels]
    layout = panel_layout(
        titles, columns=3, height=165, subtitles=[_subtitle(part) for part in groups]
    )
    look_of = looks(points["arm"])
    axis = image_axis(points["images"], room=0.12)
    first_of: dict[str, str] = {}
    traces: list[dict[str, Any]] = []
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        for part in group.partition_by("arm", maintain_order=True):
            look = look_of[part["arm"][0]]
            trained = part.filter(pl.col("images") > 0)
            base = part.filter(pl.col("images") == 0)
            shared = {"legendgroup": look.name, **where.axes}
            if len(base):
                traces.append(
                    dict(
                        type="scatter",
                        x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
                        y=base["value"].to_list() * 2,
                        mode="lines",
                        line={"color": look.colour, "width": 1, "dash": "dot"},
                        **{"hoverinfo": "skip", "showlegend": False, **shared},
                    )
                )
            sure = trained.drop_nulls(["low", "high"])
            x, low, high = (sure[name].to_list() for name in ("images", "low", "high"))
            traces.append(band(x, low, high, look.colour).update(shared).to_plotly_json())
            traces.append(
                dict(
                    type="scatter",
                    x=trained["images"].to_list(),
                    y=trained["value"].to_list(),
                    customdata=trained.select("low", "high").rows(),
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
            )
            named.add(look.name)
        first = first_of.setdefault(group["task"][0], where.y)
        layout[f"xaxis{where.x[1:]}"] |= {**axis, "tickfont": {"size": 10}}
        score = {"tickfont": {"size": 10}, "nticks": 5}
        if first != where.y:
            score["matches"] = first
        layout[f"yaxis{where.y[1:]}"] |= score
    # All at once: a figure of a hundred panels checks itself again at every addition.
    return go.Figure(data=traces, layout=layout)


def _subtitle(part: pl.DataFrame) -> str:
    positives = part["n_positive"][0]
    count = "" if positives is None else f", {positives:,} positive"
    return f"{task_title(part['task'][0])}, {metric_title(part['metric'][0])}{count}"
