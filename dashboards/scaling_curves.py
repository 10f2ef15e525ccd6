"""How does each task's score grow with in-domain images, and does it pass the open weights?"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from radsweep.dashboards.style import NEUTRAL, Look, band, image_axis, looks, panels, place, plain
from radsweep.dashboards.tables import Tables
from radsweep.laws.analysis import Analysis, spread
from radsweep.laws.curves import Scale
from radsweep.laws.sentences import crossing_of
from radsweep.laws.words import images_in_words

TITLE = "Score against in-domain images"
PAGE = "overview"
LAW_POINTS = 30
SCHEMA = {
    **{"task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String},
    **{"images": pl.Float64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64},
    **{"seeds": pl.Int64, "epochs": pl.Float64, "n_test": pl.Int64},
    **{"probe": pl.String, "start_from": pl.String},
    **{"images_low": pl.Float64, "images_high": pl.Float64},
}


def _rows(one: Analysis, facts: dict[tuple[Any, ...], tuple[Any, ...]]) -> list[dict[str, Any]]:
    curve = one.curve
    rows: list[dict[str, Any]] = []
    known = [("score", scale) for scale in curve.scales]
    if curve.open_weights is not None:
        known.append(("open weights", curve.open_weights))
    for kind, scale in known:
        span = spread(curve, scale)
        rows.append(
            {
                **{"kind": kind, "images": float(scale.images), "value": scale.value},
                **{"low": span.low if span else None, "high": span.high if span else None},
                "seeds": len(scale.values),
                **dict(zip(("epochs", "n_test", "probe"), _facts(facts, one, scale), strict=True)),
            }
        )
    crossing = crossing_of(one)
    if crossing is not None and crossing.images is not None and curve.open_weights is not None:
        mark = {"images": crossing.images, "value": curve.open_weights.value}
        ends = {"images_low": crossing.low, "images_high": crossing.high}
        rows.append({"kind": "beats", **mark, **ends})
    if one.law is not None:
        grid = np.geomspace(curve.images.min(), curve.images.max(), LAW_POINTS)
        for n, value, low, high in zip(grid, *one.law.band(grid), strict=True):
            law = {"images": n, "value": value, "low": low, "high": high}
            rows.append({"kind": "law", **{name: float(number) for name, number in law.items()}})
    named = {"task": curve.title, "metric": curve.metric_title, "arm": curve.arm}
    return [{**named, "start_from": curve.start_from, **row} for row in rows]


def _known(tables: Tables) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Of every headline number: epochs (mean over seeds), test images, probe."""
    place = ("task", "metric", "paradigm", "start_from", "images")
    found = (
        tables.headline.filter(pl.col("split") == "test")
        .group_by(*place, "probe")
        .agg(pl.col("epochs").mean(), pl.col("n_test").max())
    )
    return {
        (*(row[name] for name in place), row["probe"]): (row["epochs"], row["n_test"])
        for row in found.iter_rows(named=True)
    }


def _facts(
    known: dict[tuple[Any, ...], tuple[Any, ...]], one: Analysis, scale: Scale
) -> tuple[Any, Any, str | None]:
    curve = one.curve
    place = (curve.task, curve.metric, curve.paradigm, curve.start_from, scale.images)
    # A curve names its probe only where its task has several.
    found = [(key[-1], values) for key, values in known.items() if key[:-1] == place]
    mine = [one for one in found if curve.probe in ("", one[0])]
    return (None, None, None) if not mine else (*mine[0][1], mine[0][0])


def points(tables: Tables) -> pl.DataFrame:
    """One row per score, open-weights score, point of a fitted law, and crossing of both.

    Columns task, metric, arm, kind ("score", "open weights", "law", "beats"), images, value, low,
    high (95 %, null without draws), seeds, epochs (mean over seeds), n_test and probe (null for a
    law), start_from. "beats" is where a law comes to beat its open weights, from images_low to
    images_high (95 %, null where an end is open); there is none outside the data.
    """
    known = _known(tables)
    rows = [row for one in tables.analyses for row in _rows(one, known)]
    return pl.DataFrame(rows, schema=SCHEMA)


