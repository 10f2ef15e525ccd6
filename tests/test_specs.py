import dataclasses

import pytest

from radsweep.errors import SpecError
from radsweep.specs import (
    FLOPS_VERSION,
    Budget,
    Cell,
    Protocol,
    Recipe,
    Subset,
    Sweep,
    short_count,
)


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "paradigm": "clip",
        "encoder": "vit_tiny_patch16_224",
        "image_size": 64,
        "learning_rate": 1e-3,
    }
    return Recipe(**(fields | changes))  # type: ignore[arg-type]


def sweep(**changes: object) -> Sweep:
    fields: dict[str, object] = {
        "name": "toy",
        "corpus": "toy@1",
        "recipes": (recipe(), recipe(paradigm="dinov2")),
        "images": (16, 64),
        "budget": Budget(images_seen=640, batch_size=32),
        "protocol": Protocol(tasks=("findings",)),
    }
    return Sweep(**(fields | changes))  # type: ignore[arg-type]


def test_a_budget_has_exactly_one_unit() -> None:
    with pytest.raises(SpecError, match="exactly one unit"):
        Budget(batch_size=32)
    with pytest.raises(SpecError, match="exactly one unit"):
        Budget(steps=3, flops=1e9, batch_size=32)


def test_every_unit_of_a_budget_gives_the_steps_that_spend_it() -> None:
    assert Budget(steps=7, batch_size=32).steps_for(1e6) == 7
    assert Budget(images_seen=640, batch_size=32).steps_for(1e6) == 20
    assert Budget(flops=64e6 * 10, batch_size=32).steps_for(2e6) == 10
    assert Budget(gpu_seconds=5, batch_size=32).steps_for(2e6) is None


def test_images_that_do_not_fill_the_last_batch_are_refused() -> None:
    with pytest.raises(SpecError, match="no multiple of batch_size"):
        Budget(images_seen=100, batch_size=32)


def test_an_unknown_paradigm_gets_the_nearest_known_name() -> None:
    with pytest.raises(SpecError, match="did you mean 'dinov2'"):
        recipe(paradigm="dinov3x")


def test_an_unknown_setting_gets_the_nearest_known_name() -> None:
    with pytest.raises(SpecError, match="did you mean 'text_length'"):
        recipe(settings={"text_lenght": 32})


def test_an_unknown_task_gets_the_nearest_known_name() -> None:
    with pytest.raises(SpecError, match="did you mean 'findings'"):
        Protocol(tasks=("finding",))


def test_a_protocol_setting_names_its_probe() -> None:
    protocol = Protocol(tasks=("reports",), settings={"report.steps": 5})
    assert protocol.probe_settings("report") == {"steps": 5}
    with pytest.raises(SpecError, match="no setting"):
        Protocol(tasks=("reports",), settings={"report.stepz": 5})


def test_adding_a_scale_leaves_the_other_cells_alone() -> None:
    before = {cell.name for cell in sweep().cells()}
    after = {cell.name for cell in sweep(images=(16, 64, 256)).cells()}
    assert before < after
    assert len(after - before) == 2


def test_every_field_of_a_recipe_moves_the_key() -> None:
    base = Cell(
        recipe=recipe(),
        subset=Subset(corpus="toy@1", images=16),
        budget=Budget(steps=3, batch_size=8),
    )
    others = {
        "start_from": "cell:x", "encoder": "davit_tiny", "encoder_settings": {"depth": 2},
        "image_size": 96, "pixel_mean": 0.4, "pixel_std": 0.2, "learning_rate": 2e-3,
        "weight_decay": 0.1, "weight_decay_end": 0.4, "warmup": 0.2, "final_learning_rate": 1e-6,
        "cooldown": 0.2,
        "clip_norm": None, "clip_each_module": True, "layer_decay": 0.9, "precision": "bf16",
        "settings": {"text_length": 32}, "paradigm": "dinov2",
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(Recipe)}
    keys = {
        dataclasses.replace(base, recipe=recipe(**{name: value})).key
        for name, value in others.items()
    }
    assert len(keys | {base.key}) == len(others) + 1


def test_the_baseline_does_not_depend_on_budget_seed_or_corpus() -> None:
    one, other = sweep(), sweep(corpus="other@2", budget=Budget(steps=3, batch_size=8), seeds=(3,))
    assert one.cells()[0].is_baseline
    assert one.cells()[0].key == other.cells()[0].key


def test_recipes_that_start_from_the_same_weights_share_a_baseline() -> None:
    slow, fast = recipe(learning_rate=1e-3), recipe(learning_rate=2e-3)
    cells = sweep(recipes=(slow, fast), protocol=None).cells()
    assert [cell.is_baseline for cell in cells].count(True) == 1
    assert cells[1].baseline.key == cells[2].baseline.key == cells[0].key


def test_two_recipes_that_would_be_one_curve_are_refused_where_they_are_scored() -> None:
    with pytest.raises(SpecError, match=r"2 recipes are clip from .*give each a sweep of its own"):
        sweep(recipes=(recipe(), recipe(learning_rate=2e-3)))


def test_cells_come_smallest_scale_first() -> None:
    images = [cell.subset.images for cell in sweep(seeds=(0, 1)).cells()]
    assert images == [0, 0, 16, 16, 16, 16, 64, 64, 64, 64]


def test_a_key_never_moves_by_accident() -> None:
    """If this fails on purpose, raise the part's VERSION or note the move in the changelog."""
    cell = Cell(
        recipe=recipe(settings={"text_length": 32}),
        subset=Subset(corpus="toy@1", images=30_000, seed=1),
        budget=Budget(images_seen=6400, batch_size=32),
        seed=2,
    )
    identity = cell.identity
    assert identity["paradigm_version"] == 3
    assert cell.name == GOLDEN


def test_how_flops_are_counted_is_part_of_the_key_where_it_says_how_long_a_cell_learns() -> None:
    by_flops, by_steps = (
        sweep(budget=budget).cells()[-1].identity
        for budget in (Budget(flops=1e12, batch_size=32), Budget(steps=3, batch_size=32))
    )
    assert by_flops["flops_version"] == FLOPS_VERSION
    assert "flops_version" not in by_steps


def test_stratified_subsets_have_a_key_of_their_own_whatever_the_order_of_the_columns() -> None:
    def key(**more: object) -> str:
        cell = sweep(**more).cells()[-1]
        assert "stratify_by" in cell.identity["subset"] or "stratify_by" not in more
        return cell.key

    assert key() != key(stratify_by=("sex",)) != key(stratify_by=("view", "sex"))
    assert key(stratify_by=("view", "sex")) == key(stratify_by=("sex", "view"))
    with pytest.raises(SpecError, match="twice"):
        sweep(stratify_by=("sex", "sex"))
    with pytest.raises(SpecError, match=r"the text 'sex'; write \('sex',\)"):
        sweep(stratify_by="sex")


GOLDEN = "clip-30k-s2-3d7cbdb0d5"


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (0, "0"),
        (512, "512"),
        (1000, "1k"),
        (1500, "1.5k"),
        (1550, "1550"),
        (30_000, "30k"),
        (3_500_000, "3.5M"),
    ],
)
def test_counts_are_short_and_exact(images: int, text: str) -> None:
    assert short_count(images) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ()}, "no data scale"),
        ({"images": (64, 16)}, "rising"),
        ({"images": (0, 16)}, "0 is added by itself"),
        ({"name": "Bad Name"}, "lower-case"),
        ({"corpus": "toy"}, "name@version"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"recipes": ()}, "no recipe"),
    ],
)
def test_impossible_sweeps_are_refused_at_birth(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        sweep(**changes)
