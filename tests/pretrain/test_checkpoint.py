"""Checkpoints are written while training goes on, and nobody leaves before they are."""

import io
import re
import threading
import time
from pathlib import Path

import pytest
import torch

from radsweep.errors import PreemptedError, StoreError
from radsweep.pretrain.cell import fit
from radsweep.pretrain.loop import Ranks
from radsweep.specs import Budget, Cell, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.tiny import recipe
from tests.pretrain.test_cell import BATCH, batches
from tests.pretrain.test_loop import STEPS, train

PATIENCE_SECONDS = 60


class GatedStore(Store):
    """Begins to write a checkpoint, and goes on once its gate is open."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.events: list[str] = []
        self.gate = threading.Event()

    def write_bytes(self, path: str, data: bytes) -> None:
        step = int(path.rpartition("/")[2].removesuffix(".pt"))
        self.events.append(f"write {step}")
        assert self.gate.wait(PATIENCE_SECONDS), "nobody opened the gate: training waits for it"
        super().write_bytes(path, data)
        self.events.append(f"wrote {step}")


def state_at(store: Store, step: int) -> dict[str, torch.Tensor]:
    data = store.read_bytes(f"cells/toy/checkpoints/{step:09d}.pt")
    state: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), weights_only=True)["paradigm"]
    return state


def test_training_goes_on_while_a_slow_store_writes_and_what_is_written_stays_as_it_was(
    tmp_path: Path,
) -> None:
    store = GatedStore(str(tmp_path / "slow"))

    def taken(step: int) -> None:
        store.events.append(f"step {step}")
        if step == 7:
            store.gate.set()

    train(tmp_path, store=store, taken=taken, keep_every_steps=4)
    order = store.events.index
    assert order("write 4") < order("step 6") < order("step 7") < order("wrote 4")
    # One at a time: the next step is not begun before the last checkpoint but one is there.
    for first, second in ((4, 8), (8, 12), (12, 16), (16, 20), (20, 24)):
        assert order(f"wrote {first}") < order(f"write {second}")
        assert order(f"wrote {first}") < order(f"step {second}")
    quick = Store(str(tmp_path / "quick"))
    train(tmp_path, store=quick, keep_every_steps=4)
    for step in range(4, STEPS, 4):
        found, expected = state_at(store, step), state_at(quick, step)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


class SlowStore(Store):
    def write_bytes(self, path: str, data: bytes) -> None:
        time.sleep(0.3)
        super().write_bytes(path, data)


def test_who_must_leave_waits_until_the_checkpoint_is_there(tmp_path: Path) -> None:
    store = SlowStore(str(tmp_path))
    with pytest.raises(PreemptedError):
        train(tmp_path, store=store, must_leave=lambda: True)
    assert store.names("cells/toy/checkpoints")[-1] == f"{10:09d}.pt"


class RefusingStore(Store):
    """Refuses the checkpoint of one step."""

    def __init__(self, url: str, step: int) -> None:
        super().__init__(url)
        self.step = step

    def write_bytes(self, path: str, data: bytes) -> None:
        if path.endswith(f"checkpoints/{self.step:09d}.pt"):
            raise StoreError(f"the store is full: {path} was not written")
        super().write_bytes(path, data)


@pytest.mark.parametrize(("refused", "last"), [(4, 7), (8, 11), (24, 24)])
def test_a_checkpoint_that_was_not_written_ends_the_cell_at_the_next_or_at_the_end(
    refused: int, last: int, tmp_path: Path
) -> None:
    steps: list[int] = []
    with pytest.raises(StoreError, match=f"full: .*{refused:09d}.pt was not written"):
        train(tmp_path, store=RefusingStore(str(tmp_path), refused), taken=steps.append)
    assert steps[-1] == last


def test_who_must_leave_says_that_no_checkpoint_was_kept(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was not written"):
        train(tmp_path, store=RefusingStore(str(tmp_path), 10), must_leave=lambda: True)


def test_a_cell_whose_last_checkpoint_was_refused_leaves_no_encoder(tmp_path: Path) -> None:
    store = RefusingStore(str(tmp_path), 4)
    write_corpus(store)
    budget = Budget(steps=6, batch_size=BATCH)
    cell = Cell(recipe=recipe("clip"), subset=Subset(corpus=CORPUS, images=4), budget=budget)
    with pytest.raises(StoreError, match=re.escape(cell.name)):
        fit(cell, store, Ranks(), batches, checkpoint_steps=4, report=lambda row: None)
    names = store.names(CellStore(store, cell.name).path(""))
    assert not [name for name in names if name.endswith(".safetensors")]
