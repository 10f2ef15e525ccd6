"""What a recipe costs, which the store keeps once it was counted."""

from dataclasses import dataclass

from radsweep import keys, parts
from radsweep.specs import FLOPS_VERSION, Recipe
from radsweep.store.layout import Store


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a recipe costs, counted by building it and running one step."""

    flops_per_image: float
    """Training FLOPs: see ``radsweep.pretrain.flops`` for the convention."""
    weight_bytes: int
    """Of everything that a finished cell keeps; of a text tower's words about, since their number
    follows the reports or the weights that it started from."""


def cost_file(recipe: Recipe) -> str:
    """Where the counted cost of a recipe is kept in the store."""
    # What it starts from changes values and not shapes, so that it must not cost another count.
    shapes = {**keys.canonical(recipe), "start_from": None}
    versions = [parts.version("paradigms", recipe.paradigm), FLOPS_VERSION]
    return f"costs/{keys.key_of([shapes, *versions])}.json"


def kept_cost(recipe: Recipe, store: Store) -> Cost | None:
    """The cost if it was counted before, without building anything."""
    path = cost_file(recipe)
    return Cost(**store.read_json(path)) if store.exists(path) else None
