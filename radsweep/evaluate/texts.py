"""What a protocol asks, and what it can ask of a text side: of cells that kept one.

No torch here.
"""

from collections.abc import Iterable

from radsweep import parts
from radsweep.specs import Cell, Protocol, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.tasks.base import Task

TOKENIZER = "tokenizer.json"
"""A cell that learned from texts leaves it; without it no text can be read."""


def asks_text_side(task: str, probe: str) -> bool:
    """Whether the text side, or the projection beside it, answers with the encoder."""
    kind: type[Task] = parts.find("tasks", task)
    return kind.needs == "shared" or probe in kind.text_probes


def is_answered(store: Store, cell: Cell, task: str, probe: str) -> bool:
    """Whether it can be asked of a finished cell: all can, save what a text side must answer."""
    if not asks_text_side(task, probe):
        return True
    return store.exists(CellStore(store, cell.name).path(TOKENIZER))


def probes_of(task: str, protocol: Protocol) -> tuple[str, ...]:
    """The probes that answer a task: its own, then those that the protocol has a setting of."""
    kind: type[Task] = parts.find("tasks", task)
    asked = {name.rpartition(".")[0] for name, _ in protocol.settings}
    return (*kind.probes, *(probe for probe in kind.other_probes if probe in asked))


def shown(task: str, probe: str) -> str:
    """For people: the task, with a probe that is extra, such as ``findings (knn)``."""
    kind: type[Task] = parts.find("tasks", task)
    return task if probe in kind.probes else f"{task} ({probe})"


def not_asked(store: Store, sweep: Sweep, cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """(cell / task, why it has no score and will get none) of the finished ``cells``."""
    protocol = sweep.protocol
    if protocol is None:
        return []
    return [
        (
            f"{cell.name} / {shown(task, probe)}",
            f"not asked: {cell.recipe.paradigm} reads no texts, and an encoder without a text "
            "side has no projection and can be asked nothing in words",
        )
        for cell in cells
        if CellStore(store, cell.name).is_done
        for task in protocol.tasks
        for probe in probes_of(task, protocol)
        if not is_answered(store, cell, task, probe)
    ]
