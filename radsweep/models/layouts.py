"""How published checkpoints name their tensors, and how this package names the same ones.

A layout is a list of rules for single tensors; what has to be taken apart or put together (the
query, key and value of transformers) is done by functions. Names on our side are a Backbone's:
timm's under ``model.``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from radsweep.errors import SpecError

Rules = tuple[tuple[str, str], ...]
"""(pattern of the whole name, replacement): the first pattern that matches is applied."""

HF_DINOV2: Rules = (
    (r"embeddings\.cls_token", "model.cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.register_tokens", "model.reg_token"),
    (r"embeddings\.position_embeddings", "model.pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.*)", r"model.patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.(norm[12]\..*)", r"model.blocks.\1.\2"),
    (r"encoder\.layer\.(\d+)\.(mlp\.fc[12]\..*)", r"model.blocks.\1.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"model.blocks.\1.ls\2.gamma"),
    (
        r"encoder\.layer\.(\d+)\.attention\.(?:output\.dense|o_proj)\.(.*)",
        r"model.blocks.\1.attn.proj.\2",
    ),
    (
        r"encoder\.layer\.(\d+)\.attention\.(?:attention\.query|q_proj)\.(.*)",
        r"model.blocks.\1.attn.q.\2",
    ),
    (
        r"encoder\.layer\.(\d+)\.attention\.(?:attention\.key|k_proj)\.(.*)",
        r"model.blocks.\1.attn.k.\2",
    ),
    (
        r"encoder\.layer\.(\d+)\.attention\.(?:attention\.value|v_proj)\.(.*)",
        r"model.blocks.\1.attn.v.\2",
    ),
    (r"layernorm\.(.*)", r"model.norm.\1"),
)
"""transformers' Dinov2Model: names on the hub (and of transformers 4), and those in memory of 5."""

DINOV2: Rules = (
    (r"mask_token", "mask_token"),
    (r"register_tokens", "model.reg_token"),
    (r"((?:cls_token|pos_embed|patch_embed|blocks|norm)\b.*)", r"model.\1"),
)
"""The released code of DINOv2 (Oquab et al. 2023)."""

DINO_HEAD: Rules = (
    (r"(?:dino_head\.)?mlp\.(\d+)\.(weight|bias)", r"head.mlp.\1.\2"),
    (r"(?:dino_head\.)?last_layer\.weight_g", "head.prototypes.scale"),
    (r"(?:dino_head\.)?last_layer\.weight_v", "head.prototypes.direction"),
)
"""The projection head that RAD-DINO publishes beside its encoder."""


