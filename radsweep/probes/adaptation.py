"""How much of a language model learns from the reports: nothing, low-rank additions, or all of it.

LoRA (Hu et al. 2021, arXiv 2106.09685) is peft's: W x + (alpha / rank) B A x beside every linear
map but the last, with B = 0 at first, so that the model begins as it was. No dropout, whose draws
would hang on the device.
"""

import importlib
import importlib.util

import torch
from torch import nn

from radsweep.errors import SpecError
from radsweep.probes.language import seeded

FROZEN, LORA, FULL = "frozen", "lora", "full"
WAYS = (FROZEN, LORA, FULL)


def check_adaptation(way: str, rank: int, alpha: int) -> None:
    """Raise SpecError for an unknown way, numbers below 1, or LoRA without peft."""
    if way not in WAYS:
        raise SpecError(f"report.adapt is {way!r}; known: {', '.join(WAYS)}")
    if min(rank, alpha) < 1:
        raise SpecError(f"report.lora_rank {rank} and lora_alpha {alpha} must be at least 1")
    if way == LORA and importlib.util.find_spec("peft") is None:
        raise SpecError(
            "report.adapt is 'lora', which needs the package peft; pip install radsweep[lora], on "
            "every machine that runs trials"
        )


def adapt(model: nn.Module, way: str, rank: int, alpha: int, seed: int) -> list[nn.Parameter]:
    """What of the model is to be trained; the rest takes no gradient any more.

    Args:
        model: a causal language model of transformers; LoRA adds to it in place.
        way: one of ``WAYS``.
        rank: of LoRA's additions.
        alpha: their factor is ``alpha / rank``.
        seed: 64-bit, of LoRA's random start.

    Returns:
        float32 parameters, whatever the model's own type; none where it stays frozen.
    """
    if way == FULL:
        return list(model.parameters())
    model.requires_grad_(False)
    if way == FROZEN:
        return []
    # By name, since the package is an extra.
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with seeded(seed):
        peft.inject_adapter_in_model(config, model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        # Steps of a small rate are lost in bfloat16.
        parameter.data = parameter.data.to(torch.float32)
    return trained
