"""Lay sentences, tables and charts out into pages; what a page says is decided here, once."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import polars as pl

from radsweep.dashboards import progress, provenance
from radsweep.dashboards.blocks import Block, Card, Cards, Grid, Line, Note, Page, Picture
from radsweep.dashboards.charts import PAGES, charts
from radsweep.dashboards.style import looks
from radsweep.dashboards.tables import Tables
from radsweep.laws.analysis import by_task
from radsweep.laws.answers import Answer, fits_table_from
from radsweep.laws.hypotheses import statement, verdicts
from radsweep.laws.words import (
    images_in_words,
    images_short,
    metric_title,
    paradigm_title,
    task_title,
)
from radsweep.specs import Hypothesis

TITLES = {
    "overview": "Answers",
    "compare": "Compare",
    "labels": "Labels",
    "forecast": "Forecast",
    "runs": "Runs",
    "images": "Images",
    "provenance": "Provenance",
}
# Longer tables belong in a file (`radsweep scores SWEEP --to FILE`), not in a page.
LONGEST_TABLE = 1000
ALONG_A_CURVE = ("law", "forecast")
"""Kinds of rows that draw a fitted law; its parameters stand in a table of their own."""
LEADS = ("best", "crossover")


@final
@dataclass(frozen=True)
class Book:
    """Everything that is shown: a heading, facts under it, and the pages."""

    name: str
    facts: tuple[str, ...]
    pages: tuple[Page, ...]


def _facts(tables: Tables) -> tuple[str, ...]:
    states = tables.cells["state"].value_counts(sort=True).rows()
    counted = ", ".join(f"{count} {state}" for state, count in states)
    seeds = tables.cells.filter(pl.col("images") > 0)["seed"].n_unique()
    largest = tables.scores["images"].max()
    facts = [f"corpus {tables.sweep['corpus']}", f"{len(tables.cells)} cells ({counted})"]
    if isinstance(largest, int) and largest > 0:
        facts.append(f"up to {images_in_words(largest)} images")
    facts.append(f"{seeds} training seed{'s' if seeds != 1 else ''}")
    version = tables.sweep["code_version"]
    return (*facts, f"code {version}") if version else tuple(facts)


def _cards(answers: Sequence[Answer], kinds: Sequence[str], colours: dict[str, str]) -> Cards:
    headings: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.kind in kinds:
            headings.setdefault(answer.heading, []).append(answer)
    cards = []
    for heading, found in headings.items():
        lines = []
        for answer in found:
            text = answer.sentence.removeprefix(f"{heading}: ")
            arm = answer.numbers.get("paradigm") or answer.numbers.get("best")
            line = Line(text[0].upper() + text[1:], colours.get(str(arm)))
            lines.append((answer.kind in LEADS, line))
        lead = tuple(line for is_lead, line in lines if is_lead)
        cards.append(Card(heading, lead, tuple(line for is_lead, line in lines if not is_lead)))
    return Cards(tuple(cards))


def _glance(tables: Tables) -> Grid | None:
    arms = sorted({one.curve.arm for one in tables.analyses if one.curve.scales})
    rows = []
    for group in by_task(tables.analyses).values():
        curve = group[0].curve
        row = [curve.title, curve.metric_title]
        for arm in arms:
            found = [one for one in group if one.curve.arm == arm and one.curve.scales]
            if not found:
                row.append("-")
                continue
            last = found[0].curve.scales[-1]
            gaps = [gap for gap in found[0].differences if gap.images == last.images]
            text = f"{last.value:.3f} at {images_short(last.images)}"
            if gaps and gaps[0].interval is not None:
                span = gaps[0].interval
                text += f"\n{span.value:+.3f} ({span.low:+.3f} to {span.high:+.3f})"
            row.append(text)
        rows.append(tuple(row))
    if not rows:
        return None
    return Grid(
        "At each paradigm's largest scale: the score, and under it the gain over the open weights "
        "with its 95% interval",
        ("Task", "Score", *(paradigm_title(arm) for arm in arms)),
        tuple(rows),
        numeric=frozenset(range(2, 2 + len(arms))),
    )


def _hypotheses(tables: Tables) -> Grid | None:
    """The sweep's registered hypotheses and what the scores say of them."""
    registered = tables.sweep["spec"].get("hypotheses")
    if not registered:
        return None
    found = verdicts([Hypothesis(**fields) for fields in registered], tables.analyses)
    rows = tuple(
        (
            statement(one.hypothesis),
            one.answer,
            one.sentence.removeprefix(f"{statement(one.hypothesis)}: {one.answer}").lstrip(",. "),
            "<0.001" if one.p_holm is not None and one.p_holm < 0.001 else _number(one.p_holm),
        )
        for one in found
    )
    return Grid(
        "The hypotheses that the sweep registered before its scores were seen; p is two-sided and "
        "corrected over all of them (Holm 1979)",
        ("Hypothesis", "Answer", "Why", "Corrected p"),
        rows,
        numeric=frozenset({3}),
    )


