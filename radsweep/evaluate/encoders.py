"""A finished cell as the evaluation sees it: what its weights are, and facts for the score rows."""

from dataclasses import dataclass
from typing import Any, Self, final

from radsweep.keys import canonical
from radsweep.specs import Cell, Recipe
from radsweep.store.record import Record


@final
@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One encoder; two cells with the same weights and preprocessing have the same identity."""

    cell: str
    """Whose folder holds the weights."""
    digest: str
    """SHA-256 of the weights."""
    recipe: Recipe

    @classmethod
    def of(cls, cell: Cell, record: Record) -> Self:
        """Of a finished cell."""
        return cls(cell=cell.name, digest=record.encoder_digest, recipe=cell.recipe)

    @property
    def identity(self) -> dict[str, Any]:
        """What its features depend on: weights, shape and preprocessing, not training."""
        recipe = self.recipe
        return {
            "digest": self.digest,
            "encoder": recipe.encoder,
            "encoder_settings": canonical(dict(recipe.encoder_settings)),
            "image_size": recipe.image_size,
            "pixel_mean": recipe.pixel_mean,
            "pixel_std": recipe.pixel_std,
        }


def cell_facts(sweep: str, cell: Cell, record: Record) -> dict[str, Any]:
    """The columns of a score row that say which cell it is of."""
    return {
        "sweep": sweep,
        "cell": cell.name,
        "paradigm": cell.recipe.paradigm,
        "start_from": cell.recipe.start_from,
        # The scale that was asked for: the whole last patient may add an image or two, and a scale
        # is what cells are grouped by.
        "images": cell.subset.images,
        "images_seen": record.images_seen,
        "epochs": record.epochs,
        "flops": record.flops,
        "seed": cell.seed,
        "subset_seed": cell.subset.seed,
        "stratify_by": "+".join(cell.subset.stratify_by) or None,
    }
