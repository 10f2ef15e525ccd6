"""A run that reaches its limit of money or time stops between cells; the training is put in."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.errors import CellError, SpecError
from radsweep.pretrain.place import Workers
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.cost import Cost
from radsweep.store.record import CellStore, Record
from radsweep.sweep import run
from radsweep.sweep.limits import Ledger, Limits
from radsweep.sweep.plan import Machine
from tests.evaluate.toy import CORPUS, write_cell
from tests.evaluate.toy import sweep as toy_sweep
from tests.sweep.test_checks import card

MACHINE = Machine(name="toy", devices=2, tflops=1.0, utilisation=0.5, usd_per_hour=4.0)
HOUR_FLOPS = 0.5e12 * 3600
"""Of one device."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path))
    made.write_json(f"corpora/{CORPUS}/card.json", card())
    return made


@pytest.fixture
def sweep(store: Store) -> Sweep:
    """One baseline and three cells of one hour of one device, which costs 2 USD."""
    declared = dataclasses.replace(toy_sweep(), protocol=None, seeds=(0, 1, 2))
    assert [cell.is_baseline for cell in declared.cells()] == [True, False, False, False]
    return declared


def limits_of(sweep: Sweep, **given: float) -> Limits:
    budget = sweep.budget
    assert budget.steps is not None
    cost = Cost(flops_per_image=HOUR_FLOPS / (budget.steps * budget.batch_size), weight_bytes=1)
    return Limits(machine=MACHINE, cost_of=lambda recipe: cost, **given)


def finish(store: Store, cell: Cell, hours: float, workers: int = 1) -> Record:
    """Leaves a finished cell that took so long by the clock."""
    write_cell(store, cell, seed=cell.seed)
    corner = CellStore(store, cell.name)
    record = dataclasses.replace(corner.record(), seconds=3600 * hours, workers=workers)
    corner.finish(record)
    return record


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str | None]] = []

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        self.missing = cells

    def cell_began(self, cell: Cell) -> None:
        assert cell.name

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        self.ended.append((cell.name, state, reason))

    def grid(self, done: int, total: int) -> None:
        raise AssertionError("nothing is evaluated here")


def pretrain(
    sweep: Sweep, store: Store, limits: Limits, at_once: int = 1
) -> tuple[list[tuple[str, str]], Told]:
    told = Told()
    options = run.RunOptions(limits=limits, at_once=at_once)
    return run._pretrain(sweep.cells(), sweep, store, options, told), told


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[str]:
    """Every cell takes one device an hour; gives the names of those that were trained."""
    trained: list[str] = []

    def train(cell: Cell, root: Store, workers: Workers, leaving: object) -> Record:
        trained.append(cell.name)
        return finish(root, cell, hours=0.0 if cell.is_baseline else 1.0)

    monkeypatch.setattr(run, "run_cell", train)
    return trained


def test_no_cell_starts_whose_planned_cost_would_pass_the_limit(
    sweep: Sweep, store: Store, training: list[str]
) -> None:
    failures, told = pretrain(sweep, store, limits_of(sweep, max_usd=4.5))
    cells = [cell.name for cell in sweep.cells()]
    assert training == cells[:3]
    ((name, reason),) = failures
    assert name == cells[3] and reason.startswith("waiting: the sweep's limit is 4.50 USD; 4.00")
    assert "planned at 2.00" in reason and "--max-usd" in reason
    # Nothing was written of it: a later run, or another driver, finds it as it was.
    assert CellStore(store, name).state() == {"state": "waiting"}
    assert told.ended[-1][1] == "waiting"


def test_a_second_run_counts_what_the_first_spent_and_a_higher_limit_goes_on(
    sweep: Sweep, store: Store, training: list[str]
) -> None:
    pretrain(sweep, store, limits_of(sweep, max_usd=2.0))
    assert len(training) == 2
    failures, _ = pretrain(sweep, store, limits_of(sweep, max_usd=3.9))
    assert len(failures) == 2 and len(training) == 2
    failures, _ = pretrain(sweep, store, limits_of(sweep, max_usd=6.0))
    assert failures == [] and len(training) == 4


def test_of_a_thousand_cells_the_store_is_asked_of_those_that_have_begun(
    sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = dataclasses.replace(sweep, seeds=tuple(range(1000)))
    done, begun, next_one, *_ = large.cells()[1:]
    finish(store, done, hours=1.0)
    CellStore(store, begun.name).set_state("failed", spent=0.5, reason="no")
    ledger = Ledger(large, store, limits_of(sweep, max_usd=100), run.one_worker)
    assert ledger.committed_usd() == pytest.approx(3.0)
    asked: list[str] = []
    patiently = Store._patiently

    def listened(self: Store, path: str, do: Callable[[], object]) -> object:
        asked.append(path)
        return patiently(self, path, do)

    monkeypatch.setattr(Store, "_patiently", listened)
    assert ledger.refuses(next_one) is None
    assert ledger.committed_usd() == pytest.approx(5.0)
    assert 0 < len(asked) < 20
    assert {path for path in asked if done.name in path} == set()


def test_cells_side_by_side_count_each_others_planned_cost(sweep: Sweep, store: Store) -> None:
    ledger = Ledger(sweep, store, limits_of(sweep, max_usd=4.0), run.one_worker)
    answers = [ledger.refuses(cell) for cell in sweep.cells()]
    assert answers[:3] == [None, None, None] and answers[3] is not None
    assert ledger.committed_usd() == pytest.approx(4.0)


def test_a_cell_that_failed_half_way_has_cost_half(
    sweep: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, *others = sweep.cells()[1:]

    def train(cell: Cell, root: Store, workers: Workers, leaving: object) -> Record:
        if cell.name == failing.name:
            CellStore(root, cell.name).set_state("running", spent=0.5)
            raise CellError("no")
        return finish(root, cell, hours=0.0 if cell.is_baseline else 1.0)

    monkeypatch.setattr(run, "run_cell", train)
    limits = limits_of(sweep, max_usd=100)
    failures, _ = pretrain(sweep, store, limits)
    assert [name for name, _ in failures] == [failing.name]
    assert Ledger(sweep, store, limits, run.one_worker).committed_usd() == pytest.approx(5.0)
    assert all(CellStore(store, cell.name).is_done for cell in others)


def test_several_processes_cost_the_sum_of_their_hours(sweep: Sweep, store: Store) -> None:
    finish(store, sweep.cells()[1], hours=0.25, workers=8)
    ledger = Ledger(sweep, store, limits_of(sweep, max_usd=1), run.one_worker)
    assert ledger.committed_usd() == pytest.approx(4.0)


def test_a_limit_of_time_counts_the_clock_and_the_width_of_the_next_cell(
    sweep: Sweep, store: Store
) -> None:
    now = [0.0]
    limits = limits_of(sweep, max_hours=1.0)
    cell = sweep.cells()[1]
    two = Ledger(sweep, store, limits, lambda cell: Workers(count=2), clock=lambda: now[0])
    now[0] = 0.5 * 3600
    assert two.refuses(cell) is None
    now[0] = 0.51 * 3600
    said = two.refuses(sweep.cells()[2])
    assert said is not None and "limit is 1.00 h" in said and "--max-hours" in said


def test_limits_that_limit_nothing_are_refused(sweep: Sweep) -> None:
    with pytest.raises(SpecError, match="max_usd or max_hours"):
        limits_of(sweep)
    with pytest.raises(SpecError, match="max_usd is 0"):
        limits_of(sweep, max_usd=0)
