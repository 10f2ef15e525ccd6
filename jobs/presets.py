"""The study's three recipes, and twins of each that a laptop trains: same code, smaller numbers.

Import them in a sweep's file and say where the weights lie::

    from radsweep.jobs.presets import mi2_clip, mi2_unicl, rad_dino
    recipes = (mi2_clip("s3://weights/mi2"), mi2_unicl("s3://weights/mi2"), rad_dino("rad-dino/"))

What the study itself used ("Data Scaling Laws for Radiology Foundation Models", arXiv 2509.12818)
is not known beyond its abstract. Each value below is of one of three kinds, kept apart: published
with the weights that are continued; said by others to be so; and ours, where nothing is known or
where this package does otherwise, with the reason.
"""

import dataclasses
import math

from radsweep import Recipe, settings
from radsweep.specs import Scalar

MI2_BATCH_SIZE = 1024
"""Global batch of MedImageInsight's released configuration (2024.09.27/config.yaml)."""
RAD_DINO_BATCH_SIZE = 2560
"""16 nodes x 4 GPUs x 40 images: RAD-DINO's model card."""

Values = dict[str, Scalar]

# ----- MedImageInsight (Codella et al. 2024, arXiv 2410.06542)
# Published: its released configuration, and the shapes of the released weights.
_MI2_PUBLISHED: Values = {
    "embed_dim": 1024,
    "text_width": 1024,
    "text_layers": 16,
    "text_heads": 16,
    "text_length": 77,
    "crop_scale_min": 0.8,
    # One rate for both towers.
    "text_learning_rate_scale": 1.0,
}
# Ours.
_MI2_OURS: Values = {
    # Equal reports are no negatives of each other: label equality, as UniCL means it.
    "merge_duplicates": True,
    # 77 tokens cut most reports; what a radiologist concludes is kept first.
    "text_policy": "impression_first",
    # Instead of TrivialAugmentWide and RandomErasing, whose rotations, shears and holes move and
    # hide tubes.
    "jitter": 0.2,
}
_UNICL_OURS: Values = {
    # The mixture of reports and labels is not published.
    "label_share": 0.5,
    # One row per image, class the whole set: the reading that is true to "equal labels".
    "label_policy": "set",
}


def _mi2(paradigm: str, start_from: str, own: Values) -> Recipe:
    return Recipe(
        paradigm=paradigm,
        start_from=start_from,
        # Published: DaViT with 360.6 million parameters at 480 px, and drop path 0.2. timm's model
        # has the same tensors, one to one.
        encoder="davit_huge_fl",
        encoder_settings=settings({"drop_path_rate": 0.2}),
        image_size=480,
        # Ours: the mean over channels of the published ImageNet figures, since x-rays have one.
        pixel_mean=0.449,
        pixel_std=0.226,
        # Published, at a batch of 1024: AdamW, cosine to 1e-9, clip by global norm.
        learning_rate=1e-5,
        final_learning_rate=1e-9,
        weight_decay=0.2,
        clip_norm=1.0,
        # Ours: published are 5 steps, whatever the length; schedules here are shares.
        warmup=0.01,
        # Ours: published is fp16 with a loss scale, which bf16 needs not.
        precision="bf16",
        settings=settings(_MI2_PUBLISHED | own),
    )


def mi2_clip(start_from: str) -> Recipe:
    """MedImageInsight continued on images and reports, at a batch of ``MI2_BATCH_SIZE``.

    Args:
        start_from: the folder or URL of the released weights, text tower and tokenizer included.
    """
    return _mi2("clip", start_from, _MI2_OURS)


def mi2_unicl(start_from: str) -> Recipe:
    """The same on images, reports and structured labels."""
    return _mi2("unicl", start_from, _MI2_OURS | _UNICL_OURS)


