"""What a step is counted to cost is what its shapes say, whatever kernel multiplies."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from radsweep.pretrain.flops import COUNTED_IMAGES, counter, flops_per_image
from tests.paradigms.tiny import batch, build, recipe
from tests.pretrain.derived import Head, Vit, dinov2_step

VIT = Vit(width=32, depth=2, patch=8, channels=1)
HEAD = Head(width=32, hidden=32, bottleneck=16, prototypes=24)


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("crops", [0, 3])
def test_a_dinov2_step_costs_the_sum_of_its_terms(crops: int, backend: SDPBackend) -> None:
    images = 6
    made = recipe("dinov2", image_size=64, local_crops=crops)
    paradigm = build(made)
    given = batch(paradigm, images)
    with counter() as counted, sdpa_kernel(backend):
        torch.stack(list(paradigm(given, 0.5).values())).sum().backward()
    hidden = float(given["masks"].sum()) / images
    assert hidden > 10
    terms = dinov2_step(VIT, HEAD, large=64, small=16, crops=crops, hidden=hidden, images=images)
    assert counted.get_total_flops() == pytest.approx(images * sum(terms.values()), rel=1e-12)


def test_the_counted_images_hide_about_the_mean_share_of_patches() -> None:
    made = recipe("dinov2", image_size=128, prototypes=2000)
    paradigm = build(made)
    vit, head = VIT, Head(width=32, hidden=32, bottleneck=16, prototypes=2000)
    low, high = (
        sum(
            dinov2_step(
                vit, head, large=128, small=16, crops=2, hidden=share * 256, images=COUNTED_IMAGES
            ).values()
        )
        for share in (0.25, 0.33)
    )
    assert low < flops_per_image(paradigm, made) < high


@pytest.mark.parametrize("name", ["clip", "unicl"])
def test_attention_costs_the_same_by_a_fused_kernel_and_by_plain_products(name: str) -> None:
    counts = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        paradigm = build(recipe(name))
        with counter() as counted, sdpa_kernel(backend):
            torch.stack(list(paradigm(batch(paradigm), 0.5).values())).sum().backward()
        counts.append(counted.get_total_flops())
    assert counts[0] == counts[1] > 0
