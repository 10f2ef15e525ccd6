"""What a step is counted to cost is what its shapes say, whatever kernel multiplies."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from radsweep.models.backbone import build_backbone
from radsweep.models.weights import load_start
from radsweep.pretrain.flops import COUNTED_IMAGES, REPORT, counter, flops_per_image, forward_flops
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


@pytest.mark.parametrize("name", ["clip", "unicl", "dinov2"])
def test_a_recipe_costs_the_same_whatever_it_starts_from_and_reads(
    name: str, tmp_path: Path
) -> None:
    made = recipe(name)
    build(made, seed=1).save(tmp_path)
    # Its tokenizer comes with the weights, and knows other words.
    continued = build(made, load_start(tmp_path))
    blank = type(continued).build(made, None, [REPORT])
    assert flops_per_image(continued, made) == flops_per_image(blank, made)


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        ("vit_base_patch14_dinov2", {"embed_dim": 32, "depth": 2, "num_heads": 2}),
        ("davit_tiny", {"embed_dims": "16,32,48,64", "num_heads": "1,2,3,4"}),
        ("resnet10t", {"channels": "8,8,16,16", "stem_width": 4}),
    ],
)
def test_a_way_forward_is_counted_by_shapes_alone_as_by_an_image(
    encoder: str, settings: dict[str, int | str]
) -> None:
    size = 224
    built = build_backbone(encoder, size, settings, 0.5, 0.25).eval()
    with torch.no_grad(), counter() as counted:
        built(torch.zeros(1, 1, size, size))
    assert forward_flops(built, size) == counted.get_total_flops() > 0
    assert {parameter.device.type for parameter in built.parameters()} == {"cpu"}
