"""Which encoders can be asked in words: those whose cell kept a text side. No torch here."""

from collections.abc import Iterable

from radsweep import parts
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore

TOKENIZER = "tokenizer.json"
"""A cell that learned from texts leaves it; without it no text can be read."""


def is_answered(store: Store, cell: Cell, task: str) -> bool:
    """Whether the task can be asked of a finished cell: all can, save those that need texts."""
    needs_texts = vars(parts.find("tasks", task))["needs"] == "shared"
    return not needs_texts or store.exists(CellStore(store, cell.name).path(TOKENIZER))


def not_asked(store: Store, sweep: Sweep, cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """(cell / task, why it has no score and will get none) of the finished ``cells``."""
    tasks = sweep.protocol.tasks if sweep.protocol is not None else ()
    return [
        (
            f"{cell.name} / {task}",
            f"not asked: {cell.recipe.paradigm} reads no texts, and no report can be found by an "
            "encoder without a text tower",
        )
        for cell in cells
        if CellStore(store, cell.name).is_done
        for task in tasks
        if not is_answered(store, cell, task)
    ]
