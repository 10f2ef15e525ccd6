"""Every encoder answers in one form, and a ViT's tokens are what DINOv2 and transformers would
give."""

import pytest
import timm
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone, build_backbone
from radsweep.models.positions import resample_positions

SMALL_VIT = {"patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2}


def vit(image_size: int = 32, **changes: object) -> Backbone:
    torch.manual_seed(0)
    settings = SMALL_VIT | {"init_values": 1.0} | changes
    return build_backbone("vit_tiny_patch16_224", image_size, settings, 0.5, 0.25).eval()


def films(size: int = 32, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "size", "settings", "sides"),
    [
        ("vit_tiny_patch16_224", 32, SMALL_VIT, [4, 4, 4, 4]),
        ("vit_tiny_patch16_224", 32, SMALL_VIT | {"in_chans": 1, "depth": 2}, [4, 4, 4, 4]),
        (
            "vit_small_patch14_reg4_dinov2",
            56,
            {"depth": 4, "embed_dim": 48, "num_heads": 2},
            [4] * 4,
        ),
        ("davit_tiny", 64, {"embed_dims": "16,32,48,64", "num_heads": "1,2,3,4"}, [16, 8, 4, 2]),
        ("convnext_atto", 64, {"in_chans": 1}, [16, 8, 4, 2]),
        ("mobilenetv3_small_050", 64, {}, [16, 8, 4, 2]),
    ],
)
def test_any_timm_encoder_gives_pooled_mean_and_four_maps(
    name: str, size: int, settings: dict[str, int], sides: list[int]
) -> None:
    torch.manual_seed(0)
    encoder = build_backbone(name, size, settings, 0.5, 0.25).eval()
    images = films(size)
    with torch.no_grad():
        features, pooled = encoder.features(images), encoder(images)
        timms_own = encoder.model(encoder.normalise(images))
    assert torch.equal(features.pooled, pooled) and torch.equal(pooled, timms_own)
    assert pooled.shape == (3, encoder.dim)
    assert [level.shape for level in features.maps] == [
        (3, width, side, side) for width, side in zip(encoder.map_widths, sides, strict=True)
    ]
    assert features.mean.shape == (3, encoder.map_widths[-1])
    for levels in (0, 1, 2):
        with torch.no_grad():
            fewer = encoder.features(images, levels)
        assert torch.equal(fewer.pooled, pooled) and torch.equal(fewer.mean, features.mean)
        assert len(fewer.maps) == levels
        for ours, theirs in zip(fewer.maps, features.maps[4 - levels :], strict=True):
            assert torch.equal(ours, theirs)
    assert encoder.patch_size * sides[-1] == size
    assert set(encoder.layer_of()) == {name for name, _ in encoder.named_parameters()}


def test_bytes_and_their_fractions_are_one_image() -> None:
    encoder, images = vit(), films()
    with torch.no_grad():
        assert torch.equal(encoder(images), encoder(images.float() / 255))
    normal = encoder.normalise(images)
    assert normal.shape == (3, 3, 32, 32)
    assert torch.allclose(normal[:, 2], (images[:, 0].float() / 255 - 0.5) / 0.25)


def test_tokens_begin_with_the_value_of_forward() -> None:
    encoder, images = vit(), films()
    with torch.no_grad():
        cls, patches = encoder.tokens(images)
        features = encoder.features(images)
    assert torch.equal(cls, features.pooled)
    assert torch.allclose(patches.mean(dim=1), features.mean, atol=1e-6)
    assert torch.equal(patches.transpose(1, 2).unflatten(2, (4, 4)), features.maps[-1])


def test_a_masked_patch_is_replaced_before_its_position_is_added() -> None:
    encoder, images = vit(), films()
    masks = torch.zeros(3, 16, dtype=torch.bool)
    masks[1, 5] = True
    changed = images.clone()
    changed[1, :, 8:16, 8:16] = 0  # row 1, column 1 of a 4 x 4 grid is patch 5
    with torch.no_grad():
        encoder.mask_token.normal_()
        plain, masked = encoder.tokens(images)[1], encoder.tokens(images, masks)[1]
        hidden = encoder.tokens(changed, masks)[1]
    assert torch.allclose(masked, hidden, atol=1e-6), "what is under the mask shows through"
    assert torch.allclose(masked[0], plain[0], atol=1e-6)
    assert not torch.allclose(masked[1], plain[1], atol=1e-3)


def test_masks_train_the_mask_token_even_where_nothing_is_masked() -> None:
    encoder = vit()
    encoder.mask_token.requires_grad_()
    encoder.tokens(films(), torch.zeros(3, 16, dtype=torch.bool))[0].sum().backward()
    assert encoder.mask_token.grad is not None and not encoder.mask_token.grad.any()


def test_an_encoder_without_tokens_says_so() -> None:
    encoder = build_backbone("convnext_atto", 64, {}, 0.5, 0.25)
    with pytest.raises(SpecError, match="no class and patch tokens"):
        encoder.tokens(films(64))


