"""Read what a sweep has left so far: scores, cells and logs, as tables. No Ray, no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import polars as pl

from radsweep.errors import SpecError, StoreError
from radsweep.keys import canonical
from radsweep.specs import Cell, Sweep
from radsweep.store import Store, layout, scores
from radsweep.store.record import CellStore, Record, finished_records
from radsweep.store.together import together

CELLS = pl.Schema(
    {
        "cell": pl.String,
        "recipe": pl.String,
        "paradigm": pl.String,
        "images": pl.Int64,
        "seed": pl.Int64,
        "state": pl.String,
        "spent": pl.Float64,
        "images_seen": pl.Int64,
        "steps": pl.Int64,
        "flops": pl.Float64,
        "seconds": pl.Float64,
        "images_per_second": pl.Float64,
        "data_wait": pl.Float64,
        "stream_cpus": pl.Float64,
        "stream_cpus_most": pl.Float64,
        "mfu": pl.Float64,
        "loss": pl.Float64,
        "workers": pl.Float64,
        "device": pl.String,
        "slowest_rank": pl.Int64,
        "slowest_host": pl.String,
        "slowest_times": pl.Float64,
        "reason": pl.String,
        "finished_at": pl.String,
    }
)

MANY_PIECES = 100


@final
@dataclass
class Kept:
    """What was read of one sweep and cannot change any more: records, finished logs, scores.

    One that is handed in again spares its reader the store. Whoever deletes parts of a store while
    it is read sees them until a new one begins.
    """

    records: dict[str, Record] = field(default_factory=dict)
    """By cell."""
    logs: dict[str, pl.DataFrame] = field(default_factory=dict)
    """Of finished cells, by cell."""
    trials: set[str] = field(default_factory=set)
    """Whose rows are in ``scores``."""
    scores: pl.DataFrame = field(default_factory=scores.SCHEMA.to_frame)
    """Of the sweep's cells, in the order in which trials came."""


def read_scores(sweep: Sweep, store: Store, kept: Kept | None = None) -> pl.DataFrame:
    """All score rows of the sweep's cells, in the schema of ``radsweep.store.scores``."""
    kept = kept or Kept()
    wanted = {cell.name for cell in sweep.cells()}
    index = layout.sweep_file(sweep.name, "trials.json")
    trials: dict[str, list[str]] = store.read_json(index) if store.exists(index) else {}
    keys = {key for cell, found in trials.items() if cell in wanted for key in found}
    if kept.trials - keys:
        # Something was scored anew: what it replaces is gone.
        kept.trials, kept.scores = set(), scores.SCHEMA.to_frame()
    found = scores.read_each(store, sorted(keys - kept.trials)) if keys - kept.trials else {}
    if found:
        rows = [table.filter(pl.col("cell").is_in(wanted)) for table in found.values()]
        # A table in thousands of pieces is slow to ask; one that grows by a few is slow to copy.
        whole = pl.concat([kept.scores, *rows], rechunk=len(rows) > MANY_PIECES)
        # The sweep's own, which rows of before this was a column do not say.
        strata = pl.lit("+".join(sorted(sweep.stratify_by)) or None, pl.String)
        kept.scores = whole.with_columns(stratify_by=strata)
        kept.trials |= found.keys()
    return kept.scores


def read_records(sweep: Sweep, store: Store, kept: Kept | None = None) -> dict[str, Record]:
    """The records of the sweep's finished cells, by cell."""
    known = {} if kept is None else kept.records
    cells = sweep.cells()
    unread = [cell for cell in cells if cell.name not in known]
    for cell, record in finished_records(store, unread).items():
        known[cell.name] = record
    return {cell.name: known[cell.name] for cell in cells if cell.name in known}


def read_cells(sweep: Sweep, store: Store, kept: Kept | None = None) -> pl.DataFrame:
    """One row per cell: where it stands and what it spent; of a running one, how it goes."""
    records, cells = read_records(sweep, store, kept), sweep.cells()
    open_cells = [cell.name for cell in cells if cell.name not in records]
    states = together(lambda name: CellStore(store, name).state(), open_cells)
    said = dict(zip(open_cells, states, strict=True))
    rows = [_cell_row(cell, records.get(cell.name), said.get(cell.name)) for cell in cells]
    return pl.DataFrame(rows, schema=CELLS)


