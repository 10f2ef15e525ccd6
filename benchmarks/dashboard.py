"""The dashboard on a million score rows: seconds to the first page and to each update.

``python benchmarks/dashboard.py [--rows N] [--draws D]`` makes up a sweep of that size (three
paradigms, six scales, three seeds, four tasks; most rows are labels and slices, as in a real one),
then asks the live app's server for its pages, as a browser would. "Unchanged" is the usual tick of
an open page; "one score more" is a tick after a cell was scored. The limits are those that the
project set itself: 1 s for the first page, 0.3 s for an update. Reading the tables from the store
is not in it.
"""

import argparse
import time

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from radsweep.dashboards.app import Reader
from radsweep.dashboards.charts import PAGES
from radsweep.dashboards.tables import Tables

ARMS = {"clip": 0.02, "dinov2": 0.04, "unicl": 0.03}
SCALES = (0, 30_000, 50_000, 100_000, 1_000_000, 3_500_000)
TASKS = ("findings", "lines_tubes", "lines_tubes_seg", "reports")
SEEDS = 3
FIRST_LIMIT, UPDATE_LIMIT = 1.0, 0.3


def scores(rows: int, draws: int) -> pl.DataFrame:
    """A score table of about ``rows`` rows: a headline per cell and task, the rest labels."""
    rng = np.random.default_rng(0)
    places = [
        (arm, images, seed, task)
        for arm in ARMS
        for images in SCALES
        for seed in (range(SEEDS) if images else (0,))
        for task in TASKS
    ]
    shared = rng.normal(0, 0.01, draws)
    heads, keys = [], []
    for arm, images, seed, task in places:
        value = (
            0.5
            + (ARMS[arm] * float(np.log10(images / 3e4)) if images else 0)
            + rng.normal(0, 0.004)
        )
        sample = value + shared + rng.normal(0, 0.002, draws)
        keys.append((f"{arm}-{images}-s{seed}", arm, images, seed, task, value))
        heads.append(sample.astype(np.float32).tolist())
    names = ("cell", "paradigm", "images", "seed", "task", "value")
    base = pl.DataFrame(keys, schema=names, orient="row")
    head = base.with_columns(
        label=pl.lit("macro"),
        metric=pl.lit("auprc"),
        headline=True,
        draws=pl.Series(heads, dtype=pl.List(pl.Float32)),
    )
    per_place = max(rows // len(places) - 1, 1)
    labels = pl.DataFrame(
        {
            "label": [f"label {i % 20:02d}" for i in range(per_place)],
            "metric": ["auprc" if i < 20 else f"metric {i // 20}" for i in range(per_place)],
        }
    )
    rest = base.join(labels, how="cross").with_columns(
        headline=False, draws=pl.lit(None, dtype=pl.List(pl.Float32))
    )
    return pl.concat([head, rest.select(head.columns)]).with_columns(
        **{"sweep": pl.lit("large"), "start_from": pl.col("paradigm"), "subset_seed": pl.lit(0)},
        **{"probe": pl.lit("linear"), "split": pl.lit("test"), "code_version": pl.lit("0")},
        **{"ci_low": pl.col("value") - 0.02, "ci_high": pl.col("value") + 0.02},
        **{"n_positive": pl.lit(900, dtype=pl.Int64), "n_test": pl.lit(4000, dtype=pl.Int64)},
        epochs=12.8e6 / pl.col("images"),
    )


def tables(table: pl.DataFrame) -> Tables:
    """The other tables, small ones."""
    cells = table.filter("headline").unique("cell").select("cell", "paradigm", "images", "seed")
    cells = cells.with_columns(
        **{"state": pl.lit("done"), "spent": pl.lit(1.0), "images_seen": pl.lit(12_800_000)},
        **{"steps": pl.lit(12_500), "flops": pl.lit(1e18), "seconds": pl.lit(14_000.0)},
        **{"reason": pl.lit(None, dtype=pl.String), "workers": pl.lit(8)},
        **dict.fromkeys(
            ("images_per_second", "data_wait", "mfu", "loss"), pl.lit(None, pl.Float64)
        ),
    )
    spec = {"images": list(SCALES), "tasks": list(TASKS)}
    sweep = {"name": "large", "corpus": "none@1", "spec": spec, "code_version": "0", "card": {}}
    return Tables(table, cells, pl.DataFrame({"cell": []}), sweep)


def main() -> None:
    """Make, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    table = scores(given.rows, given.draws)
    changed = table.with_columns(
        value=pl.when(pl.int_range(pl.len()) == 5).then(pl.col("value") + 0.001).otherwise("value")
    )
    now = [tables(table)]
    reader = Reader(lambda: now[0])
    shown = Table(title=f"{len(table):,} score rows, {given.draws:,} resamples")
    for name in ("what", "seconds", "limit"):
        shown.add_column(name, justify="left" if name == "what" else "right")

    def ask(what: str, page: str, limit: float) -> None:
        began = time.perf_counter()
        reader.read(page)
        shown.add_row(what, f"{time.perf_counter() - began:.2f}", f"{limit:.1f}")

    ask("first page", PAGES[0], FIRST_LIMIT)
    for page in PAGES[1:]:
        ask(f"then {page}", page, UPDATE_LIMIT)
    ask("unchanged", PAGES[0], UPDATE_LIMIT)
    now[0] = tables(changed)
    ask("one score more", PAGES[0], UPDATE_LIMIT)
    Console(width=100).print(shown)


if __name__ == "__main__":
    main()
