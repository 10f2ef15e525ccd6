"""Starting weights: missing ones are seen before a cell runs, replaced ones before a curve is."""

import dataclasses
from pathlib import Path

import pytest

from radsweep.errors import SpecError
from radsweep.specs import Budget, Cell, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from radsweep.sweep.starts import lacks_licence, missing_start, require_one_start

RECIPE = Recipe(
    paradigm="dinov2",
    encoder="vit_tiny_patch16_224",
    image_size=32,
    learning_rate=1e-3,
    start_from="package:radsweep.jobs/weights/dinov2",
)


def sweep(recipe: Recipe, seeds: tuple[int, ...] = (0,)) -> Sweep:
    return Sweep(
        name="started",
        corpus="mayo@1",
        recipes=(recipe,),
        images=(10, 20),
        budget=Budget(steps=10, batch_size=10),
        seeds=seeds,
        protocol=None,
    )


def finish(cell: Cell, store: Store, start_digest: str) -> None:
    corner = CellStore(store, cell.name)
    corner.declare(cell)
    corner.finish(
        Record(
            cell=cell.name, key=cell.key, images=cell.subset.images, patients=3,
            subset_digest="d", images_seen=100, steps=10, epochs=1.0, flops_per_image=1.0,
            flops=100.0, seconds=1.0, gpu_seconds=0.0, workers=1, device="cpu",
            encoder_digest="e", start_digest=start_digest, final_losses={}, versions={},
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("start_from", "says"),
    [
        ("random", None),
        ("package:radsweep.jobs/weights/dinov2", None),
        ("package:radsweep.jobs/weights/nothing", "which is not there; correct start_from"),
        ("package:no.such.package/weights", "which is not there; correct start_from"),
        ("/no/such/folder", "which is not there; correct start_from"),
        ("cell:dinov2-0-s0-0123456789", "which is not done; run its sweep first"),
    ],
)
def test_a_start_that_is_not_there_is_named_with_its_remedy(
    tmp_path: Path, start_from: str, says: str | None
) -> None:
    said = missing_start(start_from, Store(str(tmp_path)))
    assert said is None if says is None else said is not None and says in said


def test_a_folder_that_is_there_is_a_start(tmp_path: Path) -> None:
    assert missing_start(str(tmp_path), Store(str(tmp_path))) is None


def refused_at_the_third(wanted: Sweep, store: Store) -> None:
    """Its baseline and one cell started from the same weights, the third cell from others."""
    baseline, one, other, *_ = wanted.cells()
    finish(baseline, store, "old")
    finish(one, store, "old")
    require_one_start(wanted, store)
    finish(other, store, "new")
    with pytest.raises(SpecError, match=f"cells {baseline.name} and {other.name} started from"):
        require_one_start(wanted, store)


def test_weights_replaced_under_their_name_are_refused_with_both_cells(tmp_path: Path) -> None:
    refused_at_the_third(sweep(RECIPE), Store(str(tmp_path)))


def test_recipes_and_seeds_that_share_a_baseline_must_have_started_from_it(tmp_path: Path) -> None:
    faster = dataclasses.replace(RECIPE, learning_rate=2 * RECIPE.learning_rate)
    wanted = dataclasses.replace(sweep(RECIPE), recipes=(RECIPE, faster), seeds=(3,), protocol=None)
    third = wanted.cells()[2]
    assert third.recipe == faster and third.seed == 3
    refused_at_the_third(wanted, Store(str(tmp_path)))


def test_random_starts_may_differ(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    wanted = sweep(dataclasses.replace(RECIPE, start_from="random"))
    for number, cell in enumerate(wanted.cells()):
        finish(cell, store, str(number))
    require_one_start(wanted, store)


@pytest.mark.parametrize(
    ("name", "text", "lacks"),
    [
        ("LICENSE", "MIT", False),
        ("Licence.txt", "ours", False),
        ("README.md", "---\nlibrary_name: transformers\nlicense: other\n---\n", False),
        ("README.md", "---\r\nlibrary_name: timm\r\nlicense: mit\r\n---\r\n# Weights\r\n", False),
        ("README.md", "\ufeff---\ntags:\n\n- x-ray\n\nlicense: mit\n---", False),
        ("README.md", "---\ntags: x-ray\n---\n\nlicense: ask somebody\n\n---\n", True),
        ("README.md", "# Weights\n\nlicense: ask somebody\n", True),
        ("model.safetensors", "", True),
    ],
)
def test_a_licence_beside_weights_is_a_file_or_the_head_of_a_model_card(
    tmp_path: Path, name: str, text: str, lacks: bool
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert lacks_licence(str(tmp_path)) is lacks


def test_what_no_publisher_gave_needs_no_licence_beside_it() -> None:
    assert not any(lacks_licence(start) for start in ("random", "cell:x", RECIPE.start_from))