def _number(value: float | None, places: int = 3) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _theta(text: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {v:.3g}" for name, v in json.loads(text).items())


def _fits(tables: Tables) -> Grid | None:
    rows = []
    for fit in fits_table_from(tables.analyses).iter_rows(named=True):
        task = task_title(fit["task"]) + (f" ({fit['probe']})" if fit["probe"] else "")
        rows.append(
            (
                f"{task}, {metric_title(fit['metric'])}",
                paradigm_title(fit["paradigm"]),
                fit["form"] or "-",
                _theta(fit["theta"]) if fit["theta"] else "-",
                _number(fit["r2"]),
                _number(fit["leave_largest_out"]),
                fit["flags"] or "-",
            )
        )
    if not rows:
        return None
    names = ("Task", "Paradigm", "Law", "Parameters", "R2", "Missed by", "To know before using it")
    return Grid(
        "The fitted laws. 'Missed by' is the error in predicting the largest scale from the "
        "smaller ones: it, not R2, says how far a law can be trusted",
        names,
        tuple(rows),
        numeric=frozenset({4, 5}),
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _numbers(points: pl.DataFrame) -> Grid | Note:
    curves = 0
    if "kind" in points.columns:
        listed = points.filter(~pl.col("kind").is_in(ALONG_A_CURVE))
        curves, points = len(points) - len(listed), listed
    if len(points) > LONGEST_TABLE:
        return Note(f"This chart is drawn from {len(points):,} rows, too many to list here.")
    numeric = frozenset(i for i, kind in enumerate(points.dtypes) if kind.is_numeric())
    names = tuple(name.replace("_", " ") for name in points.columns)
    rows = tuple(tuple(_cell(value) for value in row) for row in points.rows())
    left_out = f", without {curves} points along its curves" if curves else ""
    return Grid(f"The {len(rows)} numbers of this chart{left_out}", names, rows, True, numeric)


def _charts(tables: Tables, names: Sequence[str]) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {name: [] for name in PAGES}
    for chart in charts():
        if chart.page not in names:
            continue
        points = chart.points(tables)
        if not len(points):
            found[chart.page].append(Note(f"{chart.title}: nothing to draw yet."))
            continue
        figure = chart.figure(points)
        found[chart.page].append(Picture(chart.name, chart.title, chart.question, figure))
        found[chart.page].append(_numbers(points))
    return found


def _no_films(tables: Tables) -> Note:
    if tables.sweep["spec"].get("may_show_images"):
        return Note(
            f"No film of {tables.sweep['corpus']} has been segmented or reported on yet; those of "
            "another corpus are never shown."
        )
    return Note(
        f"The films of {tables.sweep['corpus']} are not shown, as is right for patients. Where "
        "nobody is behind them, Sweep(may_show_images=True) shows examples here."
    )


def book(tables: Tables, names: Sequence[str] = PAGES) -> Book:
    """Everything that is shown of one sweep; only the charts of the pages in ``names`` are drawn.

    Raises:
        SpecError: the score table is ambiguous (``radsweep.laws.curves``).
    """
    answers = tables.answers
    colours = {
        arm: look.colour for arm, look in looks(one.curve.arm for one in tables.analyses).items()
    }
    glance, fits = _glance(tables), _fits(tables)
    cautions = [Note(a.sentence) for a in answers if a.kind == "caution"]
    before: dict[str, list[Block]] = {name: [] for name in PAGES}
    after: dict[str, list[Block]] = {name: [] for name in PAGES}
    before["overview"] = [_cards(answers, ("best", "crossover", "open_weights"), colours)]
    before["overview"] += [glance] if glance else []
    registered = _hypotheses(tables)
    before["compare"] = [registered] if registered else []
    before["compare"] += [_cards(answers, ("trend",), colours)]
    before["forecast"] = [_cards(answers, ("ten_times",), colours)]
    after["overview"] = list(cautions)
    after["forecast"] = [fits] if fits else []
    before["runs"] = [*progress.blocks(tables)]
    listings = provenance.blocks(tables)
    before["provenance"] = [block for block in listings if isinstance(block, Note)]
    after["provenance"] = [block for block in listings if not isinstance(block, Note)]
    if "images" in names:
        before["images"] = [*tables.films()] or [_no_films(tables)]
    drawn = _charts(tables, names)
    pages = tuple(
        Page(name, TITLES[name], tuple([*before[name], *drawn[name], *after[name]]))
        for name in PAGES
    )
    return Book(str(tables.sweep["name"]), _facts(tables), pages)
