"""Read what a sweep has left so far: scores, cells and logs, as tables. No Ray, no torch."""

from pathlib import Path
from typing import Any

import polars as pl

from radsweep.errors import SpecError, StoreError
from radsweep.keys import canonical
from radsweep.specs import Sweep
from radsweep.store import Store, layout, scores
from radsweep.store.record import CellStore

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
        "workers": pl.Int64,
        "reason": pl.String,
        "finished_at": pl.String,
    }
)


def read_scores(sweep: Sweep, store: Store) -> pl.DataFrame:
    """All score rows of the sweep's cells, in the schema of ``radsweep.store.scores``."""
    wanted = {cell.name for cell in sweep.cells()}
    index = layout.sweep_file(sweep.name, "trials.json")
    trials: dict[str, list[str]] = store.read_json(index) if store.exists(index) else {}
    keys = sorted({key for cell, found in trials.items() if cell in wanted for key in found})
    return scores.read(store, keys).filter(pl.col("cell").is_in(wanted))


def read_cells(sweep: Sweep, store: Store) -> pl.DataFrame:
    """One row per cell: where it stands and what it spent."""
    return pl.DataFrame([_cell_row(cell, store) for cell in sweep.cells()], schema=CELLS)


def _cell_row(cell: Any, store: Store) -> dict[str, Any]:
    corner = CellStore(store, cell.name)
    row = dict.fromkeys(CELLS.names()) | {
        "cell": cell.name,
        "recipe": cell.recipe.paradigm,
        "paradigm": cell.recipe.paradigm,
        "images": cell.subset.images,
        "seed": cell.seed,
    }
    if corner.is_done:
        record = corner.record()
        return row | {
            "state": "done",
            "spent": 1.0,
            "images_seen": record.images_seen,
            "steps": record.steps,
            "flops": record.flops,
            "seconds": record.seconds,
            "workers": record.workers,
            "finished_at": record.finished_at,
        }
    said = corner.state()
    return row | {
        "state": said["state"],
        "spent": said.get("spent"),
        "images_seen": said.get("images_seen"),
        "steps": said.get("step"),
        "images_per_second": said.get("images_per_second"),
        "reason": said.get("reason"),
    }


def read_steps(sweep: Sweep, store: Store) -> pl.DataFrame:
    """The logs of all cells that have one, with the cell's name as first column."""
    tables = []
    for cell in sweep.cells():
        path = CellStore(store, cell.name).path("steps.parquet")
        if not cell.is_baseline and store.exists(path):
            tables.append(store.read_table(path).insert_column(0, pl.lit(cell.name).alias("cell")))
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame({"cell": []})


def read_sweep(sweep: Sweep, store: Store) -> dict[str, Any]:
    """What the sweep is: its spec, its corpus card, and the code that made its encoders."""
    try:
        card = store.read_json(f"{layout.corpus_folder(sweep.corpus)}/card.json")
    except StoreError:
        card = {}
    records = [CellStore(store, cell.name) for cell in sweep.cells()]
    versions = sorted({corner.record().code_version for corner in records if corner.is_done})
    return {
        "name": sweep.name,
        "corpus": sweep.corpus,
        "spec": canonical(sweep),
        "card": card,
        "code_version": ", ".join(versions),
    }


def write_rows(table: pl.DataFrame, to: Path) -> None:
    """Write a table to a .csv or .parquet file. Raises SpecError for another."""
    if to.suffix == ".parquet":
        table.write_parquet(to)
    elif to.suffix == ".csv":
        table.write_csv(to)
    else:
        raise SpecError(f"{to} is neither .csv nor .parquet")
