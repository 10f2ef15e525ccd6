"""What a recipe costs, before there is a cell of it."""

from radsweep.pretrain.cell import build
from radsweep.pretrain.cost import counted_cost
from radsweep.pretrain.flops import REPORT
from radsweep.specs import Recipe
from radsweep.store import Store
from radsweep.store.cost import Cost


def planned_cost(recipe: Recipe, store: Store) -> Cost:
    """From the store, or by one step with random weights."""
    return counted_cost(recipe, store, lambda: build(recipe, None, [REPORT], seed=0))
