"""Parameter groups: which learning rate and which weight decay a parameter gets."""

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
