"""Where one paradigm overtakes another, and what doubling the data bought: tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from radsweep.laws.analysis import Analysis, by_task
from radsweep.laws.bootstrap import crossover
from radsweep.laws.fit import FEW_SCALES
from radsweep.laws.sentences import SURE, TOO_FEW, Answer
from radsweep.laws.words import images_in_words

CROSSOVER_SCHEMA = {
    **dict.fromkeys(("sweep", "task", "probe", "metric", "paradigm", "other"), pl.String),
    **dict.fromkeys(("images", "low", "high", "share"), pl.Float64),
    "why_not": pl.String,
}
DOUBLING_SCHEMA = {
    **dict.fromkeys(("sweep", "task", "probe", "metric", "paradigm"), pl.String),
    **dict.fromkeys(("images", "gain", "low", "high"), pl.Float64),
    "why_not": pl.String,
}


def _why_no_crossover(one: Analysis, other: Analysis) -> str | None:
    for each in (one, other):
        if each.no_law is not None:
            return f"{each.curve.arm_title}: {each.no_law}"
        if len(each.curve.scales) < FEW_SCALES:
            return f"{each.curve.arm_title} has only {len(each.curve.scales)} scales"
    if one.plain_law is None or other.plain_law is None:
        return f"there are {TOO_FEW}"
    if len(one.plain_law.theta) != len(other.plain_law.theta):
        return "their resamples do not pair"
    return None


def crossovers(analyses: Sequence[Analysis]) -> pl.DataFrame:
    """Where the order of two paradigms changes inside the data: one row per task and pair.

    Columns as ``CROSSOVER_SCHEMA``: from ``images`` on (``low`` to ``high``, 95 %) ``paradigm`` is
    ahead, and ``other`` before. ``share`` is that of the resamples whose laws cross; an end is null
    where its resamples do not cross inside the data, and ``images`` where the laws themselves do
    not. ``why_not`` says what stands against a law of either, and then there is no number.
    """
    rows: list[dict[str, Any]] = []
    for group in by_task(analyses).values():
        for pair in combinations(group, 2):
            first, second = pair
            row: dict[str, Any] = dict.fromkeys(CROSSOVER_SCHEMA)
            row["why_not"] = _why_no_crossover(first, second)
            if row["why_not"] is None and first.plain_law and second.plain_law:
                where = crossover(first.plain_law, second.plain_law)
                largest = min(one.curve.images.max() for one in pair)
                ends = [
                    float(law.fit.predict(np.array([largest]))[0])
                    for law in (first.plain_law, second.plain_law)
                ]
                if ends[1] > ends[0]:
                    first, second = second, first
                row.update(images=where.images, share=where.share)
                row.update(low=where.low, high=where.high)
            curve = first.curve
            row.update(sweep=curve.sweep, task=curve.task, probe=curve.probe, metric=curve.metric)
            row.update(paradigm=curve.arm, other=second.curve.arm)
            rows.append(row)
    return pl.DataFrame(rows, schema=CROSSOVER_SCHEMA)


def doublings(analyses: Sequence[Analysis]) -> pl.DataFrame:
    """What the last doubling inside the data bought, by the law: one row per curve.

    Columns as ``DOUBLING_SCHEMA``: ``gain`` (``low`` to ``high``, 95 %) in the metric's unit, from
    half of ``images``, the largest scale, to it; ``why_not`` where no law says so.
    """
    rows: list[dict[str, Any]] = []
    for one in analyses:
        curve = one.curve
        row: dict[str, Any] = dict.fromkeys(DOUBLING_SCHEMA)
        row.update(sweep=curve.sweep, task=curve.task, probe=curve.probe, metric=curve.metric)
        row.update(paradigm=curve.arm, why_not=one.no_law)
        if one.law is not None:
            gain = one.law.gain_per_doubling()
            row.update(images=float(curve.images.max()))
            row.update(gain=gain.value, low=gain.low, high=gain.high)
        elif one.no_law is None:
            row["why_not"] = f"it has {TOO_FEW}"
        rows.append(row)
    return pl.DataFrame(rows, schema=DOUBLING_SCHEMA)


def _crossover_words(row: dict[str, Any], first: str, second: str) -> str:
    if row["why_not"] is not None:
        return f"whether {first} overtakes {second} cannot be said: {row['why_not']}"
    share = f"their laws cross inside the data in {row['share']:.0%} of resamples"
    if row["images"] is None:
        return f"by their laws {first} is ahead of {second} at every scale ({share})"
    about = images_in_words(row["images"], digits=2)
    low, high = (
        outside if row[end] is None else images_in_words(row[end], digits=2)
        for end, outside in (("low", "the smallest scale or fewer"), ("high", "beyond the data"))
    )
    sure = "" if row["share"] >= SURE else ", but that is not established"
    return (
        f"by their laws {first} overtakes {second} at about {about} images "
        f"({low} to {high}; {share}){sure}"
    )


def crossover_sentences(table: pl.DataFrame, analyses: Sequence[Analysis]) -> list[Answer]:
    """A sentence per row of ``crossovers``."""
    found = []
    known = {
        (
            one.curve.sweep,
            one.curve.task,
            one.curve.probe,
            one.curve.metric,
            one.curve.arm,
        ): one.curve
        for one in analyses
    }
    for row in table.iter_rows(named=True):
        place = tuple(row[name] for name in ("sweep", "task", "probe", "metric"))
        first, second = known[*place, row["paradigm"]], known[*place, row["other"]]
        words = _crossover_words(row, first.arm_title, second.arm_title)
        numbers = {n: row[n] for n in ("paradigm", "other", "images", "low", "high", "share")}
        text = f"{first.title}: {words}."
        found.append(Answer(first.task, first.title, "crossover", text, numbers))
    return found


def doubling_sentences(table: pl.DataFrame, analyses: Sequence[Analysis]) -> list[Answer]:
    """A sentence per row of ``doublings`` (made of the same analyses)."""
    found = []
    for row, one in zip(table.iter_rows(named=True), analyses, strict=True):
        curve = one.curve
        if row["why_not"] is not None:
            words = (
                f"what doubling the data buys {curve.arm_title} cannot be said: {row['why_not']}"
            )
        else:
            words = (
                f"the last doubling of the data, to {images_in_words(row['images'])} images, "
                f"bought {curve.arm_title} {row['gain']:+.3f}, 95% interval {row['low']:+.3f} to "
                f"{row['high']:+.3f}"
            )
        numbers = {name: row[name] for name in ("paradigm", "images", "gain", "low", "high")}
        text = f"{curve.title}: {words}."
        found.append(Answer(curve.task, curve.title, "doubling", text, numbers))
    return found