def _cell_row(cell: Cell, record: Record | None, said: dict[str, Any] | None) -> dict[str, Any]:
    row = dict.fromkeys(CELLS.names()) | {
        "cell": cell.name,
        "recipe": cell.recipe.paradigm,
        "paradigm": cell.recipe.paradigm,
        "images": cell.subset.images,
        "seed": cell.seed,
    }
    if record is not None:
        return row | {
            "state": "done",
            "spent": 1.0,
            "images_seen": record.images_seen,
            "steps": record.steps,
            "flops": record.flops,
            "seconds": record.seconds,
            "workers": record.workers,
            "device": record.device,
            "finished_at": record.finished_at,
        }
    assert said is not None
    told = (
        *("spent", "images_seen", "seconds", "images_per_second", "data_wait", "mfu", "loss"),
        *("stream_cpus", "stream_cpus_most", "workers", "device"),
        *("slowest_rank", "slowest_host", "slowest_times", "reason"),
    )
    return row | {
        "state": said["state"],
        "steps": said.get("step"),
        **{name: said.get(name) for name in told},
    }


def read_steps(sweep: Sweep, store: Store, kept: Kept | None = None) -> pl.DataFrame:
    """The logs of all cells that have one, with the cell's name as first column."""
    known = {} if kept is None else kept.logs
    trained = [cell.name for cell in sweep.cells() if not cell.is_baseline]

    def read(name: str) -> pl.DataFrame | None:
        path = CellStore(store, name).path("steps.parquet")
        if not store.exists(path):
            return None
        return store.read_table(path).insert_column(0, pl.lit(name).alias("cell"))

    finished = read_records(sweep, store, kept)
    unread = [name for name in trained if name not in known]
    found = dict(zip(unread, together(read, unread), strict=True))
    known.update({n: log for n, log in found.items() if log is not None and n in finished})
    logs = [known.get(name, found.get(name)) for name in trained]
    tables = [log for log in logs if log is not None]
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame({"cell": []})


def read_label_gains(sweep: Sweep, store: Store) -> pl.DataFrame:
    """What the last run found of each label (``radsweep.evaluate.label_gains``), or no rows."""
    return _kept_table(sweep, store, "label_gains.parquet", scores.LABEL_GAINS)


def read_slices(sweep: Sweep, store: Store) -> pl.DataFrame:
    """What the last run found in slices (``radsweep.evaluate.slices``), or no rows."""
    return _kept_table(sweep, store, "slices.parquet", scores.SLICES)


def _kept_table(sweep: Sweep, store: Store, name: str, schema: pl.Schema) -> pl.DataFrame:
    path = layout.sweep_file(sweep.name, name)
    return store.read_table(path) if store.exists(path) else schema.to_frame()


def read_sweep(sweep: Sweep, store: Store, kept: Kept | None = None) -> dict[str, Any]:
    """What the sweep is: its spec, corpus card and plan, and what code made its encoders.

    ``films`` says what the patch-similarity maps were made of: it differs where they do.
    """
    try:
        card = store.read_json(f"{layout.corpus_folder(sweep.corpus)}/card.json")
    except StoreError:
        card = {}
    records = read_records(sweep, store, kept).values()
    plan = layout.sweep_file(sweep.name, "plan.json")
    maps = layout.sweep_file(sweep.name, "similarity.json")
    return {
        "name": sweep.name,
        "corpus": sweep.corpus,
        "spec": canonical(sweep),
        "card": card,
        "code_version": ", ".join(sorted({record.code_version for record in records})),
        "plan": store.read_json(plan) if store.exists(plan) else None,
        "films": store.read_json(maps) if store.exists(maps) else None,
    }


def write_rows(table: pl.DataFrame, to: Path) -> None:
    """Write a table to a .csv or .parquet file. Raises SpecError for another."""
    if to.suffix == ".parquet":
        table.write_parquet(to)
    elif to.suffix == ".csv":
        table.write_csv(to)
    else:
        raise SpecError(f"{to} is neither .csv nor .parquet")
