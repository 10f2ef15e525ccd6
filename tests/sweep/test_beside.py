"""Evaluation beside training: scores are there while cells still train."""

from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.pretrain.place import Workers
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.cluster import connected
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_scores
from radsweep.sweep.run import RunOptions, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]

SWEEP = """
from radsweep import Budget, Protocol, Sweep
from tests.paradigms.tiny import recipe

SWEEP = Sweep(
    name="beside",
    corpus="little@1",
    recipes=(recipe("clip"),),
    images=(20,),
    budget=Budget(steps={steps}, batch_size=8),
    protocol=Protocol(tasks=("findings",), search_trials=1, bootstraps=100),
)
"""


class Watcher:
    """An observer that notes, whenever a unit was evaluated, which cells were done by then."""

    def __init__(self, store: Store, cells: tuple[Cell, ...]) -> None:
        self._store, self._cells = store, cells
        self.seen: list[tuple[int, int, set[str]]] = []
        self.ended: list[str] = []

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        assert len(cells) + done == len(self._cells)

    def cell_began(self, cell: Cell) -> None:
        assert cell.name

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        self.ended.append(f"{cell.name} {state}")

    def grid(self, done: int, total: int) -> None:
        trained = {one.name for one in self._cells if CellStore(self._store, one.name).is_done}
        self.seen.append((done, len(self._store.names("scores")), trained))


@pytest.mark.parametrize("cpus", [4, 2])
def test_a_cell_is_scored_while_others_train_where_there_is_room_and_after_them_where_not(
    new_store: Callable[[], Store], tmp_path: Path, no_tokens: None, cpus: int
) -> None:
    file = tmp_path / "beside.py"
    file.write_text(SWEEP.format(steps=1200 if cpus == 4 else 40))
    sweep, store = load_sweep(str(file)), new_store()
    cells = sweep.cells()
    assert len(cells) == 2
    watcher = Watcher(store, cells)
    options = RunOptions(workers_for=lambda cell: Workers(cpus=1, stream_cpus=1))
    with connected(None, cpus):
        outcome = run(sweep, store, options, watcher)
    assert outcome.is_complete and len(outcome.trained) == 2
    everything = {cell.name for cell in cells}
    # The first unit that ended, and what was trained when it did.
    first = next(trained for done, scores, trained in watcher.seen if done and scores)
    assert first == ({cells[0].name} if cpus == 4 else everything)
    assert set(read_scores(sweep, store)["cell"]) == everything
    assert watcher.ended == [f"{cell.name} done" for cell in cells]
