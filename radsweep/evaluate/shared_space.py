"""Images, reports and prompts in the space in which an encoder learned to match them. No Ray here.

Apart from the rest of the evaluation, since timm takes seconds to import and other trials do
without.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from radsweep import parts
from radsweep.errors import SpecError
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.texts import TOKENIZER
from radsweep.models.text import TextTower
from radsweep.models.tokens import TextEncoder, vocabulary
from radsweep.models.weights import PARADIGM
from radsweep.paradigms.image_text import ImageText
from radsweep.paradigms.prompts import ABSENT, PRESENT, every_prompt
from radsweep.probes.base import PromptSpace, SharedSpace
from radsweep.store import Store
from radsweep.store.layout import cell_folder
from radsweep.tasks.exam_retrieval import wording

TEXTS_AT_ONCE = 64


def shared_space(
    store: Store,
    encoder: Encoder,
    pooled: NDArray[np.float32],
    reports: Sequence[str],
    device: torch.device,
) -> SharedSpace:
    """Unit vectors of images and of their different reports, by the cell's own text side.

    Args:
        store: with what the cell left.
        encoder: whose features ``pooled`` are.
        pooled: [n, D].
        reports: of the n images.
        device: where texts are read.

    Raises:
        SpecError: the encoder was learned without texts, as DINOv2's is.
    """
    different, report_of = _different(reports)
    images, texts, _ = _read(store, encoder, pooled, different, device)
    return SharedSpace(images=images, reports=texts, report_of=report_of)


def prompt_space(
    store: Store,
    encoder: Encoder,
    pooled: NDArray[np.float32],
    labels: Sequence[str],
    device: torch.device,
) -> PromptSpace:
    """Unit vectors of images and of all that is said of labels, by the cell's own text side.

    Args:
        store: with what the cell left.
        encoder: whose features ``pooled`` are.
        pooled: [n, D].
        labels: as a task names them, without their prefix.
        device: where texts are read.

    Raises:
        SpecError: the encoder was learned without texts, as DINOv2's is.
    """
    said = [every_prompt(label, state) for state in (PRESENT, ABSENT) for label in labels]
    images, texts, scale = _read(store, encoder, pooled, [t for one in said for t in one], device)
    present, absent = texts.reshape(2, len(labels), len(said[0]), -1)
    return PromptSpace(images=images, present=present, absent=absent, scale=scale)


def projected(store: Store, encoder: Encoder, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors [n, E] of images by the cell's own projection; no text is read.

    Args:
        store: with what the cell left.
        encoder: whose features ``pooled`` are.
        pooled: [n, D].

    Raises:
        SpecError: the encoder was learned without texts, as DINOv2's is.
    """
    return _unit(torch.from_numpy(pooled) @ _side(store, encoder)["image_projection"])


def _read(
    store: Store,
    encoder: Encoder,
    pooled: NDArray[np.float32],
    texts: Sequence[str],
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Unit vectors of images [n, E] and texts [m, E], and the learned factor on cosines."""
    side = _side(store, encoder)
    text_encoder, tower = _tower(store, encoder, side)
    generator = np.random.default_rng(0)
    ids = torch.from_numpy(np.stack([text_encoder.encode(one, generator) for one in texts]))
    tower = tower.eval().requires_grad_(False).to(device)
    with torch.inference_mode():
        starts = range(0, len(ids), TEXTS_AT_ONCE)
        read = torch.cat([tower(ids[i : i + TEXTS_AT_ONCE].to(device)).cpu() for i in starts])
        return (
            _unit(torch.from_numpy(pooled) @ side["image_projection"]),
            _unit(read @ side["text_projection"]),
            float(side["logit_scale"].exp()),
        )


def _side(store: Store, encoder: Encoder) -> dict[str, Tensor]:
    """What the cell kept beside its encoder, by name."""
    if not issubclass(parts.find("paradigms", encoder.recipe.paradigm), ImageText):
        raise SpecError(
            f"{encoder.cell} was learned by {encoder.recipe.paradigm}, which reads no texts, so "
            "that it has no space shared with them: exam_retrieval, linear_projected and zero_shot "
            "are for clip and unicl; leave them out, or take this recipe out of the sweep"
        )
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / PARADIGM
        file.write_bytes(store.read_bytes(f"{cell_folder(encoder.cell)}/{PARADIGM}"))
        return {name: tensor.float() for name, tensor in load_file(file).items()}


def _tower(
    store: Store, encoder: Encoder, side: dict[str, Tensor]
) -> tuple[TextEncoder, TextTower]:
    kind: type[ImageText] = parts.find("paradigms", encoder.recipe.paradigm)
    settings = kind.read(encoder.recipe)
    tokenizer = store.read_bytes(f"{cell_folder(encoder.cell)}/{TOKENIZER}").decode()
    # Shuffled sentences are an augmentation: what is asked keeps its order.
    policy = "truncate" if settings.text_policy == "sentences" else settings.text_policy
    # Random weights are drawn and thrown away: keep the caller's generator as it was.
    with torch.random.fork_rng(devices=[]):
        tower = TextTower(
            vocabulary=vocabulary(tokenizer).size,
            length=settings.text_length,
            width=settings.text_width,
            layers=settings.text_layers,
            heads=settings.text_heads,
            pooling=settings.text_pooling,
        )
    text = {n.removeprefix("text."): t for n, t in side.items() if n.startswith("text.")}
    tower.load_state_dict(text)
    return TextEncoder(tokenizer=tokenizer, length=settings.text_length, policy=policy), tower


def _different(reports: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The first report of each wording, and which of them each of the n is."""
    place: dict[str, int] = {}
    different: list[str] = []
    report_of = []
    for report in reports:
        if wording(report) not in place:
            place[wording(report)] = len(different)
            different.append(report)
        report_of.append(place[wording(report)])
    return different, np.array(report_of, dtype=np.int64)


def _unit(vectors: Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = F.normalize(vectors, dim=1).numpy()
    return unit
