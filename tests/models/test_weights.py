"""Published layouts come in and go out without a difference, and what does not fit is listed."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone, build_backbone
from radsweep.models.layouts import MI2_IMAGE, rename, to_hf_dinov2, to_mi2
from radsweep.models.text import TextTower
from radsweep.models.tokens import TextEncoder, train_tokenizer, vocabulary
from radsweep.models.weights import encoder_digest, export, load_start, save_encoder

VIT = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "init_values": 0.7}
DAVIT = {"embed_dims": "8,16,16,32", "num_heads": "1,2,2,4", "depths": "1,1,2,1"}


def vit(**changes: object) -> Backbone:
    torch.manual_seed(0)
    encoder = build_backbone("vit_tiny_patch16_224", 32, VIT | changes, 0.53, 0.26).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return encoder


def davit() -> Backbone:
    torch.manual_seed(0)
    return build_backbone("davit_huge_fl", 64, DAVIT, 0.5, 0.25).eval()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def left_by_a_cell(encoder: Backbone, folder: Path, text: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    save_encoder(encoder, folder / "encoder.safetensors")
    if text:
        tokenizer = train_tokenizer(["The heart is enlarged."], 80)
        tower = TextTower(vocabulary=60, length=8, width=16, layers=2, heads=2)
        rest = {f"text.{name}": tensor for name, tensor in tower.state_dict().items()}
        rest |= {"image_projection": torch.randn(32, 8), "text_projection": torch.randn(16, 8)}
        rest["logit_scale"] = torch.tensor(2.6)
        save_file(rest, folder / "paradigm.safetensors")
        (folder / "tokenizer.json").write_text(tokenizer)
    return folder


@pytest.mark.parametrize("layout", ["timm", "hf", "dinov2"])
def test_a_vit_comes_back_from_every_layout(layout: str, tmp_path: Path) -> None:
    encoder = vit()
    export(left_by_a_cell(encoder, tmp_path / "cell"), layout, tmp_path / "out")
    start = load_start(tmp_path / "out")
    expected = dict(encoder.state_dict())
    if layout == "timm":
        del expected["mask_token"]
    assert start.layout == layout and start.tokenizer is None and start.paradigm == {}
    assert same(start.encoder, expected)
    assert start.digest == encoder_digest(expected)
    again = vit(init_values=0.1)
    again.load(start.encoder)
    assert layout == "timm" or same(again.state_dict(), encoder.state_dict())


def test_registers_go_out_as_dinov2_and_not_as_dinov2model(tmp_path: Path) -> None:
    encoder = vit(reg_tokens=2)
    cell = left_by_a_cell(encoder, tmp_path / "cell")
    export(cell, "dinov2", tmp_path / "out")
    assert "register_tokens" in load_file(tmp_path / "out" / "backbone_compatible.safetensors")
    assert same(load_start(tmp_path / "out").encoder, encoder.state_dict())
    with pytest.raises(SpecError, match="no register tokens"):
        export(cell, "hf", tmp_path / "hf")


def test_transformers_loads_an_export_and_sees_the_same(tmp_path: Path) -> None:
    encoder = vit()
    export(left_by_a_cell(encoder, tmp_path / "cell"), "hf", tmp_path / "out")
    theirs, loading = Dinov2Model.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        tokens = theirs.eval()(encoder.normalise(images)).last_hidden_state
        cls, patches = encoder.tokens(images)
    assert torch.allclose(tokens[:, 0], cls, atol=1e-5)
    assert torch.allclose(tokens[:, 1:], patches, atol=1e-5)
    size = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert size["image_mean"] == pytest.approx([0.53] * 3) and size["size"]["shortest_edge"] == 32


def test_timm_loads_an_export_and_sees_the_same(tmp_path: Path) -> None:
    encoder = vit()
    export(left_by_a_cell(encoder, tmp_path / "cell"), "timm", tmp_path / "out")
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = timm.create_model(
        about["architecture"], num_classes=0, img_size=32, **about["model_args"],
        checkpoint_path=str(tmp_path / "out" / "model.safetensors"),
    ).eval()  # fmt: skip
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs(encoder.normalise(images)), encoder(images))


@pytest.mark.parametrize("names", ["hub", "memory"])
def test_names_of_transformers_4_and_5_are_both_read(names: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    model = Dinov2Model(config).eval()
    if names == "hub":
        model.save_pretrained(tmp_path)
        names_there = load_file(tmp_path / "model.safetensors")
        assert any(".attention.attention.query." in name for name in names_there)
    else:
        save_file(model.state_dict(), tmp_path / "model.safetensors")
    start = load_start(tmp_path)
    assert start.layout == "hf"
    encoder = vit()
    encoder.load(start.encoder)
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = model(encoder.normalise(images)).last_hidden_state
        assert torch.allclose(encoder.tokens(images)[0], expected[:, 0], atol=1e-5)
    assert torch.equal(encoder.mask_token.flatten(), model.embeddings.mask_token.flatten())


def test_a_published_dino_head_comes_with_its_encoder(tmp_path: Path) -> None:
    save_file(to_hf_dinov2(vit().state_dict()), tmp_path / "model.safetensors")
    head = {f"mlp.{i}.{kind}": torch.randn(3) for i in (0, 2, 4) for kind in ("weight", "bias")}
    head |= {"last_layer.weight_g": torch.ones(5, 1), "last_layer.weight_v": torch.randn(5, 3)}
    save_file(head, tmp_path / "dino_head.safetensors")
    paradigm = load_start(tmp_path).paradigm
    assert torch.equal(paradigm["head.prototypes.direction"], head["last_layer.weight_v"])
    assert torch.equal(paradigm["head.prototypes.scale"], head["last_layer.weight_g"])
    assert torch.equal(paradigm["head.mlp.4.bias"], head["mlp.4.bias"]) and len(paradigm) == 8


@pytest.mark.parametrize("layout", ["hf", "dinov2"])
def test_a_dino_head_goes_out_with_its_encoder_and_comes_back(layout: str, tmp_path: Path) -> None:
    cell = left_by_a_cell(vit(), tmp_path / "cell")
    head = {
        f"head.mlp.{i}.{kind}": torch.randn(3) for i in (0, 2, 4) for kind in ("weight", "bias")
    }
    head |= {"head.prototypes.scale": torch.ones(5, 1), "head.prototypes.direction": torch.randn(5)}
    save_file(head, cell / "paradigm.safetensors")
    export(cell, layout, tmp_path / "out")
    published = load_file(tmp_path / "out" / "dino_head.safetensors")
    assert {"mlp.0.weight", "last_layer.weight_g", "last_layer.weight_v"} < set(published)
    assert same(load_start(tmp_path / "out").paradigm, head)

    # A head with batch normalisation has no name there.
    save_file(head | {"head.mlp.1.weight": torch.ones(3)}, cell / "paradigm.safetensors")
    export(cell, layout, tmp_path / "other")
    assert not (tmp_path / "other" / "dino_head.safetensors").exists()


@pytest.mark.parametrize("text", [False, True])
def test_a_davit_with_its_text_tower_comes_back_from_mi2(text: bool, tmp_path: Path) -> None:
    encoder = davit()
    cell = left_by_a_cell(encoder, tmp_path / "cell", text)
    export(cell, "mi2", tmp_path / "out")
    start, before = load_start(tmp_path / "out"), load_start(cell)
    assert start.layout == "mi2" and same(start.encoder, encoder.state_dict())
    assert same(start.paradigm, before.paradigm) and start.tokenizer == before.tokenizer
    published = load_file(tmp_path / "out" / "vision_model" / "medimageinsigt-v1.0.0.pt")
    for name in (
        "image_encoder.convs.0.proj.weight", "image_encoder.convs.2.norm.bias",
        "image_encoder.norms.weight",
        "image_encoder.blocks.2.1.spatial_block.window_attn.fn.qkv.weight",
        "image_encoder.blocks.0.0.channel_block.channel_attn.norm.weight",
        "image_encoder.blocks.3.0.channel_block.ffn.fn.net.fc1.weight",
        "image_encoder.blocks.1.0.spatial_block.conv2.fn.dw.bias",
    ):  # fmt: skip
        assert name in published
    assert ("lang_encoder.resblocks.1.attn.in_proj_weight" in published) == text


def test_clips_tokenizer_is_read_from_mi2s_folder_with_its_own_padding(tmp_path: Path) -> None:
    export(left_by_a_cell(davit(), tmp_path / "cell", text=True), "mi2", tmp_path / "out")
    folder = tmp_path / "out" / "language_model" / "clip_tokenizer_4.16.2"
    (folder / "tokenizer.json").unlink()
    words = ["!", "h", "e", "h</w>", "e</w>", "he</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nh e</w>\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "pad_token": "!"})
    )
    tokenizer = load_start(tmp_path / "out").tokenizer
    assert tokenizer is not None and json.loads(tokenizer)["padding"]["pad_id"] == 0
    assert vocabulary(tokenizer) == (8, 6, 7, 0)
    encoder = TextEncoder(tokenizer=tokenizer, length=6, policy="truncate")
    assert encoder.encode("HE he", np.random.default_rng(0)).tolist() == [6, 5, 5, 7, 0, 0]


def test_what_no_layout_knows_is_listed(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no weights in"):
        load_start(tmp_path)
    state = to_hf_dinov2(vit().state_dict())
    state["encoder.layer.0.extra"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match=r"no tensors named encoder\.layer\.0\.extra"):
        load_start(tmp_path)
    del state["encoder.layer.0.extra"], state["encoder.layer.1.attention.attention.key.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match=r"missing: model\.blocks\.1\.attn\.k\.bias"):
        load_start(tmp_path)


def test_an_encoder_goes_into_no_layout_that_cannot_hold_it(tmp_path: Path) -> None:
    cell = left_by_a_cell(davit(), tmp_path / "cell")
    for layout, message in (
        ("hf", "class token"), ("dinov2", "class token"), ("onnx", "known: dinov2, hf, mi2, timm"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=message):
            export(cell, layout, tmp_path / "out")
    with pytest.raises(SpecError, match="mi2 holds a DaViT"):
        export(left_by_a_cell(vit(), tmp_path / "vit"), "mi2", tmp_path / "out")


def test_a_pickle_is_read_only_as_weights(tmp_path: Path) -> None:
    model = vit().model
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert load_start(tmp_path).layout == "timm"
    torch.save(model, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_start(tmp_path)


def test_a_digest_changes_with_names_values_and_shapes_only() -> None:
    state = {"b": torch.zeros(2, 3), "a": torch.ones(4, dtype=torch.float16)}
    digest = encoder_digest(state)
    assert digest == encoder_digest(dict(reversed(list(state.items()))))
    for other in (
        {"b": torch.zeros(3, 2), "a": state["a"]}, {"c": state["b"], "a": state["a"]},
        {"b": state["b"] + 1e-9, "a": state["a"]}, {"b": state["b"], "a": state["a"].float()},
    ):  # fmt: skip
        assert encoder_digest(other) != digest


@pytest.mark.slow
def test_medimageinsights_402_tensors_map_one_to_one() -> None:
    with torch.device("meta"):
        model = timm.create_model("davit_huge_fl", num_classes=0)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    published = to_mi2(state, {})
    assert len(published) == len(state) == 402
    assert sum(tensor.numel() for tensor in published.values()) == 360_636_416
    back = rename(published, MI2_IMAGE, "mi2")
    assert {name: back[name].shape for name in back} == {name: state[name].shape for name in state}
