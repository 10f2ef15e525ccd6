"""The live dashboard on a million score rows in a store: seconds to load, and to show.

``python benchmarks/dashboard.py [--rows N] [--draws D] [--store URL]`` leaves a sweep of that size
in a store (three paradigms, six scales, three seeds, four tasks of twenty probes; a file per trial,
most rows labels and slices, as in a real one), then asks the live app's server for its pages as a
browser does: everything from the store's files to the JSON that the browser draws is in the
seconds. "Nothing new" is the usual tick of an open page; "one trial more" is a tick after something
was scored. The limits are those that the project set itself: 1 s for the first page once the tables
are loaded, 0.3 s for an update. Without ``--store`` it is a temporary folder.
"""

import argparse
import dataclasses
import tempfile
import time
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from radsweep.dashboards.app import build_app
from radsweep.dashboards.charts import PAGES
from radsweep.specs import Budget, Cell, Recipe, Sweep
from radsweep.store import Store, layout
from radsweep.store import scores as score_files
from radsweep.store.record import CellStore, Record
from radsweep.sweep.dash import load_tables
from radsweep.sweep.results import Kept

ARMS = {"clip": 0.02, "dinov2": 0.04, "unicl": 0.03}
SCALES = (0, 30_000, 50_000, 100_000, 1_000_000, 3_500_000)
TASKS = ("findings", "lines_tubes", "lines_tubes_seg", "reports")
PROBES = 20
FIRST_LIMIT, UPDATE_LIMIT = 1.0, 0.3
STEP_ROWS = 1250
OUTPUTS = ("header.children", "links.children", "body.children", "mark.data")


def sweep() -> Sweep:
    """The study's grid."""
    shared: Any = {"encoder": "vit_tiny", "image_size": 224, "learning_rate": 1e-4}
    recipes = tuple(Recipe(paradigm=arm, start_from=arm, **shared) for arm in ARMS)
    budget = Budget(images_seen=12_800_000, batch_size=1024)
    return Sweep(
        **{"name": "large", "corpus": "none@1", "recipes": recipes, "budget": budget},
        **{"images": SCALES[1:], "seeds": (0, 1, 2), "protocol": None},
    )


def trial(cell: Cell, task: str, probe: int, rows: int, common: Any) -> pl.DataFrame:
    """The score rows of one trial; the first probe's first row is its task's headline."""
    rng = np.random.default_rng([cell.subset.images, cell.seed, TASKS.index(task), probe])
    images = cell.subset.images
    gain = ARMS[cell.recipe.paradigm] * float(np.log10(images / 3e4)) if images else 0.0
    value = 0.5 + gain + rng.normal(0, 0.004)
    draws = (value + common + rng.normal(0, 0.002, len(common))).astype(np.float32).tolist()
    is_head = [probe == 0 and i == 0 for i in range(rows)]
    labels = ["macro" if i == 0 else f"label {i % 20:02d}" for i in range(rows)]
    seen = 12_800_000 if images else 0
    table = pl.DataFrame(
        {
            "label": labels,
            "metric": ["auprc" if i < 20 else f"metric {i // 20}" for i in range(rows)],
            "headline": is_head,
            "draws": pl.Series([draws if h else None for h in is_head], dtype=pl.List(pl.Float32)),
        }
    )
    paradigm = cell.recipe.paradigm
    return table.with_columns(
        **{"sweep": pl.lit("large"), "cell": pl.lit(cell.name), "paradigm": pl.lit(paradigm)},
        **{"start_from": pl.lit(paradigm), "images": pl.lit(images), "seed": pl.lit(cell.seed)},
        **{"images_seen": pl.lit(seen), "epochs": pl.lit(seen / images if images else 0.0)},
        **{"flops": pl.lit(1e18), "subset_seed": pl.lit(0), "task": pl.lit(task)},
        stratify_by=pl.lit(None, pl.String),
        **{"probe": pl.lit("linear" if probe == 0 else f"probe {probe}"), "split": pl.lit("test")},
        **{"value": pl.lit(value), "ci_low": pl.lit(value - 0.02), "ci_high": pl.lit(value + 0.02)},
        **{"n_test": pl.lit(4000), "n_positive": pl.lit(900), "code_version": pl.lit("0")},
        finished_at=pl.lit("2026-03-01T08:00:00Z").str.to_datetime("%+", time_zone="UTC"),
    ).with_columns(pl.col(pl.Int32).cast(pl.Int64))


