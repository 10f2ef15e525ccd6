"""Count what a recipe costs, once; the store keeps it for the plan and for every cell."""

from collections.abc import Callable
from dataclasses import asdict

from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.flops import flops_per_image
from radsweep.specs import Recipe
from radsweep.store import Store
from radsweep.store.cost import Cost, cost_file, kept_cost


def counted_cost(recipe: Recipe, store: Store, make: Callable[[], Paradigm]) -> Cost:
    """From the store, or by one step on a CPU, which takes a large encoder long.

    Args:
        recipe: whose cost it is.
        store: where it is kept.
        make: builds the recipe's paradigm, with any weights and texts: for FLOPs only shapes count.
    """
    kept = kept_cost(recipe, store)
    if kept is not None:
        return kept
    paradigm = make()
    cost = Cost(
        flops_per_image=flops_per_image(paradigm, recipe),
        weight_bytes=sum(value.nbytes for value in paradigm.state_dict().values()),
    )
    store.write_json(cost_file(recipe), asdict(cost))
    return cost
