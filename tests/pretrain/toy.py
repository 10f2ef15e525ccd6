"""A tiny paradigm with everything that a real one has: weights, a teacher, a buffer and dropout."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from radsweep.corpus.example import Example, Stratum, Viewer, Views
from radsweep.models.weights import StartWeights
from radsweep.paradigms.base import Paradigm
from radsweep.specs import Recipe

VERSION = 1


def _view(example: Example, generator: object, stratum: Stratum) -> Views:
    return {"image": example.pixels[None]}


@final
class Toy(Paradigm):
    """Predicts the mean of its input, with a teacher that follows."""

    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())  # type: ignore[assignment]
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 1))
        self.teacher = nn.Linear(8, 1).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(8))

    @classmethod
    def build(cls, recipe: Recipe, start: StartWeights | None, reports: Iterable[str]) -> Self:
        return cls()

    def viewer(self) -> Viewer:
        return _view

    def losses(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        pixels = batch["image"].float().flatten(1) / 255
        features = self.encoder(pixels)
        with torch.no_grad():
            self.centre.lerp_(features.mean(0), 0.1)
            target = self.teacher(features)
        answer = self.head(features)
        return {
            "mean": ((answer - pixels.mean(1, keepdim=True)) ** 2).mean(),
            "teacher": 0.1 * ((answer - target - self.centre.sum()) ** 2).mean(),
        }

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "learning_rate_scale": 1.0, "weight_decay_scale": 1.0}]

    def after_step(self, spent: float) -> None:
        with torch.no_grad():
            for mine, followed in zip(
                self.teacher.parameters(), self.head[1].parameters(), strict=True
            ):
                mine.lerp_(followed, 0.05)

    def save(self, folder: Path) -> None:
        save_file(self.encoder.state_dict(), folder / "encoder.safetensors")


PARADIGM = Toy