def transformers_twin(encoder: Backbone) -> Dinov2Model:
    """Dinov2Model with the same weights, moved by hand rather than by the code under test."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8,
        attn_implementation="sdpa",
    )  # fmt: skip
    twin = Dinov2Model(config).eval()
    state, mine = twin.state_dict(), encoder.model.state_dict()
    for name in state:
        if name.startswith("encoder.layer."):
            _, _, layer, *rest = name.split(".")
            theirs, kind = ".".join(rest), rest[-1]
            block = f"blocks.{layer}"
            if theirs.startswith("attention") and "o_proj" not in theirs and "output" not in theirs:
                part = next(
                    i for i, key in enumerate(("q", "k", "v")) if f".{key}" in f".{theirs[10:]}"
                )
                state[name] = mine[f"{block}.attn.qkv.{kind}"].chunk(3)[part]
            elif theirs.startswith("attention"):
                state[name] = mine[f"{block}.attn.proj.{kind}"]
            elif theirs.startswith("layer_scale"):
                state[name] = mine[f"{block}.ls{rest[0][-1]}.gamma"]
            else:
                state[name] = mine[f"{block}.{theirs}"]
    state["embeddings.cls_token"] = mine["cls_token"]
    state["embeddings.position_embeddings"] = mine["pos_embed"]
    state["embeddings.patch_embeddings.projection.weight"] = mine["patch_embed.proj.weight"]
    state["embeddings.patch_embeddings.projection.bias"] = mine["patch_embed.proj.bias"]
    state["layernorm.weight"], state["layernorm.bias"] = mine["norm.weight"], mine["norm.bias"]
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("size", [32, 64, 24])
def test_hf_interpolation_gives_what_transformers_gives(size: int) -> None:
    encoder = vit()
    encoder.interpolation = "hf"
    twin = transformers_twin(encoder)
    with torch.no_grad():
        theirs = twin(encoder.normalise(films(size))).last_hidden_state
        cls, patches = encoder.tokens(films(size))
    assert torch.allclose(cls, theirs[:, 0], atol=1e-5)
    assert torch.allclose(patches, theirs[:, 1:], atol=1e-5)


def test_timm_interpolation_gives_what_timm_gives() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, dynamic_img_size=True, **SMALL_VIT
    ).eval()
    mine = build_backbone("vit_tiny_patch16_224", 32, SMALL_VIT, 0.5, 0.25, "timm").eval()
    mine.model.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.allclose(
            theirs(mine.normalise(films(64))), mine.tokens(films(64))[0], atol=1e-5
        )


def test_the_three_interpolations_differ_and_leave_the_own_grid_alone() -> None:
    table = torch.randn(1, 17, 8, generator=torch.Generator().manual_seed(2))
    read = {p: resample_positions(table, (4, 4), (6, 5), p) for p in ("dinov2", "hf", "timm")}
    assert all(rows.shape == (1, 31, 8) for rows in read.values())
    assert all(torch.equal(rows[:, :1], table[:, :1]) for rows in read.values())
    for one, other in (("dinov2", "hf"), ("dinov2", "timm"), ("hf", "timm")):
        assert not torch.allclose(read[one], read[other], atol=1e-3)
    assert resample_positions(table, (4, 4), (4, 4), "dinov2") is table
    with pytest.raises(SpecError, match="known: dinov2, hf, timm"):
        resample_positions(table, (4, 4), (2, 2), "bicubic")


def test_layers_rise_from_the_stem_to_the_final_norm() -> None:
    layers = vit().layer_of()
    assert (
        layers["model.pos_embed"]
        == layers["mask_token"]
        == layers["model.patch_embed.proj.bias"]
        == 0
    )
    assert [layers[f"model.blocks.{i}.attn.qkv.weight"] for i in range(4)] == [1, 2, 3, 4]
    assert layers["model.norm.weight"] >= 4


def test_weights_that_do_not_fit_are_listed() -> None:
    encoder = vit()
    state = dict(encoder.state_dict())
    state["model.extra"] = state.pop("model.norm.bias")
    state["model.blocks.0.mlp.fc1.bias"] = torch.zeros(7)
    with pytest.raises(SpecError) as fault:
        encoder.load(state)
    for part in ("missing: model.norm.bias", "surplus: model.extra", "fc1.bias is (7,)"):
        assert part in str(fault.value)


def test_weights_of_another_size_are_read_at_the_recipes() -> None:
    small, large = vit(32), vit(64)
    large.load(small.state_dict())
    expected = resample_positions(small.model.pos_embed, (4, 4), (8, 8), "dinov2")
    assert torch.equal(large.model.pos_embed, expected)


def test_faulty_encoders_are_refused_with_a_remedy() -> None:
    with pytest.raises(SpecError, match=r"did you mean .*davit_huge_fl"):
        build_backbone("davit_hug_fl", 64, {}, 0.5, 0.25)
    with pytest.raises(SpecError, match="no multiple of the patch"):
        build_backbone("vit_tiny_patch16_224", 36, SMALL_VIT, 0.5, 0.25)
    with pytest.raises(SpecError, match=r"cannot be built with .*dpth"):
        build_backbone("vit_tiny_patch16_224", 32, {"dpth": 3}, 0.5, 0.25)
    with pytest.raises(SpecError, match="no multiple of the patch"):
        vit()(films(36))
