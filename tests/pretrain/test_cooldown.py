"""What a constant rate with a cool-down buys: a long cell's trunk is a shorter cell's where nothing
but the rate follows the share of the budget."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from radsweep.pretrain.cell import fit
from radsweep.pretrain.loop import Ranks
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.record import Record
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.tiny import ENCODER, recipe
from tests.pretrain.test_cell import BATCH, batches

STEPS, COOLS_AT = 8, 6
TRUNK = {"warmup": 0.0, "cooldown": 0.25}


def cell_of(made: Recipe, steps: int) -> Cell:
    budget = Budget(steps=steps, batch_size=BATCH)
    return Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget)


def spend(store: Store, cell: Cell) -> Record:
    return fit(
        cell, store, Ranks(), batches, checkpoint_steps=COOLS_AT, keep_every_steps=COOLS_AT,
        report=lambda row: None,
    )  # fmt: skip


def checkpoint_file(cell: Cell) -> str:
    return f"cells/{cell.name}/checkpoints/{COOLS_AT:09d}.pt"


def state_at_cooldown(store: Store, cell: Cell) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's moments."""
    data = io.BytesIO(store.read_bytes(checkpoint_file(cell)))
    kept: dict[str, Any] = torch.load(data, weights_only=True)
    moments = {
        f"{name} of {number}": value
        for number, values in kept["optimiser"]["state"].items()
        for name, value in values.items()
    }
    return kept["paradigm"] | moments


@pytest.mark.parametrize(
    ("made", "is_shared"),
    [
        (recipe("clip", **TRUNK), True),
        (recipe("unicl", **TRUNK), True),
        (recipe("clip", **(TRUNK | {"warmup": 0.25})), False),
        (recipe("clip", **TRUNK, weight_decay_end=0.4), False),
        # Drawn from the cell's own random state.
        (recipe("clip", **TRUNK, encoder_settings=ENCODER | {"drop_path_rate": 0.5}), False),
        # The teacher's momentum rises over the budget.
        (recipe("dinov2", **TRUNK), False),
    ],
    ids=["clip", "unicl", "warm-up", "decay that rises", "dropped paths", "dinov2"],
)
def test_cells_of_one_and_two_budgets_are_one_until_the_shorter_cools_down(
    made: Recipe, is_shared: bool, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    write_corpus(store)
    short, long = cell_of(made, STEPS), cell_of(made, 2 * STEPS)
    ends = [spend(store, cell).encoder_digest for cell in (short, long)]
    assert ends[0] != ends[1]
    one, other = (state_at_cooldown(store, cell) for cell in (short, long))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one) == is_shared


def test_a_short_cell_that_goes_on_from_the_long_ones_trunk_ends_as_if_trained_alone(
    tmp_path: Path,
) -> None:
    made = recipe("clip", **TRUNK)
    short, long = cell_of(made, STEPS), cell_of(made, 2 * STEPS)
    alone, branched = Store(str(tmp_path / "alone")), Store(str(tmp_path / "branched"))
    for store in (alone, branched):
        write_corpus(store)
    expected = spend(alone, short)
    spend(branched, long)
    branched.write_bytes(checkpoint_file(short), branched.read_bytes(checkpoint_file(long)))
    found = spend(branched, short)
    assert found.encoder_digest == expected.encoder_digest
    assert found.final_losses == expected.final_losses
