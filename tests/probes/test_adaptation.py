"""Language models that are loaded from a folder: kept, added to, or trained."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from radsweep.errors import SpecError
from radsweep.probes.adaptation import adapt
from radsweep.probes.base import Fitted, Labelled, Range
from radsweep.probes.language import Language, Shape, build_language, load_language
from radsweep.probes.report import Report
from radsweep.probes.report_presets import lora_7b
from radsweep.specs import Protocol
from tests.probes import toy

CPU = torch.device("cpu")
TRAIN, VAL = toy.reports(60, True, 1), toy.reports(20, True, 2)
FAST = {"token_side": 2, "batch_size": 8, "max_tokens": 32, "steps": 6}
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft (extra lora) is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of random weights, as transformers saves it."""
    shape = Shape(vocabulary_size=300, width=32, layers=2, heads=2, positions=128)
    made = build_language(shape, list(TRAIN.targets), seed=0)
    saved = tmp_path_factory.mktemp("language")
    made.model.save_pretrained(saved)  # type: ignore[operator]
    made.tokenizer.save(str(saved / "tokenizer.json"))
    return str(saved)


def _fit(settings: dict[str, object], rate: float = 1e-2, train: Labelled = TRAIN) -> Fitted:
    return Report.build(settings).fit(train, VAL, {"learning_rate": rate}, seed=5, device=CPU)  # type: ignore[arg-type]


def _language(fitted: Fitted) -> Language:
    return fitted._language  # type: ignore[attr-defined, no-any-return]


def _moved(fitted: Fitted, folder: str) -> set[str]:
    """Names of the folder's tensors that training changed."""
    found = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in _language(fitted).model.state_dict().items()
    }
    saved = load_file(Path(folder) / "model.safetensors")
    return {name for name, tensor in saved.items() if not torch.equal(found[name], tensor)}


def test_frozen_the_language_model_stays_as_it_was_and_the_projector_learns(folder: str) -> None:
    settings = FAST | {"language_model": folder, "adapt": "frozen"}
    short, long = _fit(settings), _fit(settings | {"steps": 40})
    assert _moved(long, folder) == set()
    assert long.val_score > short.val_score


def test_in_full_every_weight_learns(folder: str) -> None:
    fitted = _fit(FAST | {"language_model": folder, "adapt": "full"})
    assert _moved(fitted, folder) == set(load_file(Path(folder) / "model.safetensors"))


@needs_peft
def test_by_lora_only_the_additions_learn_and_more_than_a_projector_alone_can(folder: str) -> None:
    settings = FAST | {"language_model": folder, "steps": 60}
    frozen = _fit(settings | {"adapt": "frozen"})
    lora = _fit(settings | {"adapt": "lora", "lora_rank": 4, "lora_alpha": 8})
    assert _moved(lora, folder) == set()
    assert lora.val_score > frozen.val_score
    assert len(lora.predict(VAL.features)) == len(VAL.targets)


@needs_peft
def test_lora_is_the_formula_and_begins_as_the_model_was(folder: str) -> None:
    language = load_language(folder, torch.float32)
    prefix = torch.randn(3, 5, language.width, generator=torch.Generator().manual_seed(0))
    ids = language.encode(list(VAL.targets[:3]), 24)
    language.model.eval()
    before = language.loss(prefix, ids).item()
    trained = adapt(language.model, "lora", rank=4, alpha=8, seed=1)
    assert language.loss(prefix, ids).item() == before
    names = {name for name, one in language.model.named_parameters() if one.requires_grad}
    assert len(names) == len(trained) == 2 * 2 * 7
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    layer = language.model.get_submodule("model.layers.0.mlp.up_proj")
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()  # type: ignore[index, union-attr, operator]
        x = torch.randn(2, language.width)
        low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # type: ignore[index, union-attr]
        expected = x @ layer.base_layer.weight.T + (8 / 4) * x @ low.T @ high.T  # type: ignore[operator, union-attr]
        torch.testing.assert_close(layer(x), expected)


