import dataclasses

import polars as pl
import pytest

from radsweep.evaluate.encoders import cell_facts
from radsweep.evaluate.wanted import wanted
from radsweep.store import Store, scores
from radsweep.store.record import CellStore
from tests.evaluate import toy


def test_a_row_says_what_its_subset_was_stratified_by(scored: Store) -> None:
    record = CellStore(scored, toy.sweep().cells()[0].name).record()
    cells = dataclasses.replace(toy.sweep(), stratify_by=("view", "sex")).cells()
    assert [cell_facts("s", cell, record)["stratify_by"] for cell in cells] == 2 * ["sex+view"]
    rows = scores.read(
        scored, [row.score for row in wanted(scored, toy.sweep(), toy.sweep().cells())]
    )
    assert rows.height > 0 and rows["stratify_by"].is_null().all()


def test_score_files_of_before_the_column_are_read_and_others_must_be_whole(scored: Store) -> None:
    row = wanted(scored, toy.sweep(), toy.sweep().cells())[0]
    now = scored.read_table(f"scores/{row.score}.parquet")
    scored.write_table("scores/older.parquet", now.drop("stratify_by"))
    scored.write_table("scores/odd.parquet", now.drop("subset_seed"))
    assert scores.read(scored, ["older"]).equals(now)
    assert scores.read(scored, ["older", row.score]).schema == scores.SCHEMA
    with pytest.raises(pl.exceptions.SchemaError, match="subset_seed"):
        scores.read(scored, ["odd"])
