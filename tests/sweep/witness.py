"""A paradigm that writes down which images it was given, in which order, at which step."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from radsweep.corpus.example import Example, Stratum, Viewer, Views
from radsweep.models.weights import StartWeights
from radsweep.paradigms.base import Paradigm
from radsweep.specs import Recipe

VERSION = 1
SEEN = "RADSWEEP_TEST_SEEN"
"""Names the folder for ``<share spent>-<rank>.npy``: uint8 [images of the rank, id letters]."""


def _view(example: Example, generator: np.random.Generator, stratum: Stratum) -> Views:
    step = example.pixels.shape[0] // 4
    return {
        "image": example.pixels[::step, ::step][None],
        "image_id": np.frombuffer(example.image_id.encode(), np.uint8).copy(),
        "draw": generator.integers(0, 256, 1, dtype=np.uint8),
    }


@final
class Witness(Paradigm):
    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))  # type: ignore[assignment]

    @classmethod
    def build(cls, recipe: Recipe, start: StartWeights | None, reports: Iterable[str]) -> Self:
        return cls()

    def viewer(self) -> Viewer:
        return _view

    def losses(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        is_shared = torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if is_shared else 0
        seen = torch.cat([batch["image_id"], batch["draw"]], dim=1).numpy()
        np.save(Path(os.environ[SEEN]) / f"{spent:.4f}-{rank}.npy", seen)
        return {"mean": self.encoder(batch["image"].float() / 255).square().mean()}

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        trained = list(self.parameters())
        return [{"params": trained, "learning_rate_scale": 1.0, "weight_decay_scale": 1.0}]

    def save(self, folder: Path) -> None:
        save_file(self.encoder.state_dict(), folder / "encoder.safetensors")


PARADIGM = Witness
