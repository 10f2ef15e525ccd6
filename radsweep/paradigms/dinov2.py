"""DINOv2 on x-rays (Oquab et al. 2023; RAD-DINO, Perez-Garcia et al. 2025): images alone.

A student predicts, from crops and masked crops, what its own moving average (the teacher) makes of
whole ones. The teacher is what is kept. The defaults are DINOv2's short schedule; a small batch
needs others, or features collapse: BatchNorm in the head, Sinkhorn targets, few prototypes, a head
warm-up, no KoLeo.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from safetensors.torch import save_file
from torch import Tensor

from radsweep.corpus.example import Viewer
from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone, build_backbone
from radsweep.models.weights import (
    ENCODER,
    StartWeights,
    contiguous,
    save_encoder,
)
from radsweep.models.weights import (
    PARADIGM as HEADS,
)
from radsweep.paradigms.base import Paradigm
from radsweep.paradigms.collapse import health, judge
from radsweep.paradigms.crops import CropViewer
from radsweep.paradigms.dino_head import DinoHead
from radsweep.paradigms.dino_losses import (
    by_crop,
    centred_targets,
    crops_first,
    dino_loss,
    koleo,
    moved_centre,
    patch_loss,
    sinkhorn_targets,
)
from radsweep.paradigms.ema import copy_frozen, cosine, follow, ramp
from radsweep.paradigms.groups import layer_scales, make_groups
from radsweep.paradigms.settings import read_settings, require_shares
from radsweep.specs import Recipe

VERSION = 1

TARGETS = ("centering", "sinkhorn")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of DINOv2. Shares are of the budget; defaults are its ssl_default_config's unless said."""

    global_size: int | None = None
    """Side of the two global crops in pixels; None is the recipe's ``image_size``."""
    local_size: int = 98
    """Side of the local crops, a multiple of the patch."""
    local_crops: int = 8
    global_scale_min: float = 0.32
    """Share of the image's area (RAD-DINO: 0.5)."""
    global_scale_max: float = 1.0
    local_scale_min: float = 0.05
    """RAD-DINO: 0.2."""
    local_scale_max: float = 0.32
    """RAD-DINO: 0.5."""
    jitter: float = 0.4
    """Strength of random brightness, contrast and gamma; there is no flip."""
    blur: float = 0.5
    """Probability that a crop is blurred."""
    interpolation: str = "dinov2"
    """How positions are read at other sizes: ``dinov2``, ``hf`` or ``timm``."""
    drop_path: float = 0.0
    """Of the student, rising linearly with depth (DINOv2: 0.3; RAD-DINO: 0)."""
    prototypes: int = 65536
    head_layers: int = 3
    head_hidden: int = 2048
    head_bottleneck: int = 256
    head_batch_norm: bool = False
    separate_patch_head: bool = False
    """A head of its own for masked patches; without, one head serves both, as in RAD-DINO."""
    targets: str = "centering"
    """How the teacher's scores are balanced: ``centering`` or ``sinkhorn``."""
    centre_momentum: float = 0.9
    sinkhorn_iterations: int = 3
    student_temperature: float = 0.1
    teacher_temperature_start: float = 0.04
    teacher_temperature: float = 0.07
    teacher_temperature_warmup: float = 0.3
    teacher_momentum: float = 0.992
    """At the start; it rises to 1 along a cosine."""
    patch_weight: float = 1.0
    """Of iBOT's masked-patch term; 0 masks nothing."""
    mask_ratio_min: float = 0.1
    """Share of a masked crop's patches."""
    mask_ratio_max: float = 0.5
    koleo_weight: float = 0.1
    """0 to 0.02 for small batches: at a batch of 64, 0.1 has been seen to harm x-ray features."""
    freeze_last_layer: float = 0.01
    """Share during which the prototypes do not move."""
    head_warmup: float = 0.0
    """Share during which only the head learns (our choice for weights without a head: 0.1)."""
    head_learning_rate_scale: float = 1.0
    patch_embed_learning_rate_scale: float = 0.2
    collapse_after: float = 0.3
    """Share after which a collapse is an error."""
    collapse_cosine: float = 0.9999
    """Mean cosine between images' class tokens above which they are one and the same."""
    collapse_entropy: float = 0.9999
    """Share of ln(prototypes) above which the entropy of a target is that of a blind guess."""