def to_dino_head(paradigm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINO head under RAD-DINO's names; empty where there is none that these names can say.

    They know no second head for patches and no batch normalisation, whose layers move the numbers
    of those that follow.
    """
    rules: Rules = (
        (r"head\.(mlp\.[024]\.(?:weight|bias))", r"\1"),
        (r"head\.prototypes\.scale", "last_layer.weight_g"),
        (r"head\.prototypes\.direction", "last_layer.weight_v"),
    )
    head = {name: tensor for name, tensor in paradigm.items() if name.startswith("head.")}
    if any(not any(re.fullmatch(rule, name) for rule, _ in rules) for name in head):
        return {}
    return rename(head, rules, "dino head (export)")


MI2_IMAGE: Rules = tuple(
    (rf"image_encoder\.{pattern}", f"model.{replacement}")
    for pattern, replacement in (
        (r"convs\.0\.proj\.(.*)", r"stem.conv.\1"),
        (r"convs\.0\.norm\.(.*)", r"stem.norm.\1"),
        (r"convs\.(\d+)\.proj\.(.*)", r"stages.\1.downsample.conv.\2"),
        (r"convs\.(\d+)\.norm\.(.*)", r"stages.\1.downsample.norm.\2"),
        (
            r"blocks\.(\d+)\.(.*)\.(?:window|channel)_attn\.norm\.(.*)",
            r"stages.\1.blocks.\2.norm1.\3",
        ),
        (r"blocks\.(\d+)\.(.*)\.(?:window|channel)_attn\.fn\.(.*)", r"stages.\1.blocks.\2.attn.\3"),
        (r"blocks\.(\d+)\.(.*)\.ffn\.norm\.(.*)", r"stages.\1.blocks.\2.norm2.\3"),
        (r"blocks\.(\d+)\.(.*)\.ffn\.fn\.net\.(.*)", r"stages.\1.blocks.\2.mlp.\3"),
        (r"blocks\.(\d+)\.(.*)\.conv([12])\.fn\.dw\.(.*)", r"stages.\1.blocks.\2.cpe\3.proj.\4"),
        (r"norms\.(.*)", r"head.norm.\1"),
    )
)
"""MedImageInsight's DaViT (Codella et al. 2024)."""

MI2_TEXT: Rules = (
    (r"lang_encoder\.token_embedding\.weight", "text.token_embedding.weight"),
    (r"lang_encoder\.positional_embedding", "text.positions"),
    (r"lang_encoder\.resblocks\.(\d+)\.attn\.in_proj_(.*)", r"text.blocks.\1.project.\2"),
    (r"lang_encoder\.resblocks\.(\d+)\.attn\.out_proj\.(.*)", r"text.blocks.\1.out.\2"),
    (r"lang_encoder\.resblocks\.(\d+)\.ln_([12])\.(.*)", r"text.blocks.\1.norm\2.\3"),
    (r"lang_encoder\.resblocks\.(\d+)\.mlp\.c_fc\.(.*)", r"text.blocks.\1.widen.\2"),
    (r"lang_encoder\.resblocks\.(\d+)\.mlp\.c_proj\.(.*)", r"text.blocks.\1.narrow.\2"),
    (r"lang_encoder\.ln_final\.(.*)", r"text.norm.\1"),
    (r"image_projection", "image_projection"),
    (r"lang_projection", "text_projection"),
    (r"logit_scale", "logit_scale"),
)
"""MedImageInsight's text tower, projections and temperature."""


def rename(state: Mapping[str, Tensor], rules: Rules, layout: str) -> dict[str, Tensor]:
    """Every tensor under its new name. Raises SpecError that lists names no rule knows."""
    renamed, unknown = {}, []
    for name, tensor in state.items():
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, name)
            if match is not None:
                renamed[match.expand(replacement)] = tensor
                break
        else:
            unknown.append(name)
    if unknown:
        raise SpecError(f"layout {layout} has no tensors named {', '.join(sorted(unknown))}")
    return renamed


