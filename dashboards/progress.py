"""How the sweep goes now, in sentences: what runs and until when, what it took, what went wrong."""

from __future__ import annotations

from typing import Any

import polars as pl

from radsweep.dashboards import spending
from radsweep.dashboards.blocks import Card, Cards, Line
from radsweep.dashboards.style import looks
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import images_short, paradigm_title

ORDER = ("done", "running", "waiting", "preempted", "failed", "collapsed", "diverged")


def duration(seconds: float) -> str:
    """A length of time to read: ``40 seconds``, ``12 minutes``, ``3.4 hours``, ``2.1 days``."""
    for unit, length, limit in (("seconds", 1, 90), ("minutes", 60, 90 * 60)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"


def _named(row: dict[str, Any]) -> str:
    scale = images_short(row["images"]) if row["images"] else "open weights"
    return f"{paradigm_title(row['paradigm'])} {scale}, seed {row['seed']}"


def seconds_left(row: dict[str, Any]) -> float | None:
    """Until a running cell is done, at the speed of its last report; None where that is unknown."""
    spent, seen, speed = row["spent"], row["images_seen"], row["images_per_second"]
    if not spent or not seen or not speed:
        return None
    return float(seen * (1 - spent) / spent / speed)


def _running(row: dict[str, Any]) -> str:
    said = [f"{row['spent'] or 0:.0%} of the budget"]
    if row["images_per_second"] is not None:
        said.append(f"{row['images_per_second']:,.3g} images/s")
    if row["data_wait"] is not None:
        said.append(f"waits for data {row['data_wait']:.0%} of the time")
    if row["mfu"] is not None:
        said.append(f"MFU {row['mfu']:.0%}")
    if row["loss"] is not None:
        said.append(f"loss {row['loss']:.3f}")
    left = seconds_left(row)
    if left is not None:
        said.append(f"about {duration(left)} to go")
    return f"{_named(row)}: {', '.join(said)}"


def _states(cells: pl.DataFrame) -> str:
    count = dict(cells["state"].value_counts().rows())
    known = [state for state in ORDER if state in count]
    others = sorted(state for state in count if state not in ORDER)
    said = ", ".join(f"{count[state]} {state}" for state in (*known, *others))
    return f"{len(cells)} cells: {said}."


def _hours(hours: float) -> str:
    return f"{hours:,.0f} device-hours" if hours >= 100 else f"{hours:.2g} device-hours"


def _taken(tables: Tables) -> list[str]:
    hours = spending.points(tables)
    if not len(hours):
        return []
    measured = hours.select(pl.sum_horizontal(list(spending.KINDS)).sum()).item()
    said = f"Pretraining has taken {_hours(measured)}"
    plan = tables.sweep.get("plan")
    if spending.on_cpu(tables):
        return [f"{said}, of CPU processes."]
    if plan is None:
        return [f"{said}. `radsweep plan` keeps what was planned, to compare it with."]
    if hours["planned"].null_count():
        return [f"{said}; the plan that was kept does not know all of these cells: plan again."]
    planned, paid = hours["planned"].sum(), hours["usd"].sum()
    return [
        f"{said}; {_hours(planned)} are planned on {plan['machine']}. At its price that is "
        f"{paid:,.2f} USD of {hours['usd_planned'].sum():,.2f}."
    ]


def blocks(tables: Tables) -> tuple[Cards, ...]:
    """What stands at the head of the runs' page; empty for a sweep without cells."""
    cells = tables.cells
    if not len(cells):
        return ()
    colour = {arm: look.colour for arm, look in looks(cells["paradigm"]).items()}
    rows = list(cells.sort("paradigm", "images", "seed").iter_rows(named=True))
    running = [row for row in rows if row["state"] == "running"]
    failed = [row for row in rows if row["reason"]]
    head = Card("Now", (Line(_states(cells)),), tuple(Line(text) for text in _taken(tables)))
    cards = [head]
    if running:
        lines = tuple(Line(_running(row), colour[row["paradigm"]]) for row in running)
        cards.append(Card("Running", (), lines))
    if failed:
        lines = tuple(
            Line(f"{_named(row)}, {row['state']}: {row['reason']}", colour[row["paradigm"]])
            for row in failed
        )
        cards.append(Card("What went wrong", (), lines))
    return (Cards(tuple(cards)),)