# ----- RAD-DINO (Perez-Garcia et al. 2025, arXiv 2401.10815)
# Published: with its weights, whose head has these shapes; and DINOv2's ssl_default_config.yaml
# (Oquab et al. 2023), which it was trained with.
_RAD_DINO_PUBLISHED: Values = {
    "global_size": 518,
    "prototypes": 65536,
    "head_layers": 3,
    "head_hidden": 2048,
    "head_bottleneck": 256,
    "separate_patch_head": False,
    "targets": "centering",
    "centre_momentum": 0.9,
    "student_temperature": 0.1,
    "teacher_temperature_start": 0.04,
    "teacher_temperature": 0.07,
    "teacher_momentum": 0.992,
    "patch_weight": 1.0,
    "mask_ratio_min": 0.1,
    "mask_ratio_max": 0.5,
    "koleo_weight": 0.1,
    "patch_embed_learning_rate_scale": 0.2,
    # One "epoch" of the 100 that the schedule has.
    "freeze_last_layer": 0.01,
    "local_crops": 8,
    "drop_path": 0.0,
    "interpolation": "dinov2",
}
# Said by others: a public re-implementation that names RAD-DINO's released configuration as its
# source; the files themselves were not read.
_RAD_DINO_SAID: Values = {
    "global_scale_min": 0.5,
    "global_scale_max": 1.0,
    "local_scale_min": 0.2,
    "local_scale_max": 0.5,
    "teacher_temperature_warmup": 0.5,
    "jitter": 0.4,
}
RAD_DINO_BASE_RATE = 1e-3
"""Said by others, at a batch of 1024 and with the square root of the batch."""
# Ours.
_RAD_DINO_OURS: Values = {
    # Unknown: 98 or 196 px.
    "local_size": 98,
    # Its mean over crops: DINOv2's code blurs no first, 90 percent of second and half of local
    # crops.
    "blur": 0.5,
}


def rad_dino(start_from: str, batch_size: int = RAD_DINO_BATCH_SIZE) -> Recipe:
    """RAD-DINO continued on images alone, without flips (which its own training had: ours).

    Args:
        start_from: the folder or URL of the released weights, ``dino_head.safetensors`` included.
        batch_size: of the budget; the learning rate follows its square root.
    """
    return Recipe(
        paradigm="dinov2",
        start_from=start_from,
        # Published: ViT-B/14 at 518 px, and the mean and deviation of its training images.
        encoder="vit_base_patch14_dinov2",
        image_size=518,
        pixel_mean=0.5307,
        pixel_std=0.2583,
        learning_rate=RAD_DINO_BASE_RATE * math.sqrt(batch_size / 1024),
        # Published with DINOv2: 10 of 100 "epochs" of warm-up, and these.
        warmup=0.1,
        final_learning_rate=1e-6,
        weight_decay=0.04,
        weight_decay_end=0.4,
        layer_decay=0.9,
        # Published with DINOv2: of encoder and head each by itself.
        clip_norm=3.0,
        clip_each_module=True,
        # Ours: published is fp16.
        precision="bf16",
        settings=settings(_RAD_DINO_PUBLISHED | _RAD_DINO_SAID | _RAD_DINO_OURS),
    )


# ----- Twins: all ours, the smallest that still have every part of the large ones.
_SMALL_TOWER: Values = {
    "embed_dim": 32,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 2,
    "text_length": 32,
    "vocabulary_size": 500,
}
_SMALL_DAVIT: Values = {
    "embed_dims": "8,16,32,64",
    "num_heads": "1,2,4,8",
    "depths": "1,1,2,1",
    "window_size": 4,
    "in_chans": 1,
}


def _small_mi2(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe,
        start_from="random",
        encoder_settings=settings(dict(recipe.encoder_settings) | _SMALL_DAVIT),
        image_size=64,
        # From nothing, and in few steps.
        learning_rate=1e-3,
        precision="fp32",
        settings=settings(dict(recipe.settings) | _SMALL_TOWER),
    )


def mi2_clip_small() -> Recipe:
    """``mi2_clip`` for a CPU: a DaViT and a tower of some ten thousand parameters, random."""
    return _small_mi2(mi2_clip("random"))


def mi2_unicl_small() -> Recipe:
    """``mi2_unicl`` for a CPU."""
    return _small_mi2(mi2_unicl("random"))


def rad_dino_small() -> Recipe:
    """``rad_dino`` for a CPU and for small batches, which collapse with the large one's settings.

    BatchNorm in the head, Sinkhorn targets, few prototypes, a head warm-up and no KoLeo: what a
    public study of chest x-rays at batches of 32 and 64 found to hold.
    """
    large = rad_dino("random")
    small: Values = {
        "global_size": 56,
        "local_size": 28,
        "local_crops": 2,
        "prototypes": 128,
        "head_hidden": 64,
        "head_bottleneck": 32,
        "head_batch_norm": True,
        "targets": "sinkhorn",
        "head_warmup": 0.1,
        "koleo_weight": 0.0,
    }
    return dataclasses.replace(
        large,
        encoder_settings=settings({"embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1}),
        image_size=56,
        learning_rate=1e-3,
        precision="fp32",
        settings=settings(dict(large.settings) | small),
    )


PRESETS = {"mi2-clip": mi2_clip, "mi2-unicl": mi2_unicl, "rad-dino": rad_dino}
"""Full-size recipes by name; each takes where the weights lie."""

SMALL_PRESETS = {
    "mi2-clip": mi2_clip_small,
    "mi2-unicl": mi2_unicl_small,
    "rad-dino": rad_dino_small,
}
"""Their twins."""