def join_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``attn.q``, ``attn.k`` and ``attn.v`` as timm's one ``attn.qkv``.

    Raises SpecError, listing them, where one of the three is missing.
    """
    joined = {name: tensor for name, tensor in state.items() if not _is_part(name)}
    stems = {re.sub(r"\.attn\.[qkv]\.", ".attn.{}.", name) for name in state if _is_part(name)}
    missing = [
        stem.format(part)
        for stem in sorted(stems)
        for part in "qkv"
        if stem.format(part) not in state
    ]
    if missing:
        raise SpecError(f"missing: {', '.join(missing)}")
    for stem in stems:
        joined[stem.format("qkv")] = torch.cat([state[stem.format(part)] for part in "qkv"])
    return joined


def _is_part(name: str) -> bool:
    return re.search(r"\.attn\.[qkv]\.", name) is not None


def to_hf_dinov2(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Backbone's ViT under the names that transformers' hub files have."""
    fixed = {
        "mask_token": "embeddings.mask_token",
        "model.cls_token": "embeddings.cls_token",
        "model.pos_embed": "embeddings.position_embeddings",
    }
    rules: Rules = (
        (r"model\.patch_embed\.proj\.(.*)", r"embeddings.patch_embeddings.projection.\1"),
        (r"model\.blocks\.(\d+)\.(norm[12]\..*|mlp\.fc[12]\..*)", r"encoder.layer.\1.\2"),
        (r"model\.blocks\.(\d+)\.ls([12])\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
        (r"model\.blocks\.(\d+)\.attn\.proj\.(.*)", r"encoder.layer.\1.attention.output.dense.\2"),
        (r"model\.norm\.(.*)", r"layernorm.\1"),
    )
    fused = {name: tensor for name, tensor in encoder.items() if ".attn.qkv." in name}
    single = {name: tensor for name, tensor in encoder.items() if name not in fused}
    state = {fixed[name]: tensor for name, tensor in single.items() if name in fixed}
    state |= rename({n: t for n, t in single.items() if n not in fixed}, rules, "hf (export)")
    state["embeddings.mask_token"] = state["embeddings.mask_token"].reshape(1, -1)
    for name, tensor in fused.items():
        match = re.fullmatch(r"model\.blocks\.(\d+)\.attn\.qkv\.(.*)", name)
        assert match is not None
        for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            state[f"encoder.layer.{match[1]}.attention.attention.{part}.{match[2]}"] = rows.clone()
    return state


def to_dinov2(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Backbone's ViT under the names of DINOv2's released code."""
    named = {name.removeprefix("model."): tensor for name, tensor in encoder.items()}
    named["mask_token"] = named["mask_token"].reshape(1, -1)
    if "reg_token" in named:
        named["register_tokens"] = named.pop("reg_token")
    return named


def to_mi2(encoder: Mapping[str, Tensor], paradigm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Backbone's DaViT, and a text tower if there is one, under MedImageInsight's names."""
    block = r"model\.stages\.(\d+)\.blocks\.(.*)"
    out = r"image_encoder.blocks.\1.\2"
    image: Rules = (
        (r"model\.stem\.(norm\..*)", r"image_encoder.convs.0.\1"),
        (r"model\.stem\.conv\.(.*)", r"image_encoder.convs.0.proj.\1"),
        (r"model\.stages\.(\d+)\.downsample\.(norm\..*)", r"image_encoder.convs.\1.\2"),
        (r"model\.stages\.(\d+)\.downsample\.conv\.(.*)", r"image_encoder.convs.\1.proj.\2"),
        (rf"{block}(spatial_block)\.norm1\.(.*)", rf"{out}\3.window_attn.norm.\4"),
        (rf"{block}(spatial_block)\.attn\.(.*)", rf"{out}\3.window_attn.fn.\4"),
        (rf"{block}(channel_block)\.norm1\.(.*)", rf"{out}\3.channel_attn.norm.\4"),
        (rf"{block}(channel_block)\.attn\.(.*)", rf"{out}\3.channel_attn.fn.\4"),
        (rf"{block}\.norm2\.(.*)", rf"{out}.ffn.norm.\3"),
        (rf"{block}\.mlp\.(.*)", rf"{out}.ffn.fn.net.\3"),
        (rf"{block}\.cpe([12])\.proj\.(.*)", rf"{out}.conv\3.fn.dw.\4"),
        (r"model\.head\.norm\.(.*)", r"image_encoder.norms.\1"),
    )
    text: Rules = (
        (r"text\.token_embedding\.weight", "lang_encoder.token_embedding.weight"),
        (r"text\.positions", "lang_encoder.positional_embedding"),
        (r"text\.blocks\.(\d+)\.project\.(.*)", r"lang_encoder.resblocks.\1.attn.in_proj_\2"),
        (r"text\.blocks\.(\d+)\.out\.(.*)", r"lang_encoder.resblocks.\1.attn.out_proj.\2"),
        (r"text\.blocks\.(\d+)\.norm([12])\.(.*)", r"lang_encoder.resblocks.\1.ln_\2.\3"),
        (r"text\.blocks\.(\d+)\.widen\.(.*)", r"lang_encoder.resblocks.\1.mlp.c_fc.\2"),
        (r"text\.blocks\.(\d+)\.narrow\.(.*)", r"lang_encoder.resblocks.\1.mlp.c_proj.\2"),
        (r"text\.norm\.(.*)", r"lang_encoder.ln_final.\1"),
        (r"text_projection", "lang_projection"),
        (r"(image_projection|logit_scale)", r"\1"),
    )
    return rename(encoder, image, "mi2 (export)") | rename(paradigm, text, "mi2 (export)")
