"""Count what a recipe costs, once; the store keeps it."""

from dataclasses import asdict

from radsweep.pretrain.cell import build
from radsweep.pretrain.flops import REPORT, flops_per_image
from radsweep.specs import Recipe
from radsweep.store import Store
from radsweep.sweep.plan import Cost, cost_file, kept_cost


def counted_cost(recipe: Recipe, store: Store) -> Cost:
    """From the store, or by one step with random weights: only shapes count, the same for any."""
    kept = kept_cost(recipe, store)
    if kept is not None:
        return kept
    paradigm = build(recipe, None, [REPORT], seed=0)
    cost = Cost(
        flops_per_image=flops_per_image(paradigm, recipe),
        weight_bytes=sum(value.nbytes for value in paradigm.state_dict().values()),
    )
    store.write_json(cost_file(recipe), asdict(cost))
    return cost
