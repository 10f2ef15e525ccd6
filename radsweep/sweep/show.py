"""How a sweep looks on a terminal when it is asked about: tables."""

import json
from typing import Any

import polars as pl
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from radsweep.specs import short_count
from radsweep.sweep.plan import Plan

STATE_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "collapsed": "red",
    "diverged": "red",
    "blocked": "yellow",
    "preempted": "yellow",
}
MOST_PAIRS = 40
"""Differences that a terminal shows."""
TASKS_ABREAST = 4
"""Columns of scores that fit on a terminal of 80 characters."""

LONG_WAIT = 0.2
"""Share of a cell's time that is worth a word where it waits for images."""

SLOW_TIMES = 1.3
"""Of the others' time: a process that takes so much longer is worth a word."""


def _table(title: str, words: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    """Columns of words, folded where the terminal is narrow, and of figures, kept whole."""
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def card_table(card: dict[str, Any]) -> Table:
    """What an ingest kept, split by split, and what it refused, reason by reason."""
    counted = ("images", "patients", "exams", "reports", "masks")
    table = _table(
        f"corpus {card['corpus']}: {card['images']:,} images of {card['files']:,} files",
        ("",),
        counted,
    )
    for split, counts in card["splits"].items():
        table.add_row(
            split,
            *(f"{counts[name]:,}" for name in counted),
        )
    table.add_section()
    for reason, files in card["quarantined"].items():
        table.add_row(f"[yellow]quarantined: {reason}[/yellow]", f"{files:,}")
    return table


def plan_table(plan: Plan) -> Table:
    """The grid with what every cell takes."""
    table = _table(
        f"sweep {plan.sweep} on {plan.corpus} ({plan.corpus_images:,} images to pretrain on)",
        ("cell", "state"),
        ("images", "steps", "epochs", "PFLOP", "device\nhours", "USD", "MB\nkept"),
    )
    for cell in plan.cells:
        style = STATE_STYLES.get(cell.state, "white")
        table.add_row(
            cell.cell,
            f"[{style}]{cell.state}[/{style}]",
            short_count(cell.images),
            "by time" if cell.steps is None else f"{cell.steps:,}",
            "" if cell.epochs is None else f"{cell.epochs:,.1f}",
            f"{cell.flops / 1e15:,.2f}",
            f"{cell.device_hours:,.2f}",
            f"{cell.usd:,.2f}",
            f"{cell.weight_bytes / 1e6:,.1f}",
        )
    table.add_section()
    table.add_row(
        f"still to run: {plan.count('missing')} of {len(plan.cells)}",
        "",
        "",
        "",
        "",
        f"{plan.total('flops') / 1e15:,.2f}",
        f"{plan.total('device_hours'):,.2f}",
        f"{plan.total('usd'):,.2f}",
        f"{plan.total('weight_bytes') / 1e6:,.1f}",
    )
    return table


def _why(row: dict[str, Any]) -> str:
    """Why a cell failed, or what keeps one that runs."""
    if row["reason"] is not None or row["state"] != "running":
        return row["reason"] or ""
    said, wait, times = [], row["data_wait"] or 0.0, row["slowest_times"] or 1.0
    if wait >= LONG_WAIT:
        said.append(f"waits for images {wait:.0%} of the time{_what_helps(row, wait)}")
    if times >= SLOW_TIMES:
        who = f"worker {row['slowest_rank'] + 1}, on {row['slowest_host']}"
        said.append(f"{who}, takes {times:.1f} times the others' time: all wait")
    return "; ".join(said)


def _what_helps(row: dict[str, Any], wait: float) -> str:
    """Against the wait for images; nothing where that is all that a cell does."""
    cpus, most = row["stream_cpus"], row["stream_cpus_most"]
    if cpus is not None and most is not None and cpus < most:
        return f": its stream may hold {cpus:g} CPUs, and up to {most:g} as it needs them"
    if wait >= 1:
        return ""
    has = "" if cpus is None else f" ({cpus:g}, if the cluster has them)"
    return f": {1 / (1 - wait):.1f} times the --stream-cpus{has} would do"


def status_table(sweep: str, cells: pl.DataFrame) -> Table:
    """Each cell: where it stands, how fast it goes, what keeps it, and why it failed."""
    table = _table(
        f"sweep {sweep}",
        ("cell", "state", "reason"),
        ("images", "progress", "images/s", "seconds\nleft"),
    )
    for row in cells.iter_rows(named=True):
        style = STATE_STYLES.get(row["state"], "white")
        left = ""
        if row["state"] == "running" and row["spent"] and row["images_per_second"]:
            left = f"{row['images_seen'] * (1 / row['spent'] - 1) / row['images_per_second']:,.0f}"
        table.add_row(
            row["cell"],
            f"[{style}]{row['state']}[/{style}]",
            escape(_why(row)),
            short_count(row["images"]),
            "" if row["spent"] is None else f"{row['spent']:.0%}",
            "" if row["images_per_second"] is None else f"{row['images_per_second']:,.0f}",
            left,
        )
    return table


def scores_table(scores: pl.DataFrame) -> Group:
    """The headline scores: one row per encoder, one column per task, or per probe of several.

    As many columns to a table as a terminal of 80 shows whole.
    """
    several = pl.col("probe").n_unique().over("task") > 1
    named = pl.when(several).then(pl.format("{} ({})", "task", "probe")).otherwise("task")
    headline = scores.filter(pl.col("headline")).with_columns(named.alias("task"))
    headline = headline.sort("images", "paradigm", "seed")
    tasks = headline.select("task", "metric").unique().sort("task").rows()
    starts = range(0, max(1, len(tasks)), TASKS_ABREAST)
    return Group(*(_scores(headline, tasks[start : start + TASKS_ABREAST]) for start in starts))


def _scores(headline: pl.DataFrame, tasks: list[tuple[str, str]]) -> Table:
    has_seeds = headline["seed"].n_unique() > 1
    table = Table(
        title="headline scores on held-out patients, and 95% intervals", box=box.SIMPLE_HEAD
    )
    # Narrow where it can be, so that TASKS_ABREAST fit.
    for name in ("paradigm", "images", *(["seed"] if has_seeds else [])):
        table.add_column(name)
    for task, metric in tasks:
        table.add_column(f"{task.replace('_', ' ')}\n{metric}", justify="right", min_width=11)
    for (paradigm, images, seed), group in headline.group_by(
        "paradigm", "images", "seed", maintain_order=True
    ):
        row = {
            task: f"{value:.3f}\n[dim]{low:.3f}-{high:.3f}[/dim]"
            for task, value, low, high in group.select(
                "task", "value", "ci_low", "ci_high"
            ).iter_rows()
        }
        scale = "open weights" if images == 0 else short_count(int(str(images)))
        place = [str(paradigm), scale, *([str(seed)] if has_seeds else [])]
        table.add_row(*place, *(row.get(task, "") for task, _ in tasks))
    return table


def laws_table(fits: pl.DataFrame, x: str, y: str, by: list[str]) -> Table:
    """Fitted laws of any table: one row per curve and form, the chosen form marked."""
    table = _table(
        f"{y} against {x}",
        (*by, "form", "parameters, flags"),
        ("scales", "R2", "RMSE", "held-out\nerror"),
    )
    for row in fits.iter_rows(named=True):
        theta = ", ".join(f"{name} {value:.4g}" for name, value in json.loads(row["theta"]).items())
        figures = (row["r2"], row["rmse"], row["leave_largest_out"])
        table.add_row(
            *(str(row[name]) for name in by),
            f"[bold]{row['form']}[/bold] (chosen)" if row["chosen"] else row["form"],
            escape("\n".join(part for part in (theta, row["flags"]) if part)),
            str(row["scales"]),
            *("" if value is None else f"{value:.4g}" for value in figures),
        )
    return table


def report_metrics_table(rows: pl.DataFrame) -> Table:
    """One further metric of the stored reports: a row per encoder and number."""
    names = ", ".join(rows["metric"].unique(maintain_order=True))
    several = rows["metric"].n_unique() > 1
    table = _table(
        f"stored reports, {names or 'none'}",
        ("cell", *(("metric",) if several else ())),
        ("value", "95% interval", "reports"),
    )
    order = rows.with_row_index().sort("images", "paradigm", "seed", "index")
    for row in order.iter_rows(named=True):
        known = None not in (row["value"], row["ci_low"], row["ci_high"])
        table.add_row(
            row["cell"],
            *((row["metric"],) if several else ()),
            f"{row['value']:.3f}" if known else "-",
            f"{row['ci_low']:.3f} to {row['ci_high']:.3f}" if known else "-",
            str(row["n_test"]),
        )
    return table


def differences_table(differences: pl.DataFrame) -> Table:
    """Paired differences between encoders, the surest first; at most ``MOST_PAIRS``."""
    first = differences.head(1).to_dicts()
    what = f"{first[0]['task']}, {first[0]['metric']} ({first[0]['label']}): " if first else ""
    shown = differences.sort(
        "p", pl.col("difference").abs(), descending=[False, True], nulls_last=True
    )
    several = differences["probe"].n_unique() > 1
    left = max(0, len(shown) - MOST_PAIRS)
    table = _table(
        f"{what}first less second" + (f"; {left} more pairs: --to FILE" if left else ""),
        (*(("probe",) if several else ()), "first", "second"),
        ("difference", "95% interval", "corrected p"),
    )
    for row in shown.head(MOST_PAIRS).iter_rows(named=True):
        is_known = row["difference"] is not None and row["ci_low"] is not None
        table.add_row(
            *((row["probe"],) if several else ()),
            row["cell"],
            row["other"],
            f"{row['difference']:+.3f}" if is_known else "-",
            f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}" if is_known else "-",
            "-" if row["p_holm"] is None else f"{row['p_holm']:.3g}",
        )
    return table


def next_cells_table(cells: pl.DataFrame) -> Table:
    """Which cell to run next: how much of the forecasts' width it would take away."""
    table = _table(
        "what would make the forecasts surer", ("paradigm", "run"), ("narrower", "per device-hour")
    )
    for row in cells.head(5).iter_rows(named=True):
        per_hour = row["narrower_per_device_hour"]
        table.add_row(
            row["paradigm"],
            f"{row['what']} at {row['images']:,} images",
            f"{row['narrower']:.0%}",
            "" if per_hour is None else f"{per_hour:.0%}",
        )
    return table