@final
class DinoV2(Paradigm):
    """Student and teacher over a ViT. ``encoder`` is the teacher's."""

    columns: ClassVar[tuple[str, ...]] = ()

    centre: Tensor
    patch_centre: Tensor

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        """Random weights. Raises SpecError where settings are impossible."""
        super().__init__()
        _check(settings)
        self.settings = settings
        self.global_size = settings.global_size or recipe.image_size
        self.student = _backbone(recipe, settings, settings.drop_path)
        self.encoder = _backbone(recipe, settings, 0.0)
        if not self.student.is_vit or self.student.model.cls_token is None:
            raise SpecError(
                f"DINOv2 needs a ViT with a class token; encoder {recipe.encoder} is none"
            )
        for size in (self.global_size, settings.local_size):
            if size % self.student.patch_size:
                raise SpecError(
                    f"crops of {size} px are no multiple of the patch, {self.student.patch_size} px"
                )
        assert self.student.mask_token is not None
        self.student.mask_token.requires_grad_(settings.patch_weight > 0)
        self.head, self.teacher_head = self._head(), self._head()
        separate = settings.separate_patch_head and settings.patch_weight > 0
        self.patch_head = self._head() if separate else None
        self.teacher_patch_head = self._head() if separate else None
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.register_buffer("patch_centre", torch.zeros(settings.prototypes))
        self._seen: dict[str, Tensor] = {}
        self._spent = 0.0
        self._copy_to_teacher()

    @classmethod
    def build(cls, recipe: Recipe, start: StartWeights | None, reports: Iterable[str]) -> Self:
        """See ``Paradigm.build``. Heads that come with the weights are loaded, others random."""
        paradigm = cls(recipe, read_settings(Settings, recipe))
        if start is not None:
            paradigm.student.load(start.encoder)
            paradigm.head.load(start.paradigm, "head.")
            if paradigm.patch_head is not None:
                paradigm.patch_head.load(start.paradigm, "patch_head.")
            paradigm._copy_to_teacher()
        return paradigm

    def _head(self) -> DinoHead:
        settings = self.settings
        return DinoHead(
            self.student.dim,
            layers=settings.head_layers,
            hidden=settings.head_hidden,
            bottleneck=settings.head_bottleneck,
            prototypes=settings.prototypes,
            batch_norm=settings.head_batch_norm,
        )

    def _pairs(self) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
        pairs: list[tuple[torch.nn.Module, torch.nn.Module]] = [
            (self.encoder, self.student),
            (self.teacher_head, self.head),
        ]
        if self.patch_head is not None and self.teacher_patch_head is not None:
            pairs.append((self.teacher_patch_head, self.patch_head))
        return pairs

    def _copy_to_teacher(self) -> None:
        for teacher, student in self._pairs():
            copy_frozen(teacher, student)

    def train(self, mode: bool = True) -> Self:
        """The teacher never drops paths."""
        super().train(mode)
        self.encoder.eval()
        return self

    def viewer(self) -> Viewer:
        """Crops and masks."""
        settings = self.settings
        return CropViewer(
            global_size=self.global_size,
            local_size=settings.local_size,
            local_crops=settings.local_crops,
            global_scale=(settings.global_scale_min, settings.global_scale_max),
            local_scale=(settings.local_scale_min, settings.local_scale_max),
            grid=self.global_size // self.student.patch_size,
            mask_ratio=(settings.mask_ratio_min, settings.mask_ratio_max),
            jitter=settings.jitter,
            blur=settings.blur,
        )

    def losses(self, batch: Mapping[str, Tensor], spent: float) -> dict[str, Tensor]:
        """``dino``, ``ibot`` and ``koleo``, weighted; see ``Paradigm.losses``."""
        settings, temperature = self.settings, self.settings.student_temperature
        large, masks = crops_first(batch["globals"]), crops_first(batch["masks"])
        targets, patch_targets = self._teach(large, masks, spent)
        cls, patches = self.student.tokens(large, masks if settings.patch_weight > 0 else None)
        small = cls.new_zeros(0, len(targets[0]), settings.prototypes)
        if settings.local_crops > 0:
            scores = self.head(self.student.tokens(crops_first(batch["locals"]))[0])
            small = by_crop(scores, settings.local_crops)
        loss = dino_loss(by_crop(self.head(cls), 2), small, targets, temperature)
        terms = {"dino": loss}
        if settings.patch_weight > 0:
            head = self.patch_head or self.head
            term = patch_loss(head(patches[masks]), patch_targets, masks, temperature)
            terms["ibot"] = settings.patch_weight * term
        if settings.koleo_weight > 0:
            spread = torch.stack([koleo(crop) for crop in cls.chunk(2)])
            terms["koleo"] = settings.koleo_weight * spread.sum()
        self._seen["dino"], self._spent = loss.detach(), spent
        return terms

    @torch.no_grad()
    def _teach(self, large: Tensor, masks: Tensor, spent: float) -> tuple[Tensor, Tensor]:
        """Targets [2, n, K] of the global crops and [m, K] of their hidden patches."""
        settings = self.settings
        temperature = ramp(
            settings.teacher_temperature_start,
            settings.teacher_temperature,
            spent,
            settings.teacher_temperature_warmup,
        )
        cls, patches = self.encoder.tokens(large)
        targets = self._balance(self.teacher_head(cls), self.centre, temperature)
        patch_targets = cls[:0]
        if settings.patch_weight > 0:
            head = self.teacher_patch_head or self.teacher_head

            patch_targets = self._balance(head(patches[masks]), self.patch_centre, temperature)
        # One crop of each image: two of the same may well be alike.
        self._seen = {"cls": cls.chunk(2)[0].float(), "targets": targets}
        return by_crop(targets, 2), patch_targets

    def _balance(self, scores: Tensor, centre: Tensor, temperature: float) -> Tensor:
        """Targets of teacher scores; the centre moves, in place, for the next batch."""
        if self.settings.targets == "sinkhorn":
            return sinkhorn_targets(scores, temperature, self.settings.sinkhorn_iterations)
        targets = centred_targets(scores, centre, temperature)
        centre.copy_(moved_centre(centre, scores, self.settings.centre_momentum))
        return targets

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """As DINOv2: layer decay, a slow patch embedding, undecayed biases, norms, layer scales.

        Class, mask and position tokens are decayed, which timm's own rule would not do.
        """
        scales = {
            f"student.{name}": scale
            for name, scale in layer_scales(self.student, recipe.layer_decay).items()
        }
        settings = self.settings
        head, slow = settings.head_learning_rate_scale, settings.patch_embed_learning_rate_scale
        undecayed = re.compile(r"bias$|norm|gamma")
        return make_groups(
            self.named_parameters(),
            lambda name: scales.get(name, head) * (slow if "patch_embed" in name else 1.0),
            lambda name: 0.0 if undecayed.search(name) else 1.0,
        )

    def before_update(self, spent: float) -> None:
        """Freeze by dropping gradients; data-parallel training needs them to be computed."""
        frozen: list[torch.nn.Module] = []
        if spent < self.settings.freeze_last_layer:
            heads = (self.head, self.patch_head)
            frozen += [head.prototypes for head in heads if head is not None]
        if spent < self.settings.head_warmup:
            frozen.append(self.student)
        for module in frozen:
            for parameter in module.parameters():
                parameter.grad = None

    def after_step(self, spent: float) -> None:
        """The teacher follows."""
        teachers, students = zip(*self._pairs(), strict=True)
        follow(teachers, students, cosine(self.settings.teacher_momentum, 1.0, spent))

    def monitors(self) -> dict[str, float]:
        """What tells a collapse, of all ranks' last batch. Raises CollapsedError at one."""
        if not self._seen:
            return {}
        figures = health(self._seen["cls"], self._seen["targets"], self._seen["dino"])
        settings, when = self.settings, f"after {self._spent:.0%} of the budget"
        if self._spent >= settings.collapse_after:
            limits = (settings.collapse_cosine, settings.collapse_entropy)
            judge(figures, settings.prototypes, *limits, when)
        return figures

    def save(self, folder: Path) -> None:
        """The teacher's encoder and heads."""
        save_encoder(self.encoder, folder / ENCODER)
        heads = {"head": self.teacher_head, "patch_head": self.teacher_patch_head}
        state = {
            f"{prefix}.{name}": tensor
            for prefix, head in heads.items()
            if head is not None
            for name, tensor in head.state_dict().items()
        }
        save_file(contiguous(state), folder / HEADS)


def _check(settings: Settings) -> None:
    if settings.targets not in TARGETS:
        raise SpecError(f"targets {settings.targets!r}; known: {', '.join(TARGETS)}")
    for name, least in (("local_crops", 0), ("head_layers", 1), ("prototypes", 2)):
        if getattr(settings, name) < least:
            raise SpecError(f"{name} is {getattr(settings, name)}; it is at least {least}")
    require_shares(
        settings,
        *("global_scale_min", "global_scale_max", "local_scale_min", "local_scale_max", "blur"),
        *("mask_ratio_min", "mask_ratio_max", "teacher_momentum", "centre_momentum"),
        *("teacher_temperature_warmup", "freeze_last_layer", "head_warmup", "collapse_after"),
    )


def _backbone(recipe: Recipe, settings: Settings, drop_path: float) -> Backbone:
    given = dict(recipe.encoder_settings)
    if drop_path > 0:
        given["drop_path_rate"] = drop_path
    return build_backbone(
        recipe.encoder,
        recipe.image_size,
        given,
        recipe.pixel_mean,
        recipe.pixel_std,
        settings.interpolation,
    )


PARADIGM = DinoV2
