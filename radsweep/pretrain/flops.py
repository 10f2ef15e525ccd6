"""What one image costs to train on, counted by running one step.

Convention, used everywhere: 2 floating-point operations per multiply-add; forward and backward of
every crop and of the text tower, the teacher's forward included; element-wise work, the optimiser
and whatever is computed anew in the backward pass are not counted (PyTorch's FlopCounterMode counts
matrix products, convolutions and attention). A change here raises ``specs.FLOPS_VERSION``.
"""

import copy
import math

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from radsweep.corpus.example import Example, Stratum
from radsweep.keys import seed_of
from radsweep.models.backbone import Backbone
from radsweep.models.gather import by_itself
from radsweep.paradigms.base import Paradigm
from radsweep.specs import Recipe

aten = torch.ops.aten


def _convolution_backward(
    gradient_shape: list[int],
    image_shape: list[int],
    weight_shape: list[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: list[bool],
    **_: object,
) -> int:
    """The forward's cost once for each gradient asked for (of the image, of the weights).

    PyTorch 2.15 forgets the groups here, and counts a depthwise convolution's backward too high by
    the number of its channels.
    """
    channels_in_per_group, kernel = weight_shape[1], math.prod(weight_shape[2:])
    positions = image_shape if transposed else gradient_shape
    forward = (
        2
        * math.prod(positions[2:])
        * positions[0]
        * weight_shape[0]
        * channels_in_per_group
        * kernel
    )
    return forward * sum(output_mask[:2])


def _attention_backward(
    _gradient_shape: list[int],
    query_shape: list[int],
    key_shape: list[int],
    value_shape: list[int],
    *_: object,
    **__: object,
) -> int:
    """Gradients of queries and keys (2 x the scores' cost), and of scores and values.

    PyTorch also counts the scores, which fused kernels compute anew, so that attention would cost
    more by a fused kernel than by plain matrix products.
    """
    *batch, queries, width = query_shape
    pairs = math.prod(batch) * queries * key_shape[-2]
    return 2 * 2 * pairs * width + 2 * 2 * pairs * value_shape[-1]


ATTENTION_BACKWARD = (
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_efficient_attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward,
)


def counter() -> FlopCounterMode:
    """A context that counts by the convention above; ``get_total_flops`` gives the sum."""
    mapping = {operator: _attention_backward for operator in ATTENTION_BACKWARD}
    return FlopCounterMode(
        display=False,
        custom_mapping={aten.convolution_backward: _convolution_backward, **mapping},
    )


COUNTED_IMAGES = 4
"""Few, as cost per image barely depends on the batch: only contrastive logits grow with it."""

REPORT = "FINDINGS: The heart is enlarged. No pleural effusion. IMPRESSION: Cardiomegaly."


def stack(
    views: list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]],
) -> dict[str, torch.Tensor]:
    """Views of several examples as one batch of tensors, first axis the examples."""
    return {name: torch.from_numpy(np.stack([view[name] for view in views])) for name in views[0]}


def flops_per_image(paradigm: Paradigm, recipe: Recipe) -> float:
    """Training FLOPs of one image, on a copy so that nothing of ``paradigm`` changes.

    Depends on shapes alone, and so is the same on every machine.
    """
    generator = np.random.default_rng(seed_of("flops"))
    side = recipe.image_size
    examples = [
        Example(
            image_id=str(i),
            pixels=generator.integers(0, 256, (side, side), dtype=np.uint8),
            report=REPORT,
            labels={"finding_cardiomegaly": 1},
        )
        for i in range(COUNTED_IMAGES)
    ]
    viewer = paradigm.viewer()
    strata = [Stratum(i, COUNTED_IMAGES) for i in range(COUNTED_IMAGES)]
    batch = stack([viewer(one, generator, own) for one, own in zip(examples, strata, strict=True)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = copy.deepcopy(paradigm).cpu().train()
        # On every rank by itself: logits against all ranks' images would count, and a group of GPUs
        # cannot add up what is on a CPU.
        with by_itself(), counter() as counted:
            loss = torch.stack(list(probe.losses(batch, 0.5).values())).sum()
            torch.autograd.backward(loss)
    return float(counted.get_total_flops() / COUNTED_IMAGES)


def forward_flops(encoder: Backbone, image_size: int) -> float:
    """FLOPs of the encoder's way over one image of this size, on a copy that has shapes alone."""
    probe = copy.deepcopy(encoder).to("meta").eval()
    with torch.no_grad(), counter() as counted:
        probe(torch.zeros(1, 1, image_size, image_size, device="meta"))
    return float(counted.get_total_flops())
