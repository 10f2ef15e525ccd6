"""What CLIP and UniCL share: an image encoder and a text tower that meet in one space."""

import math
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from radsweep.corpus.example import Viewer
from radsweep.errors import CellError, SpecError
from radsweep.models.backbone import build_backbone
from radsweep.models.gather import sum_over_ranks, world
from radsweep.models.text import TextTower
from radsweep.models.tokens import TextEncoder, train_tokenizer, vocabulary
from radsweep.models.weights import (
    ENCODER,
    PARADIGM,
    TOKENIZER,
    StartWeights,
    contiguous,
    save_encoder,
)
from radsweep.paradigms.base import Paradigm
from radsweep.paradigms.contrast import (
    FIRST_BIAS,
    LARGEST_SCALE,
    contrast,
    floor,
    sigmoid_contrast,
)
from radsweep.paradigms.groups import layer_scales, make_groups
from radsweep.paradigms.pairs import PairViewer, Words
from radsweep.paradigms.settings import require_shares
from radsweep.specs import Recipe

LOSSES = ("softmax", "sigmoid")

LEAST_TEXTS = 2
"""In a batch: one alone has nothing to be told from, and its loss is 0 whatever the weights."""


class ImageText(Paradigm):
    """Abstract. State-dict names beside the encoder are those of ``StartWeights.paradigm``."""

    def __init__(self, recipe: Recipe, settings: Any, tokenizer: str) -> None:
        """Random weights; ``settings`` is of the paradigm's own class.

        Raises SpecError where settings are impossible.
        """
        super().__init__()
        require_shares(settings, "crop_scale_min")
        if settings.temperature <= 0:
            raise SpecError(f"temperature is {settings.temperature}; it must be positive")
        if settings.loss not in LOSSES:
            raise SpecError(f"loss {settings.loss!r}; known: {', '.join(LOSSES)}")
        self.settings: Any = settings
        self.tokenizer, self.image_size = tokenizer, recipe.image_size
        self.encoder = build_backbone(
            recipe.encoder,
            recipe.image_size,
            dict(recipe.encoder_settings),
            recipe.pixel_mean,
            recipe.pixel_std,
        )
        self.text = TextTower(
            vocabulary=vocabulary(tokenizer).size,
            length=settings.text_length,
            width=settings.text_width,
            layers=settings.text_layers,
            heads=settings.text_heads,
            pooling=settings.text_pooling,
        )
        self.image_projection = _projection(self.encoder.dim, settings.embed_dim)
        self.text_projection = _projection(settings.text_width, settings.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))
        self.logit_bias: nn.Parameter | None = None
        if settings.loss == "sigmoid":
            self.logit_bias = nn.Parameter(torch.tensor(FIRST_BIAS))
        self._last_excess: Tensor | None = None
        self._fewest_texts: Tensor | None = None

    @classmethod
    def build(cls, recipe: Recipe, start: StartWeights | None, reports: Iterable[str]) -> Self:
        """See ``Paradigm.build``. A text tower comes with its tokenizer, or both are new."""
        settings = cls.read(recipe)
        tower = start is not None and "text.positions" in start.paradigm
        if start is not None and tower and start.tokenizer is not None:
            tokenizer = start.tokenizer
        else:
            tokenizer = train_tokenizer(reports, settings.vocabulary_size)
        paradigm = cls(recipe, settings, tokenizer)
        if start is not None:
            paradigm.encoder.load(start.encoder)
        if start is not None and tower:
            paradigm._load_text(start)
        return paradigm

    @classmethod
    @abstractmethod
    def read(cls, recipe: Recipe) -> Any:
        """The recipe's settings of this paradigm, checked."""

    @abstractmethod
    def words(self) -> Words:
        """What is said of an image."""

    def viewer(self) -> Viewer:
        """A crop and a text."""
        settings = self.settings
        return PairViewer(
            image_size=self.image_size,
            crop_scale_min=settings.crop_scale_min,
            jitter=settings.jitter,
            encoder=TextEncoder(
                tokenizer=self.tokenizer, length=settings.text_length, policy=settings.text_policy
            ),
            words=self.words(),
        )

    def _load_text(self, start: StartWeights) -> None:
        own = {n: t for n, t in self.state_dict().items() if not n.startswith("encoder.")}
        given = dict(start.paradigm)
        # A bias is of one loss alone: towers trained by one may go on with the other.
        if "logit_bias" in own:
            given.setdefault("logit_bias", own["logit_bias"])
        else:
            given.pop("logit_bias", None)
        faults = [f"missing: {name}" for name in sorted(own.keys() - given.keys())]
        faults += [f"surplus: {name}" for name in sorted(given.keys() - own.keys())]
        faults += [
            f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
            for name in sorted(own.keys() & given.keys())
            if own[name].shape != given[name].shape
        ]
        if faults:
            raise SpecError(
                "the starting weights' text tower does not fit the settings (text_width, "
                "text_layers, text_length, embed_dim): " + "; ".join(faults)
            )
        self.load_state_dict(given, strict=False)

    def losses(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        """One term, ``contrast``; see ``Paradigm.losses``."""
        return self.terms(self.features(batch), batch, spent)

    def features(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Images and texts [n, embed_dim] in the space where they meet."""
        image = self.encoder(batch["image"]) @ self.image_projection
        text = self.text(batch["text"]) @ self.text_projection
        return image, text

    def terms(
        self, features: Sequence[Tensor], batch: Mapping[str, Tensor], spent: float
    ) -> dict[str, Tensor]:
        """``contrast`` of a whole batch; see ``Paradigm.terms``."""
        (image, text), same = features, batch["same"]
        if self.logit_bias is None:
            loss = contrast(image, text, same, self.logit_scale)
        else:
            loss = sigmoid_contrast(image, text, same, self.logit_scale, self.logit_bias)
        with torch.no_grad():
            excess = loss.detach()
            if self.logit_bias is None:
                excess = excess - floor(same)
            self._last_excess = excess
            texts = sum_over_ranks((same >= 0).sum())
            fewest = texts if self._fewest_texts is None else self._fewest_texts
            # Looked at in ``monitors``: to read it here would make the host wait at every step.
            self._fewest_texts = torch.minimum(texts, fewest)
        return {"contrast": loss}

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """No decay on biases, norms, temperature, positions, tokens and positional filters.

        As MedImageInsight's released configuration; the text side has its own learning-rate scale.
        """
        scales = {
            f"encoder.{name}": scale
            for name, scale in layer_scales(self.encoder, recipe.layer_decay).items()
        }
        # Biases, norms, layer scales and the temperature have one axis or none.
        flat = {name for name, parameter in self.named_parameters() if parameter.ndim < 2}
        undecayed = re.compile(r"pos|token|cpe\d")
        text = self.settings.text_learning_rate_scale
        return make_groups(
            self.named_parameters(),
            lambda name: scales.get(name, text if name.startswith("text") else 1.0),
            lambda name: 0.0 if name in flat or undecayed.search(name) else 1.0,
        )

    def after_step(self, spent: float) -> None:
        """Keep the temperature where CLIP keeps it."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=LARGEST_SCALE)

    def monitors(self) -> dict[str, float]:
        """Logit scale, loss above the least it can be (comparable whatever the classes), texts.

        ``fewest_texts`` is of any batch since the start of this attempt, over all ranks.
        """
        if self._last_excess is None or self._fewest_texts is None:
            return {}
        figures = {
            "logit_scale": float(self.logit_scale.detach().exp()),
            "excess_loss": float(sum_over_ranks(self._last_excess)) / world()[1],
            "fewest_texts": float(self._fewest_texts),
        }
        if self.logit_bias is not None:
            figures["logit_bias"] = float(self.logit_bias.detach())
        return figures

    def judge(self, figures: Mapping[str, float]) -> None:
        """Raise CellError where a batch since the start had too few texts to contrast.

        Its step spent budget and taught nothing, while its loss of 0 looked like success.
        """
        fewest = figures.get("fewest_texts")
        if fewest is not None and fewest < LEAST_TEXTS:
            raise CellError(
                f"a batch had {fewest:.0f} images with a text, and it takes {LEAST_TEXTS} to "
                "contrast: the subset has too few reports or labels for this batch_size; raise it, "
                "ingest more of them, or take a paradigm that needs none"
            )

    def save(self, folder: Path) -> None:
        """Encoder, text side, tokenizer."""
        save_encoder(self.encoder, folder / ENCODER)
        rest = {n: t for n, t in self.state_dict().items() if not n.startswith("encoder.")}
        save_file(contiguous(rest), folder / PARADIGM)
        (folder / TOKENIZER).write_text(self.tokenizer)


def _projection(width: int, embed_dim: int) -> nn.Parameter:
    """Used as features @ projection, as CLIP does, with its scale of 1 / sqrt(width)."""
    return nn.Parameter(torch.randn(width, embed_dim) * width**-0.5)
