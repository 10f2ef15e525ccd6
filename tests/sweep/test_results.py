"""What is read of a sweep, and what a reader that asks again need not read again."""

import dataclasses
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from radsweep.specs import Sweep
from radsweep.store import Store, layout
from radsweep.store import scores as score_files
from radsweep.store.cost import Cost
from radsweep.store.record import CellStore
from radsweep.sweep.dash import load_tables
from radsweep.sweep.plan import Machine, keep_plan, make_plan
from radsweep.sweep.results import Kept, read_cells, read_scores, read_steps, read_sweep
from tests.dashboards.toy import toy_scores
from tests.evaluate.toy import CORPUS, write_cell
from tests.evaluate.toy import sweep as toy_sweep
from tests.sweep.test_checks import card


class CountingStore(Store):
    """A store that counts what it is asked to read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read: Counter[str] = Counter()

    def read_bytes(self, path: str) -> bytes:
        self.read[path] += 1
        return super().read_bytes(path)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    made = CountingStore(str(tmp_path))
    made.write_json(f"corpora/{CORPUS}/card.json", card())
    return made


@pytest.fixture
def sweep() -> Sweep:
    return dataclasses.replace(toy_sweep(), protocol=None, seeds=(0, 1))


def write_scores(store: Store, sweep: Sweep, trials: dict[str, list[str]]) -> None:
    rows = toy_scores((0,), draws=10, sweep=sweep.name).head(4)
    whole = rows.with_columns(pl.col("finished_at").dt.replace_time_zone("UTC"))
    for cell, keys in trials.items():
        for key in keys:
            score_files.write(store, key, whole.with_columns(cell=pl.lit(cell)))
    store.write_json(layout.sweep_file(sweep.name, "trials.json"), trials)


def test_rows_of_before_stratification_was_a_column_are_of_the_sweeps_own(
    store: CountingStore, sweep: Sweep
) -> None:
    stratified = dataclasses.replace(sweep, stratify_by=("view", "sex"))
    cells = [cell.name for cell in stratified.cells()[:2]]
    write_scores(store, stratified, {cells[0]: ["a"], cells[1]: ["b"]})
    path = layout.scores_file("a")
    store.write_table(path, store.read_table(path).drop("stratify_by"))
    assert set(read_scores(stratified, store)["stratify_by"]) == {"sex+view"}


def test_what_cannot_change_is_read_once_and_what_is_new_is_found(
    store: CountingStore, sweep: Sweep
) -> None:
    baseline, first, second = sweep.cells()
    kept = Kept()
    for cell in (baseline, first):
        write_cell(store, cell, seed=cell.seed)
    log = pl.DataFrame({"step": [1, 2], "spent": [0.5, 1.0], "loss": [2.0, 1.0]})
    store.write_table(CellStore(store, first.name).path("steps.parquet"), log)
    store.write_table(CellStore(store, second.name).path("steps.parquet"), log.head(1))
    write_scores(store, sweep, {first.name: ["one", "two"]})
    before = load_tables(sweep, store, kept)
    assert len(before.scores) == 8 and len(before.steps) == 3
    store.read.clear()
    again = load_tables(sweep, store, kept)
    assert again.scores.equals(before.scores) and again.steps.equals(before.steps)
    assert again.fingerprint() == before.fingerprint()
    asked = {path for path in store.read if path.startswith(("scores/", "cells/"))}
    assert asked == {CellStore(store, second.name).path("steps.parquet")}
    write_cell(store, second, seed=second.seed)
    write_scores(store, sweep, {first.name: ["one", "two"], second.name: ["three"]})
    store.read.clear()
    after = load_tables(sweep, store, kept)
    assert len(after.scores) == 12
    assert after.cells["state"].to_list() == ["done"] * 3
    assert {path for path in store.read if path.startswith("scores/")} == {"scores/three.parquet"}
    assert after.fingerprint() != before.fingerprint()
    write_scores(store, sweep, {first.name: ["one"], second.name: ["four"]})
    replaced = load_tables(sweep, store, kept)
    assert replaced.scores.equals(read_scores(sweep, store)) and len(replaced.scores) == 8


def test_a_reader_without_a_memory_reads_the_same(store: CountingStore, sweep: Sweep) -> None:
    _, first, _ = sweep.cells()
    write_cell(store, first, seed=0)
    write_scores(store, sweep, {first.name: ["one"]})
    kept = Kept()
    for _ in range(2):
        assert read_scores(sweep, store).equals(read_scores(sweep, store, kept))
        assert read_cells(sweep, store).equals(read_cells(sweep, store, kept))
        assert read_steps(sweep, store).equals(read_steps(sweep, store, kept))


def test_a_running_cell_tells_its_speed_and_an_ended_one_what_it_took(
    store: CountingStore, sweep: Sweep
) -> None:
    _, first, second = sweep.cells()
    told = {"spent": 0.5, "step": 10, "images_seen": 320, "seconds": 8.0, "workers": 2}
    CellStore(store, second.name).set_state("failed", reason="out of memory", **told)
    with CellStore(store, first.name).lease():
        speed = {"images_per_second": 40.0, "data_wait": 0.1, "mfu": None, "loss": 2.5}
        CellStore(store, first.name).set_state("running", **told, **speed)
        running, failed = read_cells(sweep, store).to_dicts()[1:]
    assert running["state"] == "running" and running["steps"] == 10
    assert {name: running[name] for name in speed} == speed
    assert failed["state"] == "failed" and failed["reason"] == "out of memory"
    assert failed["seconds"] == 8.0 and failed["workers"] == 2


def test_a_kept_plan_is_read_with_the_sweep(store: CountingStore, sweep: Sweep) -> None:
    assert read_sweep(sweep, store)["plan"] is None
    machine = Machine(name="toy", devices=2, tflops=1.0, utilisation=0.5, usd_per_hour=4.0)
    cost = Cost(flops_per_image=1e12, weight_bytes=2_000_000_000)
    made = make_plan(sweep, store, machine, lambda recipe: cost)
    keep_plan(made, store)
    plan = read_sweep(sweep, store)["plan"]
    assert plan["machine"] == "toy" and plan["usd_per_device_hour"] == 2.0
    assert plan["weights_gigabytes"] == 6.0
    assert plan["cells"] == {cell.cell: cell.device_hours for cell in made.cells}
    assert plan["usd"] == pytest.approx(2.0 * sum(plan["cells"].values()))
