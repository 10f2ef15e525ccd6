"""Parameter groups: which learning rate and which weight decay a parameter gets."""

import re
from collections.abc import Callable, Iterable

from torch import nn

from radsweep.models.backbone import Backbone


def layer_scales(encoder: Backbone, decay: float) -> dict[str, float]:
    """Learning-rate scales by name: ``decay`` to the power of the distance from the top."""
    layers = encoder.layer_of()
    top = max(layers.values())
    return {name: decay ** (top - layer) for name, layer in layers.items()}


def make_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    rate: Callable[[str], float],
    decay: Callable[[str], float],
) -> list[dict[str, object]]:
    """Parameters that need a gradient, in one group per (learning-rate scale, weight-decay scale).

    Args:
        named: names and parameters, in a fixed order.
        rate: name -> learning-rate scale.
        decay: name -> weight-decay scale.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            groups.setdefault((rate(name), decay(name)), []).append(parameter)
    return [
        {"params": members, "learning_rate_scale": scales[0], "weight_decay_scale": scales[1]}
        for scales, members in sorted(groups.items(), key=lambda item: item[0])
    ]


def dino_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    student: Backbone,
    *,
    decay: float,
    head: float,
    patch_embed: float,
) -> list[dict[str, object]]:
    """As DINOv2: layer decay, a slow patch embedding, undecayed biases, norms, layer scales.

    Class, mask and position tokens are decayed, which timm's own rule would not do.

    Args:
        named: parameters of student (under ``student.``) and heads.
        student: whose layers these are.
        decay: learning-rate factor per layer below the top.
        head: learning-rate scale of what is no layer of the student.
        patch_embed: further scale of the patch embedding.
    """
    scales = {f"student.{name}": scale for name, scale in layer_scales(student, decay).items()}
    undecayed = re.compile(r"bias$|norm|gamma")
    return make_groups(
        named,
        lambda name: scales.get(name, head) * (patch_embed if "patch_embed" in name else 1.0),
        lambda name: 0.0 if undecayed.search(name) else 1.0,
    )
