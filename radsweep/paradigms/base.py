"""What every way to learn must answer. The loop calls these and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor, nn

from radsweep.corpus.example import Viewer
from radsweep.models.backbone import Backbone
from radsweep.models.weights import StartWeights
from radsweep.specs import Recipe


class Paradigm(nn.Module, ABC):
    """Abstract; each paradigm is final.

    ``state_dict()`` holds all that a resume needs (teacher, centres).
    """

    columns: ClassVar[tuple[str, ...]]
    """What it reads of a corpus beside pixels: ``"report"``, ``"labels"``."""

    encoder: Backbone
    """What is kept and evaluated; for a teacher-student paradigm, the teacher's."""

    @classmethod
    @abstractmethod
    def build(cls, recipe: Recipe, start: StartWeights | None, reports: Iterable[str]) -> Self:
        """A fresh instance, weights from ``start`` or random from torch's current generator.

        Args:
            recipe: names the encoder and the settings.
            start: weights to continue from; None for ``start_from="random"``.
            reports: of the subset, in order; read only by a paradigm that trains its own tokenizer.

        Raises SpecError where the settings or the weights do not fit the recipe.
        """

    @abstractmethod
    def viewer(self) -> Viewer:
        """The view maker that goes with these settings."""

    @abstractmethod
    def losses(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        """Scalar terms whose sum is minimised, each logged by name.

        In a distributed run every rank passes its equal share of the global batch, and each term,
        averaged over ranks, has the value and the gradient of the single-process one on the whole
        batch.

        Args:
            batch: stacked views, first axis the examples of this rank.
            spent: share of the budget spent before this step, in [0, 1).
        """

    @abstractmethod
    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """Groups for AdamW.

        Each has ``params``, ``learning_rate_scale`` and ``weight_decay_scale`` (floats).
        """

    def forward(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        """``losses`` under the name that DistributedDataParallel calls."""
        return self.losses(batch, spent)

    def before_update(self, spent: float) -> None:
        """After backward and clipping, before the optimiser steps; freezing lives here.

        Default: nothing.
        """

    def after_step(self, spent: float) -> None:
        """After the optimiser stepped; the teacher's moving average lives here.

        Default: nothing.
        """

    def monitors(self) -> dict[str, float]:
        """Health figures of the last step, for the log.

        Raises CollapsedError when it has collapsed.
        """
        return {}

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write ``encoder.safetensors``, and what another cell needs to go on from here.

        That is ``paradigm.safetensors`` (text tower, heads) and ``tokenizer.json`` where there is
        one.
        """