@needs_peft
def test_rank_and_decay_are_searched_where_they_have_a_range_and_take_the_choice(
    folder: str,
) -> None:
    settings = FAST | {"language_model": folder, "adapt": "lora", "lora_rank": 4}
    assert set(Report.build(settings).space()) == {"learning_rate"}  # type: ignore[arg-type]
    ranges = {"lora_rank_low": 2, "lora_rank_high": 8} | {
        "weight_decay_low": 1e-3,
        "weight_decay_high": 0.5,
    }
    probe = Report.build(settings | ranges)  # type: ignore[arg-type]
    space = probe.space()
    assert space["lora_rank"] == Range(low=2, high=8, first=4, is_whole=True)
    assert set(space) == {"learning_rate", "weight_decay", "lora_rank"}
    first = {name: each.first for name, each in space.items()}
    same = probe.fit(TRAIN, VAL, first, 5, CPU)
    assert same.val_score == _fit(settings, rate=first["learning_rate"]).val_score
    other = probe.fit(TRAIN, VAL, first | {"lora_rank": 2, "weight_decay": 0.5}, 5, CPU)
    shapes = {
        tensor.shape[0]
        for name, tensor in _language(other).model.named_parameters()
        if ".lora_A." in name
    }
    assert shapes == {2}
    less = probe.fit(TRAIN, VAL, first | {"lora_rank": 2}, 5, CPU)
    assert other.val_score != less.val_score


@needs_peft
def test_lora_draws_hang_on_the_seed_alone(folder: str) -> None:
    settings = FAST | {"language_model": folder, "adapt": "lora"}
    first = _fit(settings).val_score
    torch.manual_seed(123)
    assert _fit(settings).val_score == first


@needs_peft
def test_lora_trains_in_float32_beside_a_model_held_in_bfloat16(folder: str) -> None:
    fitted = _fit(FAST | {"language_model": folder, "adapt": "lora", "precision": "bf16"})
    kinds = {
        ("lora_" in name, one.dtype) for name, one in _language(fitted).model.named_parameters()
    }
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    assert np.isfinite(fitted.val_score)
    assert len(fitted.predict(VAL.features)) == len(VAL.targets)


def test_a_projector_stage_may_have_a_rate_of_its_own(folder: str) -> None:
    settings = FAST | {"language_model": folder, "adapt": "frozen", "projector_steps": 30}
    slow = _fit(settings, rate=1e-7)
    own = _fit(settings | {"projector_learning_rate": 1e-2}, rate=1e-7)
    assert own.val_score > slow.val_score


@needs_peft
def test_the_7b_preset_is_read_by_a_protocol_and_builds_around_a_llama_of_any_size(
    folder: str,
) -> None:
    protocol = Protocol(tasks=("reports",), settings=lora_7b(folder))
    probe = Report.build(protocol.probe_settings("report"))
    assert probe.token_side == 16
    first = probe.space()["learning_rate"]
    assert first.low < first.first < first.high
    # The same settings, but for steps and tokens that a test has time for.
    small = protocol.probe_settings("report") | {"projector_steps": 2} | FAST
    fitted = Report.build(small).fit(TRAIN, VAL, {"learning_rate": first.first}, 0, CPU)
    assert next(iter(_language(fitted).model.parameters())).dtype == torch.bfloat16
    assert np.isfinite(fitted.val_score)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapt": "some"}, "known: frozen, lora, full"),
        ({"adapt": "frozen"}, "knows no language yet"),
        ({"language_model": "/x", "precision": "fp16"}, "known: fp32, bf16"),
        ({"language_model": "/x", "precision": "bf16"}, "lost in weights of so few digits"),
        ({"lora_rank": 0}, "at least 1"),
        ({"lora_rank_low": 2, "lora_rank_high": 8}, "'full', which has no rank"),
        ({"weight_decay_low": 0.1, "weight_decay_high": 0.5}, "is searched from 0.1 to 0.5"),
        ({"weight_decay_high": 0.5}, "set weight_decay_low above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Report.build(settings)  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_without_peft_lora_says_what_to_install() -> None:
    with pytest.raises(SpecError, match=r"pip install radsweep\[lora\]"):
        Report.build({"language_model": "/x", "adapt": "lora"})
