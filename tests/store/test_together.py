import dataclasses
import threading
import time
from pathlib import Path

import pytest

from radsweep.store import Store
from radsweep.store.record import CellStore, finished, finished_records
from radsweep.store.together import AT_ONCE, together
from tests.evaluate import toy


def test_so_many_are_asked_at_once_and_answers_keep_the_order_of_the_questions() -> None:
    all_there = threading.Barrier(AT_ONCE)

    def ask(number: int) -> int:
        all_there.wait(timeout=30)
        time.sleep((AT_ONCE - number % AT_ONCE) / 1000)
        return number * number

    assert together(ask, range(2 * AT_ONCE)) == [n * n for n in range(2 * AT_ONCE)]
    assert together(ask, []) == []


def test_what_a_question_raises_reaches_who_asked() -> None:
    with pytest.raises(ZeroDivisionError):
        together(lambda number: 1 // number, [2, 1, 0])


def test_finished_cells_and_their_records_come_in_the_order_asked_without_the_others(
    tmp_path: Path,
) -> None:
    sweep = dataclasses.replace(toy.sweep(), images=(2, 4, 8))
    store, cells = Store(str(tmp_path)), sweep.cells()
    for cell in cells:
        toy.write_cell(store, cell, seed=0)
    store.delete(CellStore(store, cells[1].name).path("DONE"))
    backwards = cells[::-1]
    left = tuple(cell for cell in backwards if cell != cells[1])
    assert finished(store, backwards) == left and len(left) == 3
    found = finished_records(store, backwards)
    assert tuple(found) == left
    assert all(record.cell == cell.name for cell, record in found.items())
