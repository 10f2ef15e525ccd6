"""What an encoder keeps of its starting weights' neighbours is watched, and training goes on as
ever."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from radsweep.errors import CollapsedError
from radsweep.paradigms.base import Paradigm
from radsweep.paradigms.image_text import ImageText
from radsweep.pretrain import cell as cell_module
from radsweep.pretrain import neighbours as neighbours_module
from radsweep.pretrain.cell import fit
from radsweep.pretrain.flops import flops_per_image, forward_flops
from radsweep.pretrain.loop import REPORT_STEPS, Ranks
from radsweep.pretrain.neighbours import (
    COST,
    JUDGED_FROM,
    LOST,
    Neighbours,
    nearest,
    overlap,
    steps_between,
)
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.record import Record
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.test_activation_checkpointing import CASES as ANEW
from tests.paradigms.test_compile import traced  # noqa: F401
from tests.paradigms.test_ranks import recipes
from tests.paradigms.tiny import SIZE, build, examples, recipe
from tests.pretrain.derived import Vit
from tests.pretrain.test_cell import BATCH, batches, log
from tests.pretrain.test_shard import share_of_batches
from tests.processes import together

FILMS, STEPS = 60, 40
CASES = {
    "clip": recipe("clip", warmup=0.0),
    "dropped paths": recipe("dinov2", drop_path=0.5, warmup=0.0),
    "batch norm": recipes()["batch norm"],
    "davit": ANEW["davit"],
}


class _LostError(Exception):
    """Of a machine that went away."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with every log row, whatever it costs."""
    monkeypatch.setattr(neighbours_module, "COST", 1e9)


def cell_of(made: Recipe) -> Cell:
    budget = Budget(steps=STEPS, batch_size=BATCH)
    return Cell(recipe=made, subset=Subset(corpus=CORPUS, images=FILMS), budget=budget)


