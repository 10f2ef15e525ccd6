"""Weights in and out: published checkpoints and finished cells, under one set of names.

safetensors, or pickles through ``torch.load(weights_only=True)``; nothing that could run code is
loaded.
"""

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.models import layouts
from radsweep.models.backbone import Backbone, build_backbone

ENCODER, PARADIGM, TOKENIZER = "encoder.safetensors", "paradigm.safetensors", "tokenizer.json"
"""What a finished cell leaves."""
MI2_VISION = "vision_model/medimageinsigt-v1.0.0.pt"
"""Spelled as it is published; a safetensors file in spite of its name, with image and text
weights."""
MI2_TOKENIZER = "language_model/clip_tokenizer_4.16.2"
HEAD = "dino_head.safetensors"
CLASSIFIERS = ("head.weight", "head.bias", "head.fc.weight", "head.fc.bias")
"""A timm checkpoint's classifier over its own labels, which no encoder keeps."""


@dataclass(frozen=True, kw_only=True)
class StartWeights:
    """What a recipe continues from."""

    encoder: dict[str, Tensor]
    """Under the names of ``Backbone.state_dict()``."""
    paradigm: dict[str, Tensor]
    """Text tower, projections and heads under the paradigm's names; empty where there are none."""
    tokenizer: str | None
    """``tokenizers`` JSON, where the weights come with a text tower."""
    layout: str
    """Which layout it was: ``radsweep``, ``mi2``, ``hf``, ``dinov2`` or ``timm``."""
    digest: str
    """SHA-256 of the encoder, see ``encoder_digest``."""


def encoder_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}:{flat.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_encoder(encoder: Backbone, file: Path) -> None:
    """Write an encoder's weights, with what it takes to build it again in the file's metadata."""
    about = {
        "encoder": encoder.name,
        "encoder_settings": json.dumps(encoder.settings, sort_keys=True),
        "image_size": str(encoder.image_size),
        "pixel_mean": repr(float(encoder.pixel_mean)),
        "pixel_std": repr(float(encoder.pixel_std)),
    }
    file.write_bytes(_in_order(save(contiguous(encoder.state_dict()), metadata=about)))


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with the names of its header in order.

    The library writes metadata in an order that changes from process to process; equal weights must
    be equal bytes. A header is its length (8 bytes, little-endian) and JSON, padded with spaces.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def load_start(folder: Path) -> StartWeights:
    """Weights of a folder in any layout that is known.

    ``radsweep``: what a cell leaves. ``mi2``: MedImageInsight's folder. ``hf``: transformers'
    Dinov2Model, RAD-DINO among them, with its head where it is published. ``dinov2``: names of
    DINOv2's code. ``timm``.

    Raises SpecError where no layout fits, or tensors have names that the layout does not know.
    Whether the tensors fit an encoder is seen by ``Backbone.load``.
    """
    if (folder / ENCODER).is_file():
        paradigm = folder / PARADIGM
        tokenizer = folder / TOKENIZER
        return _start(
            load_file(folder / ENCODER),
            load_file(paradigm) if paradigm.is_file() else {},
            tokenizer.read_text() if tokenizer.is_file() else None,
            "radsweep",
        )
    for root in (folder, folder / "artifacts" / "checkpoints", folder / "2024.09.27"):
        if (root / MI2_VISION).is_file():
            return _load_mi2(root)
    state = _read_one(folder)
    if any(name.startswith("encoder.layer.") for name in state):
        encoder = layouts.join_qkv(layouts.rename(state, layouts.HF_DINOV2, "hf"))
        layout = "hf"
    elif "mask_token" in state and "cls_token" in state:
        encoder, layout = layouts.rename(state, layouts.DINOV2, "dinov2"), "dinov2"
    else:
        encoder = {f"model.{n}": t for n, t in state.items() if n not in CLASSIFIERS}
        layout = "timm"
    if "mask_token" in encoder:
        encoder["mask_token"] = encoder["mask_token"].reshape(1, 1, -1)
    head = {}
    if (folder / HEAD).is_file():
        head = layouts.rename(load_file(folder / HEAD), layouts.DINO_HEAD, "dino head")
    return _start(encoder, head, None, layout)


def _start(
    encoder: dict[str, Tensor], paradigm: dict[str, Tensor], tokenizer: str | None, layout: str
) -> StartWeights:
    return StartWeights(
        encoder=encoder,
        paradigm=paradigm,
        tokenizer=tokenizer,
        layout=layout,
        digest=encoder_digest(encoder),
    )


def _load_mi2(root: Path) -> StartWeights:
    state = load_file(root / MI2_VISION)
    image = {name: tensor for name, tensor in state.items() if name.startswith("image_encoder.")}
    text = {name: tensor for name, tensor in state.items() if name not in image}
    tokenizer = _mi2_tokenizer(root / MI2_TOKENIZER) if text else None
    return _start(
        layouts.rename(image, layouts.MI2_IMAGE, "mi2"),
        layouts.rename(text, layouts.MI2_TEXT, "mi2"),
        tokenizer,
        "mi2",
    )


def _mi2_tokenizer(folder: Path) -> str:
    if not folder.is_dir():
        raise SpecError(f"a text tower needs its tokenizer; copy the folder {MI2_TOKENIZER} too")
    file = folder / TOKENIZER
    if file.is_file() and json.loads(file.read_text())["padding"] is not None:
        return file.read_text()
    # To import it takes half a second of every process that trains; this layout alone needs it.
    transformers = importlib.import_module("transformers")
    loaded = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    backend = loaded.backend_tokenizer
    # What the folder pads with is part of the model: the tower does not attend to id 0, and to no
    # other.
    backend.enable_padding(pad_id=loaded.pad_token_id, pad_token=loaded.pad_token)
    return str(backend.to_str())


def _read_one(folder: Path) -> dict[str, Tensor]:
    """The one model file of a folder that is neither a cell's nor MedImageInsight's."""
    names = ("model.safetensors", "backbone_compatible.safetensors", "pytorch_model.bin")
    for name in names:
        file = folder / name
        if file.is_file() and file.suffix == ".safetensors":
            return load_file(file)
        if file.is_file():
            state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
            return state
    raise SpecError(
        f"no weights in {folder}: it has none of {ENCODER}, {MI2_VISION}, {', '.join(names)}"
    )


def export(folder: Path, layout: str, out: Path) -> None:
    """Write a finished cell's encoder so that other software loads it.

    ``timm``: for ``timm.create_model(..., checkpoint_path=...)``. ``hf``: a folder for
    transformers' ``Dinov2Model``, which versions 4 and 5 both read. ``dinov2``: the names of
    DINOv2's code. Both bring ``dino_head.safetensors``, as RAD-DINO does, where the cell has such a
    head. ``mi2``: MedImageInsight's folder, text tower and tokenizer included where the cell has
    them.
    ``load_start`` reads each back without a difference.

    Args:
        folder: with ``encoder.safetensors`` and what else the cell left.
        layout: one of the four.
        out: a folder, made if need be.

    Raises SpecError for an unknown layout or an encoder that the layout cannot hold.
    """
    with safe_open(folder / ENCODER, framework="pt") as file:
        about: dict[str, str] = file.metadata()
    writers = {"timm": _write_timm, "hf": _write_hf, "dinov2": _write_dinov2, "mi2": _write_mi2}
    if layout not in writers:
        raise SpecError(f"no layout {layout!r}; known: {', '.join(sorted(writers))}")
    out.mkdir(parents=True, exist_ok=True)
    writers[layout](load_start(folder), about, out)


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")


def _write_timm(start: StartWeights, about: dict[str, str], out: Path) -> None:
    state = {n.removeprefix("model."): t for n, t in start.encoder.items() if n != "mask_token"}
    save_file(contiguous(state), out / "model.safetensors", metadata={"format": "pt"})
    size = int(about["image_size"])
    config = {
        "architecture": about["encoder"],
        "num_classes": 0,
        "model_args": json.loads(about["encoder_settings"]),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": [float(about["pixel_mean"])] * 3,
            "std": [float(about["pixel_std"])] * 3,
        },
    }
    _write_json(out / "config.json", config)


