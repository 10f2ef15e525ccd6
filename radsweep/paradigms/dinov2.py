"""DINOv2 on x-rays (Oquab et al. 2023; RAD-DINO, Perez-Garcia et al. 2025): images alone.

A student predicts, from crops and masked crops, what its own moving average (the teacher) makes of
whole ones. The teacher is what is kept. The defaults are DINOv2's short schedule; a small batch
needs others, or features collapse: BatchNorm in the head, Sinkhorn targets, few prototypes, a head
warm-up, no KoLeo.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from safetensors.torch import save_file
from torch import Tensor

from radsweep.corpus.example import Viewer
from radsweep.models import weights
from radsweep.models.backbone import Backbone, build_backbone
from radsweep.paradigms import dino_losses as dino
from radsweep.paradigms.base import Paradigm
from radsweep.paradigms.collapse import health, judge
from radsweep.paradigms.crops import CropViewer
from radsweep.paradigms.dino_checks import check_encoder, check_settings
from radsweep.paradigms.dino_head import DinoHead, heads_state
from radsweep.paradigms.dino_losses import by_crop, by_image, crops_first
from radsweep.paradigms.ema import copy_frozen, cosine, follow, ramp
from radsweep.paradigms.gram import gram_loss, is_due
from radsweep.paradigms.groups import dino_groups
from radsweep.paradigms.settings import read_settings
from radsweep.specs import Recipe

VERSION = 3


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
    """Share of a masked crop's patches; even over the global batch up to ``mask_ratio_max``."""
    mask_ratio_max: float = 0.5
    koleo_weight: float = 0.1
    """0 to 0.02 for small batches: at a batch of 64, 0.1 has been seen to harm x-ray features."""
    gram_weight: float = 0.0
    """Of Gram anchoring, which keeps patches as alike as an earlier encoder found them (DINOv3:
    2.0, late in training); 0 anchors nothing."""
    gram_from: float = 0.0
    """Share of the budget from which on it counts."""
    gram_refresh: float | None = None
    """Share of the budget between moments at which the teacher becomes the anchor; None keeps the
    starting weights."""
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
    collapse_prototypes: float = 1.01
    """Prototypes in use below which all images choose one."""


