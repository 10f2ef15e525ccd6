"""A small language model that reads frozen visual tokens: can the findings be put into words?

Every encoder gives the same number of visual tokens, whatever its grid: its last map pooled to
``token_side`` x ``token_side`` positions, and its pooled vector. A two-layer projector takes them
to the language model (LLaVA, Liu et al. 2023, section 4.1; LLaVA-Rad, Chaves et al. 2024), which
writes greedily. Trained are the projector alone at first, if so asked, then both: of a language
model that is loaded, all of it, LoRA's additions, or nothing (``probes.adaptation``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.probes.adaptation import FULL, LORA, adapt, check_adaptation
from radsweep.probes.base import (
    Choice,
    Fitted,
    FrozenFeatures,
    Labelled,
    Probe,
    Range,
    batches,
    cosine_rate,
    read_settings,
    searched,
    standardiser,
)
from radsweep.probes.language import Language, Shape, build_language, load_language, seeded
from radsweep.specs import Scalar

VERSION = 1

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

POOL = 16
"""Batches among which texts are grouped by length."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the report probe."""

    language_model: str = ""
    """A local folder in the layout of transformers; empty trains a small Llama on the train
    reports."""
    adapt: str = "full"
    """What of the language model is trained: ``full``, ``lora`` (extra ``lora``), ``frozen``."""
    lora_rank: int = 16
    lora_rank_low: int = 0
    lora_rank_high: int = 0
    """Above 0, the rank is searched too."""
    lora_alpha: int = 32
    """Over the rank it is what LoRA's additions are multiplied by."""
    precision: str = "fp32"
    """In which a loaded model that is not trained in full is held: ``fp32`` or ``bf16``."""
    width: int = 128
    layers: int = 2
    heads: int = 4
    vocabulary_size: int = 800
    """The four of a model that is built here."""
    token_side: int = 4
    """Visual tokens along each side of the image."""
    projector_steps: int = 0
    """Steps at first that train the projector alone, for a language model that knows its
    language."""
    projector_learning_rate: float = 0.0
    """Peak of those first steps; 0 takes the one that is searched."""
    steps: int = 1000
    """Steps of projector and language model together."""
    batch_size: int = 16
    learning_rate: float = 5e-3
    """Peak, of AdamW; the first that a search tries. Suits a small model that starts from
    nothing."""
    learning_rate_low: float = 1e-3
    learning_rate_high: float = 2e-2
    weight_decay: float = 1e-2
    weight_decay_low: float = 0.0
    weight_decay_high: float = 0.0
    """Above 0, the decay is searched too."""
    max_tokens: int = 128
    """Of a report; longer ones are cut."""
    predict_batch_size: int = 256


@final
class _Projector(nn.Module):
    """[B, T + 1, width] from tokens [B, T, C] and pooled [B, D], each through its own layers."""

    def __init__(self, channels: int, dim: int, width: int) -> None:
        super().__init__()
        self.top = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.place = nn.Linear(channels, width)
        self.whole = nn.Linear(dim, width)

    def forward(self, tokens: Tensor, pooled: Tensor) -> Tensor:
        places = self.top[0](nn.functional.gelu(self.place(tokens)))
        whole = self.top[1](nn.functional.gelu(self.whole(pooled)))
        return torch.cat([places, whole[:, None]], dim=1)


@final
class _Reader:
    """Frozen features, standardised over the training images, as a prefix of the language model."""

    def __init__(self, train: FrozenFeatures, width: int, seed: int, device: torch.device) -> None:
        assert train.tokens is not None
        channels = train.tokens.shape[2]
        self._device = device
        self._tokens = standardiser(torch.from_numpy(train.tokens.reshape(-1, channels)).float())
        self._pooled = standardiser(torch.from_numpy(train.pooled))
        with seeded(seed + 1):
            self.projector = _Projector(channels, train.pooled.shape[1], width).to(device)

    def prefix(self, features: FrozenFeatures, rows: NDArray[np.int64]) -> Tensor:
        """[B, T + 1, width] of some rows."""
        assert features.tokens is not None
        tokens = _scaled(torch.from_numpy(features.tokens[rows]).float(), self._tokens)
        pooled = _scaled(torch.from_numpy(features.pooled[rows]), self._pooled)
        visual: Tensor = self.projector(tokens.to(self._device), pooled.to(self._device))
        return visual


def _scaled(values: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
    return (values - moments[0]) / moments[1]


@final
class _FittedReport(Fitted):
    def __init__(self, reader: _Reader, language: Language, settings: Settings) -> None:
        self._reader, self._language, self._settings = reader, language, settings

    def predict(self, features: FrozenFeatures) -> list[str]:
        """One text an image."""
        texts: list[str] = []
        self._language.model.eval()
        for rows in _slices(len(features), self._settings.predict_batch_size):
            with torch.inference_mode():
                prefix = self._reader.prefix(features, rows)
            texts += self._language.write(prefix, self._settings.max_tokens)
        return texts

    @torch.inference_mode()
    def loss(self, features: FrozenFeatures, ids: list[list[int]]) -> float:
        """Mean cross-entropy per token of texts given as token ids."""
        self._language.model.eval()
        total = 0.0
        for rows in _slices(len(features), self._settings.predict_batch_size):
            part = [ids[row] for row in rows]
            mean = self._language.loss(self._reader.prefix(features, rows), part)
            total += float(mean) * sum(len(one) for one in part)
        return total / sum(len(one) for one in ids)


def _by_length(
    order: list[NDArray[np.int64]], ids: list[list[int]], seed: int
) -> list[NDArray[np.int64]]:
    """The same draws, regrouped so that texts of one length meet: less padding."""
    lengths = np.array([len(one) for one in ids])
    generator = np.random.Generator(np.random.Philox(seed))
    grouped: list[NDArray[np.int64]] = []
    for start in range(0, len(order), POOL):
        pool = order[start : start + POOL]
        drawn = np.concatenate(pool)
        drawn = drawn[np.argsort(lengths[drawn], kind="stable")]
        parts = np.split(drawn, len(pool))
        grouped += [parts[i] for i in generator.permutation(len(pool))]
    return grouped


def _slices(images: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + size, images)) for start in range(0, images, size)]


