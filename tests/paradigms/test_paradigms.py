"""What every paradigm promises to the loop: it learns, resumes exactly, and leaves what others
start from."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from radsweep import parts
from radsweep.errors import CollapsedError, SpecError
from radsweep.models.weights import encoder_digest, load_start
from radsweep.paradigms.base import Paradigm
from radsweep.paradigms.dinov2 import DinoV2
from radsweep.paradigms.image_text import ImageText
from radsweep.pretrain import schedule
from radsweep.pretrain.flops import flops_per_image
from radsweep.pretrain.loop import make_optimiser
from radsweep.specs import Recipe
from tests.paradigms.tiny import HEAD, batch, build, examples, recipe

PARADIGMS = ("clip", "unicl", "dinov2")


def steps(
    paradigm: Paradigm,
    made: Recipe,
    first: int,
    last: int,
    of: int,
    optimiser: torch.optim.Optimizer,
) -> list[float]:
    """Steps of the training loop without its bookkeeping; the total loss of each."""
    totals = []
    for step in range(first, last):
        spent = step / of
        schedule.apply(optimiser, made, spent)
        loss = torch.stack(list(paradigm(batch(paradigm, 16, seed=step), spent).values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(paradigm.parameters(), 1.0)
        paradigm.before_update(spent)
        optimiser.step()
        paradigm.after_step((step + 1) / of)
        totals.append(loss.item())
    return totals


@pytest.mark.parametrize("name", PARADIGMS)
def test_the_loss_falls_on_16_toy_images(name: str) -> None:
    more = {"targets": "sinkhorn", "head_batch_norm": True, "koleo_weight": 0.0}
    made = recipe(name, learning_rate=3e-3, **(more if name == "dinov2" else {}))
    paradigm = build(made)
    totals = steps(paradigm, made, 0, 80, 80, make_optimiser(paradigm, made))
    # A blind guess of contrast costs ln 16 = 2.77; the noise of a batch is some hundredths.
    assert sum(totals[-10:]) / 10 < 0.95 * min(totals[0], math.log(16) if name != "dinov2" else 99)
    figures = paradigm.monitors()
    assert figures and all(torch.isfinite(torch.tensor(value)) for value in figures.values())


@pytest.mark.parametrize("name", PARADIGMS)
def test_a_resumed_paradigm_goes_on_as_if_nothing_had_happened(name: str) -> None:
    more = {"drop_path": 0.3, "freeze_last_layer": 0.2, "separate_patch_head": True}
    made = recipe(name, **(more if name == "dinov2" else {}))
    whole = build(made)
    whole_totals = steps(whole, made, 0, 6, 6, make_optimiser(whole, made))

    begun = build(made)
    optimiser = make_optimiser(begun, made)
    steps(begun, made, 0, 3, 6, optimiser)
    state = copy.deepcopy((begun.state_dict(), optimiser.state_dict(), torch.get_rng_state()))

    resumed = build(made, seed=1)
    optimiser = make_optimiser(resumed, made)
    resumed.load_state_dict(state[0])
    optimiser.load_state_dict(state[1])
    torch.set_rng_state(state[2])
    assert steps(resumed, made, 3, 6, 6, optimiser) == whole_totals[3:]
    for (one, mine), (other, theirs) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert one == other and torch.equal(mine, theirs), one


@pytest.mark.parametrize("name", PARADIGMS)
def test_another_cell_can_start_from_what_is_saved(name: str, tmp_path: Path) -> None:
    made = recipe(name)
    first = build(made)
    steps(first, made, 0, 2, 4, make_optimiser(first, made))
    first.save(tmp_path)
    start = load_start(tmp_path)
    assert start.layout == "radsweep"
    assert start.digest == encoder_digest(first.encoder.state_dict())
    second = build(made, start, seed=1)
    for name_, tensor in second.encoder.state_dict().items():
        assert torch.equal(tensor, first.encoder.state_dict()[name_])
    given = batch(first)
    assert {n: t.item() for n, t in second.eval().losses(given, 0.5).items()} == pytest.approx(
        {n: t.item() for n, t in _as_started(first, name).eval().losses(given, 0.5).items()}
    )


def _as_started(paradigm: Paradigm, name: str) -> Paradigm:
    """A teacher's weights in both places, as a cell starts; the loss centres begin at 0."""
    if isinstance(paradigm, DinoV2):
        paradigm.student.load_state_dict(paradigm.encoder.state_dict())
        paradigm.head.load_state_dict(paradigm.teacher_head.state_dict())
        paradigm.centre.zero_()
        paradigm.patch_centre.zero_()
    return paradigm