def _require_vit(start: StartWeights, layout: str) -> None:
    if "model.cls_token" not in start.encoder or "model.blocks.0.ls1.gamma" not in start.encoder:
        raise SpecError(
            f"layout {layout} holds a ViT with a class token and layer scale (timm's init_values); "
            "this encoder is none. Export it as timm"
        )


def _write_dino_head(start: StartWeights, out: Path) -> None:
    head = layouts.to_dino_head(start.paradigm)
    if head:
        save_file(contiguous(head), out / HEAD)


def _write_hf(start: StartWeights, about: dict[str, str], out: Path) -> None:
    _require_vit(start, "hf")
    if "model.reg_token" in start.encoder:
        raise SpecError(
            "transformers' Dinov2Model has no register tokens; export it as dinov2 or timm"
        )
    save_file(
        contiguous(layouts.to_hf_dinov2(start.encoder)),
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    _write_dino_head(start, out)
    _write_json(out / "config.json", _hf_config(start.encoder, about))
    size = int(about["image_size"])
    preprocessor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(about["pixel_mean"])] * 3,
        "image_std": [float(about["pixel_std"])] * 3,
    }
    _write_json(out / "preprocessor_config.json", preprocessor)


def _hf_config(encoder: Mapping[str, Tensor], about: dict[str, str]) -> dict[str, Any]:
    kernel = encoder["model.patch_embed.proj.weight"]
    settings = json.loads(about["encoder_settings"])
    model = build_backbone(about["encoder"], int(about["image_size"]), settings, 0.0, 1.0).model
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": kernel.shape[0],
        "num_channels": kernel.shape[1],
        "patch_size": kernel.shape[2],
        "image_size": int(about["image_size"]),
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": model.blocks[0].attn.num_heads,
        "mlp_ratio": encoder["model.blocks.0.mlp.fc1.weight"].shape[0] // kernel.shape[0],
        "layer_norm_eps": model.norm.eps,
        "qkv_bias": "model.blocks.0.attn.qkv.bias" in encoder,
        "layerscale_value": 1.0,
        "use_swiglu_ffn": False,
    }


def _write_dinov2(start: StartWeights, about: dict[str, str], out: Path) -> None:
    _require_vit(start, "dinov2")
    save_file(contiguous(layouts.to_dinov2(start.encoder)), out / "backbone_compatible.safetensors")
    _write_dino_head(start, out)


def _write_mi2(start: StartWeights, about: dict[str, str], out: Path) -> None:
    if "model.stages.0.blocks.0.spatial_block.norm1.weight" not in start.encoder:
        raise SpecError(
            f"layout mi2 holds a DaViT such as davit_huge_fl, not {about['encoder']}; export it as "
            "timm"
        )
    text = start.paradigm if "text.positions" in start.paradigm else {}
    (out / MI2_VISION).parent.mkdir(parents=True, exist_ok=True)
    save_file(contiguous(layouts.to_mi2(start.encoder, text)), out / MI2_VISION)
    if text and start.tokenizer is not None:
        (out / MI2_TOKENIZER).mkdir(parents=True, exist_ok=True)
        (out / MI2_TOKENIZER / TOKENIZER).write_text(start.tokenizer)
