"""How the sweep goes: sentences of what runs, what it took and what is planned."""

import polars as pl
import pytest

from radsweep.dashboards import logs, monitors, spending, throughput
from radsweep.dashboards.blocks import Card
from radsweep.dashboards.progress import blocks, duration, seconds_left
from radsweep.dashboards.tables import Tables
from tests.dashboards.toy import IMAGES_SEEN, toy_tables

TABLES = toy_tables()


def cards(tables: Tables) -> dict[str, Card]:
    (found,) = blocks(tables)
    return {card.heading: card for card in found.cards}


def texts(card: Card) -> list[str]:
    return [line.text for line in (*card.lead, *card.rest)]


def test_a_running_cell_says_how_fast_it_is_and_when_it_ends() -> None:
    (said,) = texts(cards(TABLES)["Running"])
    assert said.startswith("CLIP 3.5M, seed 1: 62% of the budget, 905 images/s")
    assert "waits for data 3% of the time" in said and "MFU 41%" in said
    left = 0.38 * IMAGES_SEEN / 905
    assert said.endswith(f"about {duration(left)} to go")
    (row,) = TABLES.cells.filter(state="running").to_dicts()
    assert seconds_left(row) == pytest.approx(left, rel=1e-6)


def test_a_cell_that_has_not_reported_has_no_time_to_go() -> None:
    row = {"spent": 0.0, "images_seen": None, "images_per_second": None}
    assert seconds_left(row) is None


def test_states_and_failures_are_counted_and_named() -> None:
    shown = cards(TABLES)
    first = "33 cells: 29 done, 1 running, 1 waiting, 1 preempted, 1 failed."
    assert texts(shown["Now"])[0] == first
    (said,) = texts(shown["What went wrong"])
    assert said == ("DINOv2 100k, seed 1, failed: node lost three times; last: CUDA out of memory")


def test_spending_is_the_cells_own_seconds_times_their_devices_against_the_kept_plan() -> None:
    table = spending.points(TABLES)
    for row in table.iter_rows(named=True):
        expected = {"done": 0.0, "running": 0.0, "lost": 0.0}
        trained = TABLES.cells.filter(pl.col("images") > 0, paradigm=row["paradigm"])
        for cell in trained.iter_rows(named=True):
            kind = {"done": "done", "failed": "lost"}.get(cell["state"], "running")
            expected[kind] += cell["seconds"] * cell["workers"] / 3600
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert row["planned"] == 36.0 * len(trained)
        assert row["usd"] == pytest.approx(2.5 * sum(expected.values()))
        assert row["usd_planned"] == 2.5 * row["planned"]


def test_without_a_plan_no_plan_is_made_up() -> None:
    sweep = {**TABLES.sweep, "plan": None}
    tables = Tables(TABLES.scores, TABLES.cells, TABLES.steps, sweep)
    assert spending.points(tables)["planned"].null_count() == 3
    assert "`radsweep plan` keeps what was planned" in texts(cards(tables)["Now"])[1]


def test_hours_of_cpus_are_not_held_against_a_plan_for_gpus() -> None:
    cells = TABLES.cells.with_columns(device=pl.lit("cpu"))
    tables = Tables(TABLES.scores, cells, TABLES.steps, TABLES.sweep)
    assert spending.points(tables).select("planned", "usd").null_count().row(0) == (3, 3)
    said = texts(cards(tables)["Now"])[1]
    assert said.endswith("device-hours, of CPU processes.") and "USD" not in said
    loaded = pl.when(pl.col("images") == 0).then(pl.lit("cpu")).otherwise("device")
    mixed = Tables(
        TABLES.scores, TABLES.cells.with_columns(device=loaded), TABLES.steps, TABLES.sweep
    )
    assert spending.points(mixed)["planned"].null_count() == 0


def test_a_plan_that_lacks_a_cell_is_not_summed() -> None:
    known = dict(list(TABLES.sweep["plan"]["cells"].items())[1:-1])
    sweep = {**TABLES.sweep, "plan": {**TABLES.sweep["plan"], "cells": known}}
    tables = Tables(TABLES.scores, TABLES.cells, TABLES.steps, sweep)
    assert spending.points(tables)["planned"].null_count() == 1
    assert "plan again" in texts(cards(tables)["Now"])[1]


def test_logs_are_binned_like_an_obvious_loop() -> None:
    found = logs.binned(TABLES, ["loss", "mfu", "never_logged"])
    assert found["quantity"].unique(maintain_order=True).to_list() == ["loss", "mfu"]
    cell = "clip-30000-s0"
    steps = TABLES.steps.filter(cell=cell)
    bins: dict[int, list[tuple[float, float]]] = {}
    for spent, loss in steps.select("spent", "loss").rows():
        part = -int(-(spent * logs.BINS) // 1)
        bins.setdefault(part, []).append((spent, loss))
    expected = [
        (max(s for s, _ in rows), sum(v for _, v in rows) / len(rows), max(v for _, v in rows))
        for _, rows in sorted(bins.items())
    ]
    rows = found.filter(cell=cell, quantity="loss").select("spent", "value", "highest").rows()
    assert rows == [pytest.approx(row) for row in expected]


def test_a_figure_that_was_never_known_is_left_out() -> None:
    steps = TABLES.steps.with_columns(mfu=pl.lit(None, dtype=pl.Float64))
    tables = Tables(TABLES.scores, TABLES.cells, steps, TABLES.sweep)
    found = throughput.points(tables)["quantity"].unique(maintain_order=True).to_list()
    assert found == ["images_per_second", "data_wait"]


def test_every_paradigm_shows_its_own_monitors() -> None:
    found = monitors.points(TABLES).select("paradigm", "quantity").unique(maintain_order=True)
    assert found.rows() == [
        ("clip", "monitor_scale"),
        ("dinov2", "monitor_cls_cosine"),
        ("unicl", "monitor_scale"),
    ]


def test_a_monitor_that_was_read_once_is_seen() -> None:
    points = monitors.points(TABLES)
    cell = points.filter(quantity="monitor_cls_cosine")["cell"][0]
    once = points.filter(quantity="monitor_cls_cosine", cell=cell).head(1)
    drawn = [trace for trace in monitors.figure(once).data if trace.y[0] is not None]
    assert [(trace.mode, list(trace.y)) for trace in drawn] == [
        ("lines+markers", once["value"].to_list())
    ]
    many = [trace.mode for trace in monitors.figure(points).data if len(trace.x) >= 10]
    assert set(many) == {"lines"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 seconds"), (720, "12 minutes"), (12_240, "3.4 hours"), (181_440, "2.1 days")],
)
def test_a_length_of_time_is_told_in_its_own_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words
