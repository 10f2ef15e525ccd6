"""What settings of DINOv2 are impossible, said before a step is taken."""

from typing import Any

from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone
from radsweep.paradigms.settings import require_shares

TARGETS = ("centering", "sinkhorn")


def check_settings(settings: Any) -> None:
    """Raise SpecError unless every setting of ``dinov2.Settings`` can be."""
    if settings.targets not in TARGETS:
        raise SpecError(f"targets {settings.targets!r}; known: {', '.join(TARGETS)}")
    for name, least in (
        ("local_crops", 0), ("head_layers", 1), ("prototypes", 2), ("gram_weight", 0),
    ):  # fmt: skip
        if getattr(settings, name) < least:
            raise SpecError(f"{name} is {getattr(settings, name)}; it is at least {least}")
    require_shares(
        settings,
        *("global_scale_min", "global_scale_max", "local_scale_min", "local_scale_max", "blur"),
        *("mask_ratio_min", "mask_ratio_max", "teacher_momentum", "centre_momentum"),
        *("teacher_temperature_warmup", "freeze_last_layer", "head_warmup", "collapse_after"),
        "gram_from",
    )
    if settings.gram_refresh is not None and not 0 < settings.gram_refresh <= 1:
        raise SpecError(
            f"gram_refresh is {settings.gram_refresh}; it is a share of the budget in (0, 1], or "
            "None"
        )


def check_encoder(encoder: Backbone, *sizes: int) -> None:
    """Raise SpecError unless it is a ViT with a class token and its patch divides these sizes."""
    if not encoder.is_vit or encoder.model.cls_token is None:
        raise SpecError(f"DINOv2 needs a ViT with a class token; encoder {encoder.name} is none")
    for size in sizes:
        if size % encoder.patch_size:
            raise SpecError(
                f"crops of {size} px are no multiple of the patch, {encoder.patch_size} px"
            )
