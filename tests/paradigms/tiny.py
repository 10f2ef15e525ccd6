"""Paradigms small enough for a test, and x-rays for them."""

import numpy as np
import torch
from torch import Tensor

from radsweep import parts
from radsweep.corpus.example import Example, Stratum
from radsweep.models.weights import StartWeights
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.flops import stack
from radsweep.specs import Recipe

SIZE = 32
ENCODER = {
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "in_chans": 1,
    "weight_init": "jax",
}
TOWER = {
    "text_width": 32, "text_layers": 1, "text_heads": 2, "text_length": 24, "embed_dim": 16,
    "vocabulary_size": 200, "temperature": 0.2,
}  # fmt: skip
HEAD = {
    "local_size": 16, "local_crops": 2, "prototypes": 24, "head_hidden": 32, "head_bottleneck": 16,
}  # fmt: skip
SETTINGS = {"clip": TOWER, "unicl": TOWER, "dinov2": HEAD}
SENTENCES = (
    "The heart is enlarged.",
    "No pleural effusion.",
    "ET tube in good position.",
    "Normal.",
)


def recipe(paradigm: str, **changes: object) -> Recipe:
    """A recipe of a tiny ViT; keywords that are no field of it are settings of the paradigm."""
    fields: dict[str, object] = {
        "encoder": "vit_tiny_patch16_224", "encoder_settings": ENCODER, "image_size": SIZE,
        "learning_rate": 2e-3,
    }  # fmt: skip
    own = dict(SETTINGS[paradigm])
    for name, value in changes.items():
        (fields if name in Recipe.__dataclass_fields__ else own)[name] = value
    return Recipe(paradigm=paradigm, settings=own, **fields)  # type: ignore[arg-type]


def build(made: Recipe, start: StartWeights | None = None, seed: int = 0) -> Paradigm:
    torch.manual_seed(seed)
    paradigm: type[Paradigm] = parts.find("paradigms", made.paradigm)
    return paradigm.build(made, start, [example.report or "" for example in examples(16)]).train()


def examples(count: int, size: int = 40) -> list[Example]:
    """Blobs whose place the report and the labels tell."""
    made = []
    y, x = np.mgrid[:size, :size] / size
    for i in range(count):
        generator = np.random.default_rng(i)
        cy, cx = generator.random(2) * 0.8 + 0.1
        film = np.exp(-(((y - cy) / 0.15) ** 2) - ((x - cx) / 0.15) ** 2)
        noise = generator.normal(0, 0.05, film.shape)
        pixels = ((0.2 + 0.7 * film + noise).clip(0, 1) * 255).astype(np.uint8)
        words = f"{SENTENCES[i % 4]} Opacity at {int(10 * cy)} and {int(10 * cx)}."
        labels = {"finding_effusion": int(cy > 0.5), "tube_ett": -1 if cx > 0.5 else 0}
        made.append(
            Example(image_id=str(i), pixels=pixels, report=f"FINDINGS: {words}", labels=labels)
        )
    return made


def batch(paradigm: Paradigm, count: int = 8, seed: int = 0) -> dict[str, Tensor]:
    viewer = paradigm.viewer()
    return stack(
        [
            viewer(example, np.random.default_rng((seed, i)), Stratum(i, count))
            for i, example in enumerate(examples(count))
        ]
    )