def run(
    folder: Path, made: Recipe, source: Any = batches, **placed: Any
) -> tuple[Record, pl.DataFrame]:
    store, cell = Store(str(folder)), cell_of(made)
    if not folder.exists():
        write_corpus(store, pretrain=FILMS // 2)
    record = fit(
        cell, store, Ranks(), source, checkpoint_steps=15, report=lambda row: None, **placed
    )
    return record, log(store, cell)


def test_neighbours_are_those_of_an_obvious_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(12, 5, generator=generator) + 3
    now = before + 0.5 * torch.randn(12, 5, generator=generator)

    def near(features: torch.Tensor, i: int) -> set[int]:
        rows = features - features.mean(dim=0)
        found = [
            (-float(torch.cosine_similarity(rows[i], rows[j], dim=0)), j)
            for j in range(12) if j != i
        ]  # fmt: skip
        return {j for _, j in sorted(found)[:3]}

    kept = sum(len(near(before, i) & near(now, i)) for i in range(12)) / (12 * 3)
    assert overlap(nearest(before, 3), nearest(now, 3)) == pytest.approx(kept)
    assert 0.3 < kept < 1.0
    # Neither moved, nor stretched, nor turned.
    turned = 7.0 * before @ torch.linalg.qr(torch.randn(5, 5, generator=generator))[0] - 2.0
    assert overlap(nearest(before, 3), nearest(turned, 3)) == 1.0


def test_features_that_know_nothing_of_one_another_share_what_chance_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = [
        overlap(*(nearest(torch.randn(128, 64, generator=generator), 5) for _ in range(2)))
        for _ in range(100)
    ]
    assert sum(shared) / 100 == pytest.approx(5 / 127, abs=0.003)
    assert sum(each <= LOST * 5 / 127 for each in shared) >= 97


def test_two_random_encoders_share_more_than_chance() -> None:
    films = torch.stack([torch.from_numpy(one.pixels[:SIZE, :SIZE])[None] for one in examples(128)])
    vit, davit = (build(CASES[name]).eval() for name in ("clip", "davit"))
    large = torch.nn.functional.interpolate(films.float() / 255, size=64)
    with torch.no_grad():
        shared = overlap(nearest(vit.encode(films), 5), nearest(davit.encode(large), 5))
    assert shared > 1.5 * LOST * 5 / 127


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.usefixtures("often", "traced")
@pytest.mark.parametrize(
    ("name", "placed"),
    [
        *((name, {}) for name in CASES),
        ("davit", {"activation_checkpointing": True}),
        ("clip", {"compile_blocks": True}),
        ("dropped paths", {"images_at_once": 3}),
    ],
)
def test_training_is_the_same_bits_with_and_without(
    name: str, placed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, rows = run(tmp_path / "watched", CASES[name], **placed)
    kept = rows["monitor_kept_neighbours"].to_list()
    assert len(kept) == STEPS // REPORT_STEPS and all(0 < share <= 1 for share in kept)
    monkeypatch.setattr(cell_module, "LEAST_IMAGES", FILMS + 1)
    plain, rows = run(tmp_path / "plain", CASES[name], **placed)
    assert "monitor_kept_neighbours" not in rows.columns
    assert watched.encoder_digest == plain.encoder_digest != plain.start_digest
    assert watched.final_losses == plain.final_losses
    assert (watched.key, watched.flops) == (plain.key, plain.flops)


@pytest.mark.usefixtures("often")
def test_what_does_not_move_keeps_all_its_neighbours_and_what_learns_does_not(
    tmp_path: Path,
) -> None:
    still = dataclasses.replace(CASES["clip"], learning_rate=1e-12)
    _, rows = run(tmp_path / "still", still)
    assert rows["monitor_kept_neighbours"].to_list() == [1.0] * 4
    _, rows = run(tmp_path / "moved", CASES["clip"])
    assert rows["monitor_kept_neighbours"].max() < 1.0  # type: ignore[operator]


@pytest.mark.usefixtures("often")
def test_a_cell_that_was_lost_logs_the_very_shares(tmp_path: Path) -> None:
    made = CASES["dropped paths"]
    _, whole = run(tmp_path / "whole", made)

    def broken(*given: Any) -> Iterable[Any]:
        for step, views in enumerate(batches(*given), given[3]):
            if step == 22:
                raise _LostError
            yield views

    with pytest.raises(_LostError):
        run(tmp_path / "lost", made, broken)
    _, again = run(tmp_path / "lost", made)
    kept = again["monitor_kept_neighbours"]
    assert kept.to_list() == whole["monitor_kept_neighbours"].to_list()
    assert kept.null_count() == 0


def _rank(rank: int, folder: str) -> None:
    setattr(neighbours_module, "COST", 1e9)  # noqa: B010
    for name in ("clip", "dropped paths"):
        for way in ("copies", "shares"):
            # As good as still: what is left to differ is what this file is about.
            made = dataclasses.replace(CASES[name], learning_rate=1e-4)
            fit(
                cell_of(made), Store(str(Path(folder) / name / way)), Ranks(rank=rank, size=2),
                share_of_batches, checkpoint_steps=15, report=lambda row: None,
                sharded=way == "shares",
            )  # fmt: skip


@pytest.mark.usefixtures("often")
def test_processes_together_find_what_one_finds(tmp_path: Path) -> None:
    names, ways = ("clip", "dropped paths"), ("copies", "shares")
    for name in names:
        for way in ways:
            write_corpus(Store(str(tmp_path / name / way)), pretrain=FILMS // 2)
    together(_rank, 2, str(tmp_path))
    for name in names:
        made = dataclasses.replace(CASES[name], learning_rate=1e-4)
        _, alone = run(tmp_path / name / "alone", made)
        for way in ways:
            found = log(Store(str(tmp_path / name / way)), cell_of(made))
            pair = found["monitor_kept_neighbours"], alone["monitor_kept_neighbours"]
            assert pair[0].to_list() == pytest.approx(pair[1].to_list(), abs=0.02), (name, way)


def watched(paradigm: Paradigm, made: Recipe) -> Neighbours:
    films = [torch.from_numpy(one.pixels[:SIZE, :SIZE])[None] for one in examples(FILMS)]
    return Neighbours(cell_of(made), paradigm, torch.stack(films), FILMS, REPORT_STEPS)


def test_an_encoder_to_which_all_films_are_one_is_an_error() -> None:
    made = recipe("clip", start_from="weights", learning_rate=3e-4)
    paradigm = build(made)
    watch = watched(paradigm, made)
    assert watch.kept(paradigm, REPORT_STEPS) == 1.0
    watch.judge(1.0, spent=1.0)
    with torch.no_grad():
        paradigm.encoder.model.norm.weight.zero_()
    lost = watch.kept(paradigm, REPORT_STEPS)
    assert lost is not None and watch.kept(paradigm, REPORT_STEPS + 1) is None
    watch.judge(lost, spent=JUDGED_FROM - 0.01)
    with pytest.raises(CollapsedError, match=r"after 30% .* chance: .*learning_rate \(now 0.0003"):
        watch.judge(lost, spent=JUDGED_FROM)
    random = recipe("clip")
    watched(paradigm, random).judge(lost, spent=1.0)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_cell_ends_where_nothing_is_left_of_what_its_start_knew(
    is_lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(paradigm: ImageText, spent: float) -> None:
        with torch.no_grad():
            paradigm.encoder.model.norm.weight.zero_()

    build(CASES["clip"]).save(_made(tmp_path / "weights"))
    made = dataclasses.replace(CASES["clip"], start_from=str(tmp_path / "weights"))
    if not is_lost:
        _, rows = run(tmp_path / "store", made)
        assert rows["monitor_kept_neighbours"][-1] > 0.2
        return
    monkeypatch.setattr(ImageText, "after_step", forget)
    with pytest.raises(CollapsedError, match="nothing is left of what they knew") as raised:
        run(tmp_path / "store", made)
    assert raised.value.state == "collapsed"
    rows = log(Store(str(tmp_path / "store")), cell_of(made))
    assert rows["monitor_kept_neighbours"][-1] < 0.07 and rows["spent"].to_list() == [0.25, 0.5]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_budget_that_has_no_room_for_it_is_not_watched(tmp_path: Path) -> None:
    _, rows = run(tmp_path / "store", CASES["clip"])
    assert "monitor_kept_neighbours" not in rows.columns and len(rows) == STEPS // REPORT_STEPS


def test_watching_costs_at_most_its_share_of_the_steps_between() -> None:
    made = recipe("clip")
    paradigm = build(made)
    one = forward_flops(paradigm.encoder, SIZE)
    vit = Vit(width=32, depth=2, patch=8, channels=1)
    assert one == pytest.approx(vit.forward(SIZE), rel=1e-12)
    step = flops_per_image(paradigm, made)
    for batch_size in (8, 64, 1024, 10**5):
        steps = steps_between(128, one, step, batch_size, REPORT_STEPS)
        assert steps % REPORT_STEPS == 0 and 128 * one <= COST * steps * batch_size * step
        rarer = steps - REPORT_STEPS
        assert rarer == 0 or 128 * one > COST * rarer * batch_size * step
