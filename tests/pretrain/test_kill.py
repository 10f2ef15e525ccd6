"""A cell whose process is killed again and again ends with the bytes of one that never was."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from radsweep.corpus.batch import batch_positions, make_batch
from radsweep.corpus.example import Viewer, Views
from radsweep.corpus.reader import Reader
from radsweep.corpus.subset import SubsetIndex
from radsweep.pretrain.cell import fit
from radsweep.pretrain.loop import Ranks
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.tiny import recipe
from tests.processes import FORKED

BATCH, STEPS, CHECKPOINT_STEPS, KILLS = 8, 48, 3, 10
PATIENCE_SECONDS = 120
RECIPES = {
    # Drops paths at random, so that the random state is state too.
    "dinov2": recipe("dinov2", drop_path=0.3),
    "unicl": recipe("unicl"),
}
TIMES = ("seconds", "images_per_second", "data_wait", "data_wait_seconds")


def _train(url: str, cell: Cell, parent: Connection) -> None:
    """Train in this process; say each step before its batch is given, and wait for leave."""
    torch.set_num_threads(1)
    store = Store(url)

    def batches(
        subset: SubsetIndex, viewer: Viewer, ranks: Ranks, first: int, steps: int | None
    ) -> Iterable[Views]:
        assert steps is not None
        reader = Reader(store, subset.table)
        for step in range(first, steps):
            parent.send(step)
            parent.recv()
            yield make_batch(batch_positions(step, BATCH, 1, 0), reader, viewer, 5, BATCH)

    fit(
        cell, store, Ranks(), batches,
        checkpoint_steps=CHECKPOINT_STEPS, report=lambda row: None,
    )  # fmt: skip


class _Training:
    """A process that trains the cell, step by step as it is let."""

    def __init__(self, store: Store, cell: Cell) -> None:
        # Forked from a process that has imported torch and never used it: a start takes no seconds.
        self.ear, mouth = FORKED.Pipe()
        self.process = FORKED.Process(target=_train, args=(store.url, cell, mouth))
        self.process.start()
        mouth.close()

    def steps(self) -> Iterator[int]:
        """Each step that is about to be taken; going on takes it."""
        while True:
            assert self.ear.poll(PATIENCE_SECONDS), "the training process says nothing"
            try:
                yield self.ear.recv()
            except EOFError:
                return
            self.ear.send(True)

    def end(self) -> int | None:
        self.process.join(PATIENCE_SECONDS)
        return self.process.exitcode


def cell_in(folder: Path, made: Recipe) -> tuple[Store, Cell]:
    store = Store(str(folder))
    write_corpus(store)
    budget = Budget(steps=STEPS, batch_size=BATCH)
    return store, Cell(recipe=made, subset=Subset(corpus=CORPUS, images=8), budget=budget)


def left_by(store: Store, cell: Cell) -> tuple[dict[str, bytes], pl.DataFrame]:
    """Bytes of the weights, and the log but for what is measured in time."""
    corner = CellStore(store, cell.name)
    names = [name for name in store.names(corner.path("")) if name.endswith(".safetensors")]
    assert "encoder.safetensors" in names
    log = store.read_table(corner.path("steps.parquet"))
    return {name: store.read_bytes(corner.path(name)) for name in names}, log.drop(TIMES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_cell_killed_at_ten_random_steps_ends_with_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    store, cell = cell_in(tmp_path / "whole", RECIPES[name])
    whole = _Training(store, cell)
    moments = [time.perf_counter() for _ in whole.steps()]
    assert len(moments) == STEPS and whole.end() == 0
    step_seconds = float(np.median(np.diff(moments)))
    undisturbed = left_by(store, cell)

    store, _ = cell_in(tmp_path / "killed", RECIPES[name])
    draws = np.random.default_rng(list(name.encode()))
    doomed = np.sort(draws.choice(STEPS, KILLS, replace=False)).tolist()
    may_begin = {0}
    for last in doomed:
        training = _Training(store, cell)
        for count, step in enumerate(training.steps()):
            assert count or step in may_begin
            if step == last:
                # Its forward pass, its update, its checkpoint, or the wait for the next.
                training.ear.send(True)
                time.sleep(1.5 * draws.random() * step_seconds)
                break
        assert training.process.pid is not None
        os.kill(training.process.pid, signal.SIGKILL)
        assert training.end() == -signal.SIGKILL
        # The newest may not have been written whole; then the one before it is.
        newest = (last // CHECKPOINT_STEPS, (last + 1) // CHECKPOINT_STEPS)
        may_begin = {max(0, n - back) * CHECKPOINT_STEPS for n in newest for back in (0, 1)}
    training = _Training(store, cell)
    steps = list(training.steps())
    assert training.end() == 0
    assert steps == list(range(steps[0], STEPS)) and steps[0] in may_begin
    weights, log = left_by(store, cell)
    assert weights.keys() == undisturbed[0].keys()
    assert [name for name, data in weights.items() if data != undisturbed[0][name]] == []
    assert log.equals(undisturbed[1])