@pytest.mark.parametrize(("name", "other"), [("clip", "dinov2"), ("dinov2", "clip")])
def test_a_paradigm_can_start_from_another_ones_encoder(
    name: str, other: str, tmp_path: Path
) -> None:
    build(recipe(other)).save(tmp_path)
    paradigm = build(recipe(name), load_start(tmp_path), seed=1)
    assert encoder_digest(paradigm.encoder.state_dict()) == load_start(tmp_path).digest


@pytest.mark.parametrize("name", PARADIGMS)
def test_every_trained_parameter_gets_a_gradient_and_one_group(name: str) -> None:
    # Data-parallel training waits for every parameter, so one without a gradient would hang it.
    made = recipe(name)
    paradigm = build(made)
    torch.stack(list(paradigm.losses(batch(paradigm), 0.5).values())).sum().backward()
    trained = {n: p for n, p in paradigm.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    groups = paradigm.parameter_groups(made)
    members = [id(p) for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(members) == sorted(id(p) for p in trained.values())


def scales(paradigm: Paradigm, made: Recipe) -> dict[str, tuple[object, object]]:
    names = {id(parameter): name for name, parameter in paradigm.named_parameters()}
    return {
        names[id(parameter)]: (group["learning_rate_scale"], group["weight_decay_scale"])
        for group in paradigm.parameter_groups(made)
        for parameter in group["params"]  # type: ignore[attr-defined]
    }


def test_clip_decays_matrices_only() -> None:
    found = scales(*_made("clip", layer_decay=0.5, text_learning_rate_scale=0.1))
    assert found["encoder.model.blocks.1.attn.qkv.weight"][1] == 1.0
    for name in (
        "encoder.model.blocks.1.attn.qkv.bias", "encoder.model.norm.weight",
        "encoder.model.cls_token",
        "encoder.model.pos_embed", "logit_scale", "text.positions", "text.token_embedding.weight",
        "text.blocks.0.norm1.weight",
    ):  # fmt: skip
        assert found[name][1] == 0.0, name
    assert found["text.positions"][0] == found["text_projection"][0] == 0.1
    assert found["image_projection"][0] == found["logit_scale"][0] == 1.0
    assert found["encoder.model.blocks.0.attn.qkv.weight"][0] == 0.5 * float(
        found["encoder.model.blocks.1.attn.qkv.weight"][0]  # type: ignore[arg-type]
    )


def test_dinov2_decays_tokens_and_slows_the_patch_embedding() -> None:
    found = scales(*_made("dinov2", layer_decay=0.5, head_learning_rate_scale=10.0))
    assert found["student.model.cls_token"][1] == found["student.mask_token"][1] == 1.0
    assert found["student.model.norm.bias"][1] == found["head.mlp.0.bias"][1] == 0.0
    stem = float(found["student.model.cls_token"][0])  # type: ignore[arg-type]
    assert found["student.model.patch_embed.proj.weight"][0] == pytest.approx(0.2 * stem)
    assert found["head.prototypes.direction"] == (10.0, 1.0)
    assert not [name for name in found if name.startswith(("encoder.", "teacher_"))]


def _made(name: str, **changes: object) -> tuple[Paradigm, Recipe]:
    made = recipe(name, **changes)
    return build(made), made


def moved(paradigm: Paradigm, before: dict[str, Tensor], prefix: str) -> bool:
    return any(
        not torch.equal(tensor, before[name])
        for name, tensor in paradigm.state_dict().items()
        if name.startswith(prefix)
    )


def test_the_head_warms_up_alone_and_the_last_layer_waits() -> None:
    made = recipe("dinov2", head_warmup=0.5, freeze_last_layer=0.25, warmup=0.0)
    paradigm = build(made)
    optimiser = make_optimiser(paradigm, made)
    start = copy.deepcopy(paradigm.state_dict())
    steps(paradigm, made, 0, 1, 4, optimiser)
    assert moved(paradigm, start, "head.mlp") and not moved(paradigm, start, "head.prototypes")
    steps(paradigm, made, 1, 2, 4, optimiser)
    assert moved(paradigm, start, "head.prototypes") and not moved(paradigm, start, "student")
    assert not moved(paradigm, start, "encoder")
    steps(paradigm, made, 2, 3, 4, optimiser)
    assert moved(paradigm, start, "student") and moved(paradigm, start, "encoder")


def test_the_teacher_is_the_students_moving_average() -> None:
    made = recipe("dinov2", teacher_momentum=0.9, warmup=0.0)
    paradigm = build(made)
    assert isinstance(paradigm, DinoV2)
    before = copy.deepcopy(paradigm.encoder.state_dict())
    steps(paradigm, made, 0, 1, 2, make_optimiser(paradigm, made))
    momentum = 1 + (0.9 - 1) * 0.5  # half way along the cosine
    student = paradigm.student.state_dict()
    for name, tensor in paradigm.encoder.state_dict().items():
        expected = momentum * before[name] + (1 - momentum) * student[name]
        assert torch.allclose(tensor, expected, atol=1e-6), name


def test_a_collapse_is_reported_after_the_warm_up_and_not_before() -> None:
    paradigm = build(recipe("dinov2", collapse_after=0.3))
    given = batch(paradigm)
    given["globals"][:] = 100
    given["locals"][:] = 100
    paradigm.losses(given, 0.2)
    figures = paradigm.monitors()
    assert figures["cls_cosine"] > 0.9999
    paradigm.judge(figures)
    paradigm.losses(given, 0.4)
    with pytest.raises(CollapsedError, match="after 40% of the budget"):
        paradigm.judge(paradigm.monitors())


def test_drop_path_is_the_students_alone() -> None:
    paradigm = build(recipe("dinov2", drop_path=0.5))
    assert isinstance(paradigm, DinoV2)
    images = batch(paradigm)["globals"][:, 0]
    with torch.no_grad():
        assert torch.equal(paradigm.encoder(images), paradigm.encoder(images))
        assert not torch.equal(paradigm.student(images), paradigm.student(images))


@pytest.mark.parametrize("name", PARADIGMS)
def test_flops_are_counted_without_touching_the_paradigm(name: str) -> None:
    made = recipe(name)
    paradigm = build(made)
    before = copy.deepcopy(paradigm.state_dict())
    count = flops_per_image(paradigm, made)
    assert count == flops_per_image(paradigm, made) > 1e5
    assert not moved(paradigm, before, "")


def test_a_davit_learns_with_reports_but_not_with_dinov2() -> None:
    small = {
        "encoder": "davit_tiny", "image_size": 64,
        "encoder_settings": {
            "embed_dims": "8,16,16,32", "num_heads": "1,2,2,4", "depths": "1,1,1,1", "in_chans": 1,
        },
    }  # fmt: skip
    paradigm = build(recipe("clip", **small))
    loss = paradigm.losses(batch(paradigm), 0.0)["contrast"]
    loss.backward()
    assert torch.isfinite(loss)
    with pytest.raises(SpecError, match="needs a ViT with a class token"):
        build(recipe("dinov2", **small))


def test_bf16_keeps_losses_in_fp32() -> None:
    for name in PARADIGMS:
        paradigm = build(recipe(name))
        with torch.autocast("cpu", torch.bfloat16):
            terms = paradigm(batch(paradigm), 0.5)
        assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("clip", {"text_policy": "cut"}, "known: truncate, impression_first, sentences"),
        ("clip", {"text_width": "wide"}, "must be a int, like its default 512"),
        ("clip", {"temperature": 0.0}, "must be positive"),
        ("unicl", {"label_policy": "all"}, "known: one, set"),
        ("unicl", {"label_share": 1.5}, "share in"),
        ("dinov2", {"local_size": 20}, "no multiple of the patch"),
        ("dinov2", {"targets": "mean"}, "known: centering, sinkhorn"),
    ],
)
def test_impossible_settings_are_refused(
    name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        build(recipe(name, **changes)).viewer()


def test_a_text_tower_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    build(recipe("clip")).save(tmp_path)
    with pytest.raises(SpecError, match="text_projection"):
        build(recipe("clip", embed_dim=8), load_start(tmp_path))
    build(recipe("dinov2")).save(tmp_path)
    with pytest.raises(SpecError, match="DINO head"):
        build(recipe("dinov2", prototypes=25), load_start(tmp_path))


def test_settings_that_a_plan_reads_are_the_ones_that_run() -> None:
    for name in PARADIGMS:
        module = __import__(f"radsweep.paradigms.{name}", fromlist=["Settings"])
        assert parts.setting_names("paradigms", name) == list(module.Settings.__dataclass_fields__)
    clip, unicl = (set(parts.setting_names("paradigms", name)) for name in ("clip", "unicl"))
    assert clip < unicl
    assert set(HEAD) < set(parts.setting_names("paradigms", "dinov2"))
    assert isinstance(build(recipe("unicl")), ImageText) and len(examples(2)) == 2