@final
class Report(Probe):
    """Projector and language model, trained on next-token prediction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        settings: Settings = read_settings(Settings, "report", given)
        if settings.width % (2 * settings.heads) != 0:
            raise SpecError(
                f"report.width {settings.width} is not {settings.heads} heads of even width"
            )
        if min(settings.token_side, settings.batch_size, settings.steps) < 1:
            raise SpecError("report: token_side, batch_size and steps must be at least 1")
        check_adaptation(settings.adapt, settings.lora_rank, settings.lora_alpha)
        if settings.precision not in PRECISIONS:
            raise SpecError(
                f"report.precision is {settings.precision!r}; known: {', '.join(PRECISIONS)}"
            )
        if not settings.language_model and settings.adapt != FULL:
            raise SpecError(
                f"report.adapt is {settings.adapt!r}, but a model that is built here knows no "
                "language yet: name a folder in report.language_model, or train it in full"
            )
        if settings.adapt == FULL and settings.precision != "fp32":
            raise SpecError(
                f"report.precision is {settings.precision!r} and report.adapt 'full': steps of a "
                "small rate are lost in weights of so few digits; take fp32, or adapt by lora"
            )
        if settings.lora_rank_high and settings.adapt != LORA:
            raise SpecError(
                f"report.lora_rank_high is {settings.lora_rank_high}, but report.adapt is "
                f"{settings.adapt!r}, which has no rank: adapt by lora, or search it not"
            )
        probe = cls(settings)
        probe.space()
        return probe

    @property
    def token_side(self) -> int:
        """See ``Probe.token_side``."""
        return self._settings.token_side

    def space(self) -> dict[str, Range]:
        """The peak learning rate, and decay and LoRA's rank where they were given a range."""
        given = self._settings
        rate = given.learning_rate_low, given.learning_rate_high
        decay = given.weight_decay_low, given.weight_decay_high
        rank = given.lora_rank_low, given.lora_rank_high
        return {
            "learning_rate": Range(low=rate[0], high=rate[1], first=given.learning_rate),
            **searched("weight_decay", given.weight_decay, *decay),
            **searched("lora_rank", given.lora_rank, *rank, is_whole=True),
        }

    def fit(
        self, train: Labelled, val: Labelled, choice: Choice, seed: int, device: torch.device
    ) -> Fitted:
        """See ``Probe.fit``; targets are texts. ``val_score``: minus cross-entropy per token."""
        settings = self._settings
        language = self._language(list(train.targets), seed)
        language.model.to(device)
        rank = int(choice.get("lora_rank", settings.lora_rank))
        adapted = adapt(language.model, settings.adapt, rank, settings.lora_alpha, seed + 2)
        reader = _Reader(train.features, language.width, seed, device)
        ids = language.encode(list(train.targets), settings.max_tokens)
        rate = choice["learning_rate"]
        stages = [(settings.steps, rate, adapted)]
        if settings.projector_steps:
            first_rate = settings.projector_learning_rate or rate
            stages.insert(0, (settings.projector_steps, first_rate, []))
        for stage, (steps, peak, trained) in enumerate(stages):
            language.model.train()
            for parameter in adapted:
                parameter.requires_grad_(bool(trained))
            parameters = [*reader.projector.parameters(), *trained]
            optimiser = torch.optim.AdamW(
                parameters,
                lr=0.0,
                weight_decay=choice.get("weight_decay", settings.weight_decay),
                betas=(0.9, 0.95),
                foreach=True,
            )
            order = batches(len(ids), settings.batch_size, steps, seed + stage)
            for step, rows in enumerate(_by_length(order, ids, seed + stage)):
                for group in optimiser.param_groups:
                    group["lr"] = cosine_rate(step, steps, peak)
                prefix = reader.prefix(train.features, rows)
                loss = language.loss(prefix, [ids[row] for row in rows])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
        fitted = _FittedReport(reader, language, settings)
        fitted.val_score = -fitted.loss(
            val.features, language.encode(list(val.targets), settings.max_tokens)
        )
        return fitted

    def _language(self, reports: list[str], seed: int) -> Language:
        settings = self._settings
        if settings.language_model:
            return load_language(settings.language_model, PRECISIONS[settings.precision])
        shape = Shape(
            vocabulary_size=settings.vocabulary_size,
            width=settings.width,
            layers=settings.layers,
            heads=settings.heads,
            positions=settings.token_side**2 + 1 + settings.max_tokens,
        )
        return build_language(shape, reports, seed)


PROBE = Report