@final
class DinoV2(Paradigm):
    """Student and teacher over a ViT. ``encoder`` is the teacher's."""

    columns: ClassVar[tuple[str, ...]] = ()

    centre: Tensor
    patch_centre: Tensor

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        """Random weights. Raises SpecError where settings are impossible."""
        super().__init__()
        check_settings(settings)
        self.settings = settings
        self.global_size = settings.global_size or recipe.image_size
        self.student = _backbone(recipe, settings, settings.drop_path)
        self.encoder = _backbone(recipe, settings, 0.0)
        check_encoder(self.student, self.global_size, settings.local_size)
        assert self.student.mask_token is not None
        self.student.mask_token.requires_grad_(settings.patch_weight > 0)
        self.head, self.teacher_head = self._head(), self._head()
        separate = settings.separate_patch_head and settings.patch_weight > 0
        self.patch_head = self._head() if separate else None
        self.teacher_patch_head = self._head() if separate else None
        self.anchor: Backbone | None = None
        if settings.gram_weight > 0:
            self.anchor = _backbone(recipe, settings, 0.0)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.register_buffer("patch_centre", torch.zeros(settings.prototypes))
        self._seen: dict[str, Tensor] = {}
        self._spent = 0.0
        self._copy_to_teacher()

    @classmethod
    def build(
        cls, recipe: Recipe, start: weights.StartWeights | None, reports: Iterable[str]
    ) -> Self:
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
        pairs = (
            (self.encoder, self.student),
            (self.teacher_head, self.head),
            (self.teacher_patch_head, self.patch_head),
        )
        return [(one, other) for one, other in pairs if one is not None and other is not None]

    def _copy_to_teacher(self) -> None:
        for teacher, student in self._pairs():
            copy_frozen(teacher, student)
        if self.anchor is not None:
            copy_frozen(self.anchor, self.encoder)

    def train(self, mode: bool = True) -> Self:
        """Teacher and anchor never drop paths."""
        super().train(mode)
        self.encoder.eval()
        if self.anchor is not None:
            self.anchor.eval()
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
        """``dino``, ``ibot``, ``koleo`` and ``gram``, weighted; see ``Paradigm.losses``."""
        targets = self._teach(batch, spent)
        return self._terms(*self._learn(batch), targets, batch, spent)

    def features(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Student's class tokens and patches of global crops [n, 2, ...], then of local ones."""
        cls, patches, small = self._learn(batch)
        found = by_image(cls, 2), by_image(patches, 2)
        return found if small is None else (*found, by_image(small, self.settings.local_crops))

    def terms(
        self, features: Sequence[Tensor], batch: Mapping[str, Tensor], spent: float
    ) -> dict[str, Tensor]:
        """The same terms from a whole batch's features; see ``Paradigm.terms``."""
        cls, patches, *rest = [crops_first(feature) for feature in features]
        targets = self._teach(batch, spent)
        return self._terms(cls, patches, rest[0] if rest else None, targets, batch, spent)

    def _learn(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """The student's class tokens [2 n, D], patches [2 n, N, D] and local class tokens."""
        masks = crops_first(batch["masks"]) if self.settings.patch_weight > 0 else None
        cls, patches = self.student.tokens(crops_first(batch["globals"]), masks)
        if self.settings.local_crops == 0:
            return cls, patches, None
        return cls, patches, self.student.tokens(crops_first(batch["locals"]))[0]

    def _terms(
        self,
        cls: Tensor,
        patches: Tensor,
        locals_: Tensor | None,
        targets: tuple[Tensor, Tensor],
        batch: Mapping[str, Tensor],
        spent: float,
    ) -> dict[str, Tensor]:
        settings, temperature = self.settings, self.settings.student_temperature
        masks = crops_first(batch["masks"])
        small = cls[:0] if locals_ is None else locals_
        hidden = patches[masks] if settings.patch_weight > 0 else cls[:0]
        large, small, hidden = _scores(self.head, self.patch_head, cls, small, hidden)
        small = small.reshape(-1, len(cls) // 2, settings.prototypes)
        loss = dino.dino_loss(by_crop(large, 2), small, targets[0], temperature)
        terms = {"dino": loss}
        if settings.patch_weight > 0:
            term = dino.patch_loss(hidden, targets[1], masks, temperature)
            terms["ibot"] = settings.patch_weight * term
        if settings.koleo_weight > 0:
            spread = torch.stack([dino.koleo(crop) for crop in cls.chunk(2)])
            terms["koleo"] = settings.koleo_weight * spread.sum()
        if self.anchor is not None and spent >= settings.gram_from:
            with torch.no_grad():
                held = self.anchor.tokens(crops_first(batch["globals"]))[1]
            terms["gram"] = settings.gram_weight * gram_loss(patches, held)
        self._seen["dino"], self._spent = loss.detach(), spent
        return terms

    @torch.no_grad()
    def _teach(self, batch: Mapping[str, Tensor], spent: float) -> tuple[Tensor, Tensor]:
        """Targets [2, n, K] of the global crops and [m, K] of their hidden patches."""
        temperature = self.schedules(spent)["teacher_temperature"]
        cls, patches = self.encoder.tokens(crops_first(batch["globals"]))
        masked = self.settings.patch_weight > 0
        hidden = patches[crops_first(batch["masks"])] if masked else cls[:0]
        scores, hidden = _scores(self.teacher_head, self.teacher_patch_head, cls, hidden)
        targets = self._balance(scores, self.centre, temperature)
        patch_targets = self._balance(hidden, self.patch_centre, temperature) if masked else hidden
        # One crop of each image: two of the same may well be alike.
        self._seen = {"cls": cls.chunk(2)[0].float(), "scores": scores, "targets": targets}
        return by_crop(targets, 2), patch_targets

    def _balance(self, scores: Tensor, centre: Tensor, temperature: float) -> Tensor:
        """Targets of teacher scores; the centre moves, in place, for the next batch."""
        if self.settings.targets == "sinkhorn":
            return dino.sinkhorn_targets(scores, temperature, self.settings.sinkhorn_iterations)
        targets = dino.centred_targets(scores, centre, temperature)
        centre.copy_(dino.moved_centre(centre, scores, self.settings.centre_momentum))
        return targets

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """As DINOv2; see ``groups.dino_groups``."""
        return dino_groups(
            self.named_parameters(),
            self.student,
            decay=recipe.layer_decay,
            head=self.settings.head_learning_rate_scale,
            patch_embed=self.settings.patch_embed_learning_rate_scale,
        )

    def before_update(self, spent: float) -> None:
        """Freeze by dropping gradients; data-parallel training needs them to be computed."""
        frozen: list[torch.nn.Module] = []
        if spent < self.settings.freeze_last_layer:
            frozen += [h.prototypes for h in (self.head, self.patch_head) if h is not None]
        if spent < self.settings.head_warmup:
            frozen.append(self.student)
        for module in frozen:
            for parameter in module.parameters():
                parameter.grad = None

    def schedules(self, spent: float) -> dict[str, float]:
        """The teacher's temperature, and its momentum once the step is taken."""
        settings = self.settings
        return {
            "teacher_temperature": ramp(
                settings.teacher_temperature_start,
                settings.teacher_temperature,
                spent,
                settings.teacher_temperature_warmup,
            ),
            "teacher_momentum": cosine(settings.teacher_momentum, 1.0, spent),
        }

    def after_step(self, spent: float) -> None:
        """The teacher follows; the anchor, where it is time, becomes what the teacher now is."""
        teachers, students = zip(*self._pairs(), strict=True)
        follow(teachers, students, self.schedules(spent)["teacher_momentum"])
        if self.anchor is not None and is_due(self._spent, spent, self.settings.gram_refresh):
            copy_frozen(self.anchor, self.encoder)

    def monitors(self) -> dict[str, float]:
        """What tells a collapse, of all ranks' last batch; see ``collapse.health``."""
        if not self._seen:
            return {}
        return health(*(self._seen[name] for name in ("cls", "scores", "targets", "dino")))

    def judge(self, figures: Mapping[str, float]) -> None:
        """Raise CollapsedError at a collapse, once ``collapse_after`` of the budget is spent."""
        if figures and self._spent >= self.settings.collapse_after:
            judge(figures, self.settings, f"after {self._spent:.0%} of the budget")

    def save(self, folder: Path) -> None:
        """The teacher's encoder and heads."""
        weights.save_encoder(self.encoder, folder / weights.ENCODER)
        heads = heads_state(head=self.teacher_head, patch_head=self.teacher_patch_head)
        save_file(weights.contiguous(heads), folder / weights.PARADIGM)


def _scores(head: DinoHead, patch_head: DinoHead | None, *groups: Tensor) -> list[Tensor]:
    """Of groups of rows, the last of which are hidden patches; these by their own head, if any."""
    if patch_head is None:
        return head.each(*groups)
    return [*head.each(*groups[:-1]), patch_head(groups[-1])]


def _backbone(recipe: Recipe, settings: Settings, drop_path: float) -> Backbone:
    given = dict(recipe.encoder_settings) | ({"drop_path_rate": drop_path} if drop_path > 0 else {})
    size, mean, std = recipe.image_size, recipe.pixel_mean, recipe.pixel_std
    return build_backbone(recipe.encoder, size, given, mean, std, settings.interpolation)


PARADIGM = DinoV2
