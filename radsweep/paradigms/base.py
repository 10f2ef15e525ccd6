"""What every way to learn must answer. The loop calls these and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor, nn

from radsweep.corpus.example import Viewer
from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone
from radsweep.models.text import TextTower
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

    def encode(self, images: Tensor) -> Tensor:
        """Pooled features [B, D] of what is kept, of images as ``Backbone`` takes them."""
        features: Tensor = self.encoder(images)
        return features

    def before_update(self, spent: float) -> None:
        """After backward and clipping, before the optimiser steps; freezing lives here.

        Default: nothing.
        """

    def after_step(self, spent: float) -> None:
        """After the optimiser stepped; the teacher's moving average lives here.

        Default: nothing.
        """

    def features(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What ``terms`` needs of each example: tensors whose first axis is the examples.

        ``losses(batch, spent)`` is ``terms(features(batch), batch, spent)``, so that a batch can be
        encoded part by part. Raises SpecError for a paradigm that cannot.
        """
        raise SpecError(
            f"{type(self).__name__} takes a batch as a whole; leave images_at_once out, or give it "
            "features and terms"
        )

    def terms(
        self, features: Sequence[Tensor], batch: Mapping[str, Tensor], spent: float
    ) -> dict[str, Tensor]:
        """The terms of ``losses`` from the features of a whole batch, in the same order."""
        raise SpecError(f"{type(self).__name__} has features and no terms; write them")

    def towers(self) -> list[Backbone | TextTower]:
        """All encoders of images and texts within, a teacher's among them.

        Raises SpecError where there is none.
        """
        towers = [module for module in self.modules() if isinstance(module, Backbone | TextTower)]
        if not towers:
            raise SpecError(
                f"{type(self).__name__} has no Backbone or TextTower; leave activation "
                "checkpointing and compilation out, or give it towers"
            )
        return towers

    def schedules(self, spent: float) -> dict[str, float]:
        """What the paradigm itself changes over the budget, by name, for the log.

        Default: nothing.
        """
        return {}

    def monitors(self) -> dict[str, float]:
        """Health figures of the last step, for the log. A collective: all ranks give the same."""
        return {}

    def judge(self, figures: Mapping[str, float]) -> None:
        """Raise CollapsedError, or another CellError, where ``monitors`` tell of a lost cell.

        Called once the figures are in the log. Default: nothing.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write ``encoder.safetensors``, and what another cell needs to go on from here.

        That is ``paradigm.safetensors`` (text tower, heads) and ``tokenizer.json`` where there is
        one.
        """