def write(store: Store, whole: Sweep, rows: int, draws: int) -> tuple[dict[str, list[str]], int]:
    """Leave cells, logs and scores in the store; gives the trials by cell and the rows written."""
    cells, made, written = whole.cells(), {}, 0
    per_trial = max(rows // (len(cells) * len(TASKS) * PROBES), 1)
    for cell in cells:
        record = Record(
            **{"cell": cell.name, "key": cell.key, "images": cell.subset.images, "patients": 1},
            **{"subset_digest": "", "images_seen": 12_800_000, "steps": 12_500, "epochs": 1.0},
            **{"flops_per_image": 1e11, "flops": 1e18, "seconds": 14_000.0, "gpu_seconds": 1e5},
            **{"workers": 8, "device": "none", "encoder_digest": "", "start_digest": ""},
            final_losses={},
        )
        CellStore(store, cell.name).finish(dataclasses.replace(record))
        spent = np.linspace(1 / STEP_ROWS, 1, STEP_ROWS)
        log = {"step": np.arange(STEP_ROWS), "spent": spent, "loss": 2 - spent}
        log |= {"images_per_second": 900 + spent, "data_wait": 0.03 * spent}
        store.write_table(CellStore(store, cell.name).path("steps.parquet"), pl.DataFrame(log))
        made[cell.name] = [f"{cell.name}-{t}-{p}" for t in TASKS for p in range(PROBES)]
        for t, task in enumerate(TASKS):
            common = np.random.default_rng(t).normal(0, 0.01, draws)
            for p in range(PROBES):
                table = trial(cell, task, p, per_trial, common)
                score_files.write(store, made[cell.name][t * PROBES + p], table)
                written += len(table)
    return made, written


def main() -> None:
    """Make, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--store")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Store(given.store or folder), given.rows, given.draws)


def measure(store: Store, rows: int, draws: int) -> None:
    """Write the sweep, ask for its pages, print the table."""
    whole, kept = sweep(), Kept()
    made, written = write(store, whole, rows, draws)
    index = layout.sweep_file(whole.name, "trials.json")
    last = whole.cells()[-1].name
    # The last trial (a probe that is no headline) is held back for the last line.
    held_back = {**made, last: made[last][:-1]}
    store.write_json(index, held_back)
    files = sum(map(len, made.values()))
    client = build_app(lambda: load_tables(whole, store, kept)).server.test_client()
    shown = Table(title=f"{written:,} score rows in {files:,} files, {draws:,} resamples")
    for name in ("what", "seconds", "limit"):
        shown.add_column(name, justify="left" if name == "what" else "right")
    mark: list[Any] = [None]

    def load() -> None:
        load_tables(whole, store, kept)

    def ask(page: str, cause: str = "where.hash") -> None:
        call = {
            "output": f"..{'...'.join(OUTPUTS)}..",
            "outputs": [dict(zip(("id", "property"), o.split("."), strict=True)) for o in OUTPUTS],
            "inputs": [
                {"id": "clock", "property": "n_intervals", "value": 0},
                {"id": "where", "property": "hash", "value": f"#{page}"},
            ],
            "state": [{"id": "mark", "property": "data", "value": mark[0]}],
            "changedPropIds": [cause],
        }
        answer = client.post("/_dash-update-component", json=call)
        if answer.status_code == 200:
            mark[0] = answer.get_json()["response"]["mark"]["data"]
        elif answer.status_code != 204:
            raise SystemExit(f"the app answered {answer.status_code}: {answer.text[:500]}")

    def clocked(what: str, act: Any, limit: float | None, *values: Any) -> None:
        began = time.perf_counter()
        act(*values)
        seconds = f"{time.perf_counter() - began:.2f}"
        shown.add_row(what, seconds, "-" if limit is None else f"{limit:.1f}")

    tick = "clock.n_intervals"
    clocked("load the tables, once", load, None)
    clocked("first page", ask, FIRST_LIMIT, PAGES[0])
    for page in PAGES[1:]:
        clocked(f"then {page}", ask, UPDATE_LIMIT, page)
    clocked("nothing new", ask, UPDATE_LIMIT, PAGES[-1], tick)
    store.write_json(index, made)
    clocked("one trial more", ask, UPDATE_LIMIT, PAGES[0], tick)
    Console(width=100).print(shown)


if __name__ == "__main__":
    main()