def figure(points: pl.DataFrame) -> go.Figure:
    """A panel per task; markers with bars are scores, lines with bands laws, dots open weights.

    A ring on the dots is where a law comes to beat them.
    """
    groups = points.partition_by("task", "metric", maintain_order=True)
    drawn = panels([part["task"][0] for part in groups], columns=2, height=250)
    look_of = looks(points["arm"])
    axis = image_axis(points.filter(pl.col("kind") == "score")["images"])
    named: set[str] = set()
    for i, group in enumerate(groups):
        where = place(i)
        for part in group.partition_by("arm", maintain_order=True):
            look = look_of[part["arm"][0]]
            law = part.filter(pl.col("kind") == "law")
            score = part.filter(pl.col("kind") == "score")
            base = part.filter(pl.col("kind") == "open weights")
            shared = {"legendgroup": look.name, **where.axes}
            if len(law):
                x = law["images"].to_list()
                filled = band(x, law["low"].to_list(), law["high"].to_list(), look.colour)
                line = {"color": look.colour, "width": 2}
                drawn.scatter(**filled, **shared)
                drawn.scatter(
                    **{"x": x, "y": law["value"].to_list(), "mode": "lines", "line": line},
                    **{"hoverinfo": "skip", "showlegend": False, **shared},
                )
            if len(base):
                drawn.scatter(
                    x=[10 ** axis["range"][0], 10 ** axis["range"][1]],
                    y=base["value"].to_list() * 2,
                    mode="lines",
                    line={"color": look.colour, "width": 1.3, "dash": "dot"},
                    hovertemplate=f"{look.name} open weights %{{y:.3f}}<extra></extra>",
                    showlegend=False,
                    **shared,
                )
            drawn.scatter(
                x=score["images"].to_list(),
                y=score["value"].to_list(),
                error_y=_bars(score, look.colour),
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 8},
                name=look.name,
                customdata=[_hover(row) for row in score.iter_rows(named=True)],
                hovertemplate=f"{look.name}, %{{x:,}} images: %{{y:.3f}}%{{customdata}}"
                "<extra></extra>",
                showlegend=look.name not in named,
                **shared,
            )
            named.add(look.name)
            for row in part.filter(pl.col("kind") == "beats").iter_rows(named=True):
                drawn.scatter(**_mark(row, look), **shared)
        drawn.axes(where, x=axis, y={"title": {"text": group["metric"][0]}})
    drawn.scatter(
        **{"x": [None], "y": [None], "mode": "lines", "name": "open weights"},
        line={"color": NEUTRAL, "width": 1.3, "dash": "dot"},
    )
    if len(points.filter(pl.col("kind") == "beats")):
        drawn.scatter(
            **{"x": [None], "y": [None], "mode": "markers", "name": "the law beats them from here"},
            marker={
                **{"symbol": "circle-open", "size": 11, "color": NEUTRAL},
                "line": {"width": 2.2},
            },
        )
    return drawn.figure()


def _hover(row: dict[str, Any]) -> str:
    """Every coordinate of a score, below its value."""
    lines = []
    if row["low"] is not None:
        lines.append(f"95% {row['low']:.3f} to {row['high']:.3f}")
    seeds = f"{row['seeds']} seed{'s' if row['seeds'] != 1 else ''}"
    epochs = "" if row["epochs"] is None else f", {row['epochs']:,.3g} epochs"
    lines.append(f"from {plain(row['start_from'])}, {seeds}{epochs}")
    if row["probe"] is not None:
        tested = "" if row["n_test"] is None else f", {row['n_test']:,} test images"
        lines.append(f"{plain(row['probe'])} probe{tested}")
    return "".join(f"<br>{line}" for line in lines)


def _mark(row: dict[str, Any], look: Look) -> dict[str, Any]:
    """Where a law beats its open weights: an open ring on their line, with its interval."""
    at, low, high = row["images"], row["images_low"], row["images_high"]
    words = f"{'fewer' if low is None else images_in_words(low, digits=2)} to "
    words += "beyond the data" if high is None else images_in_words(high, digits=2)
    return {
        **{"x": [at], "y": [row["value"]], "mode": "markers", "showlegend": False},
        "marker": {
            **{"symbol": "circle-open", "size": 13, "color": look.colour},
            "line": {"width": 2.2},
        },
        "error_x": {
            **{"type": "data", "array": [0.0 if high is None else high - at], "width": 0},
            **{"arrayminus": [0.0 if low is None else at - low], "color": look.colour},
            "thickness": 2.2,
        },
        "hovertemplate": (
            f"{look.name} beats its open weights from about "
            f"{images_in_words(at, digits=2)} images on<br>95% {words}<extra></extra>"
        ),
    }


def _bars(score: pl.DataFrame, colour: str) -> dict[str, Any]:
    if score["low"].null_count() == len(score):
        return {"visible": False}
    return {
        "type": "data",
        "array": (score["high"] - score["value"]).fill_null(0.0).to_list(),
        "arrayminus": (score["value"] - score["low"]).fill_null(0.0).to_list(),
        **{"thickness": 1.2, "width": 3, "color": colour},
    }
