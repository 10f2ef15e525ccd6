"""Bad input is refused before compute, with a message that says what to do; no Ray here."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from radsweep import parts
from radsweep.errors import SpecError, StoreError
from radsweep.specs import Budget, Protocol, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.cost import Cost
from radsweep.store.layout import corpus_folder
from radsweep.sweep.plan import check, make_plan, read_machine, warnings

CORPUS = "mayo@1"
IMAGES = 1000


def card(
    *,
    reports: int = IMAGES,
    labels: dict[str, int] | None = None,
    masks: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What an ingest would say; ``labels`` counts the pretraining images on which each is known."""
    known = {"finding_edema": IMAGES, "tube_ett": IMAGES} if labels is None else labels
    return {
        "corpus": CORPUS,
        "images": IMAGES,
        "reports": reports,
        "splits": {"pretrain": {"images": IMAGES, "reports": reports}},
        "label_columns": list(known),
        "labels": {name: {"pretrain_missing": IMAGES - count} for name, count in known.items()},
        "mask_classes": list(masks),
    }


def store_with(folder: Path, said: dict[str, Any]) -> Store:
    store = Store(str(folder))
    store.write_json(f"{corpus_folder(CORPUS)}/card.json", said)
    return store


def recipe(paradigm: str) -> Recipe:
    return Recipe(
        paradigm=paradigm, encoder="vit_tiny_patch16_224", image_size=32, learning_rate=1e-3
    )


def sweep(*paradigms: str, tasks: tuple[str, ...] = (), images: int = IMAGES) -> Sweep:
    return Sweep(
        name="checked",
        corpus=CORPUS,
        recipes=tuple(recipe(paradigm) for paradigm in paradigms),
        images=(images,),
        budget=Budget(steps=10, batch_size=32),
        protocol=Protocol(tasks=tasks) if tasks else None,
    )


ALL = sweep("clip", "unicl", "dinov2", tasks=("findings", "lines_tubes", "reports"))


def test_a_sweep_that_its_corpus_can_feed_passes_without_a_warning(tmp_path: Path) -> None:
    store = store_with(tmp_path, card())
    assert warnings(ALL, check(ALL, store)) == ()


def test_more_images_than_the_corpus_has_are_refused_with_both_numbers(tmp_path: Path) -> None:
    store = store_with(tmp_path, card())
    with pytest.raises(SpecError, match=r"asks for 1,001 images and corpus mayo@1 has 1,000 for"):
        check(sweep("dinov2", images=1001), store)


def test_subsets_by_a_column_that_the_corpus_has_not_are_refused_before_compute(
    tmp_path: Path,
) -> None:
    store = store_with(tmp_path, card())
    check(dataclasses.replace(ALL, stratify_by=("sex", "finding_edema")), store)
    with pytest.raises(SpecError, match=r"stratified by 'finding_edma'; did you mean 'finding_ed"):
        check(dataclasses.replace(ALL, stratify_by=("finding_edma",)), store)


def test_a_corpus_that_is_not_there_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    store = store_with(tmp_path, card())
    other = dataclasses.replace(ALL, corpus="mayo@2")
    with pytest.raises(SpecError, match=r"mayo@2 is not in the store .*did you mean 'mayo@1'\?"):
        check(other, store)


def test_an_unknown_paradigm_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"no paradigm named 'unicle'; did you mean 'unicl'\?"):
        recipe("unicle")


def test_an_unknown_task_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"no task named 'finding'; did you mean 'findings'\?"):
        Protocol(tasks=("finding",))


@pytest.mark.parametrize(
    ("task", "said", "message"),
    [
        (
            "findings",
            card(labels={"tube_ett": IMAGES}),
            r"findings needs finding_\* labels; corpus mayo@1 has none: ingest it with a labels",
        ),
        (
            "lines_tubes",
            card(labels={"finding_edema": IMAGES}),
            r"lines_tubes needs tube_\* labels; corpus mayo@1 has none: ingest it with a labels",
        ),
        (
            "lines_tubes_seg",
            card(),
            "lines_tubes_seg needs masks; corpus mayo@1 has none: ingest it with a masks table",
        ),
        (
            "reports",
            card(reports=0),
            "reports needs reports; corpus mayo@1 has none: ingest it with a reports table",
        ),
    ],
)
def test_a_task_that_the_corpus_has_nothing_for_is_refused(
    tmp_path: Path, task: str, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check(sweep("dinov2", tasks=(task,)), store_with(tmp_path, said))


def test_clip_is_refused_where_no_pretraining_image_has_a_report(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        check(sweep("dinov2", "clip"), store_with(tmp_path, card(reports=0)))
    assert str(refused.value) == (
        "paradigm clip learns from reports, and corpus mayo@1 has none for pretraining; take "
        "dinov2, or ingest with --reports"
    )


def test_reports_of_the_other_splits_do_not_feed_clip(tmp_path: Path) -> None:
    said = card(reports=0) | {"reports": 200}
    with pytest.raises(SpecError, match="paradigm clip learns from reports"):
        check(sweep("clip"), store_with(tmp_path, said))


@pytest.mark.parametrize("labels", [{}, {"finding_edema": 0}])
def test_unicl_is_refused_only_where_reports_and_labels_are_both_missing(
    tmp_path: Path, labels: dict[str, int]
) -> None:
    check(sweep("unicl"), store_with(tmp_path / "labels", card(reports=0)))
    check(sweep("unicl"), store_with(tmp_path / "reports", card(labels=labels)))
    with pytest.raises(
        SpecError, match=r"reports or labels, .* ingest with --reports or --labels$"
    ):
        check(sweep("unicl"), store_with(tmp_path / "neither", card(reports=0, labels=labels)))


def test_pixels_alone_feed_dinov2(tmp_path: Path) -> None:
    store = store_with(tmp_path, card(reports=0, labels={}))
    assert warnings(sweep("dinov2"), check(sweep("dinov2"), store)) == ()


@pytest.mark.parametrize(("reports", "warned"), [(1, True), (499, True), (500, False)])
def test_a_warning_comes_where_fewer_than_half_of_the_images_have_a_report(
    tmp_path: Path, reports: int, warned: bool
) -> None:
    said = warnings(ALL, check(ALL, store_with(tmp_path, card(reports=reports))))
    assert len(said) == int(warned)
    if warned:
        expected = f"learns from reports: {reports} of 1,000 images for pretraining, about "
        assert expected + f"{32 * reports / 1000:.1f} in a batch of 32" in said[0]


def test_the_plan_shows_the_warnings(tmp_path: Path) -> None:
    store = store_with(tmp_path, card(reports=100))
    made = make_plan(
        ALL,
        store,
        read_machine("aws-g6e-1xL40S", None),
        lambda made: Cost(flops_per_image=1e9, weight_bytes=1),
    )
    assert made.warnings == warnings(ALL, card(reports=100)) != ()


def test_a_plan_asks_once_for_the_cost_of_a_recipe_however_many_cells_it_has(
    tmp_path: Path,
) -> None:
    asked: list[Recipe] = []

    def cost_of(recipe: Recipe) -> Cost:
        asked.append(recipe)
        return Cost(flops_per_image=1e9, weight_bytes=1)

    store, machine = store_with(tmp_path, card(reports=500)), read_machine("aws-g6e-1xL40S", None)
    made = make_plan(ALL, store, machine, cost_of)
    assert len(made.cells) == len(ALL.cells()) > len(asked)
    assert asked == list(dict.fromkeys(cell.recipe for cell in ALL.cells()))


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    # A file where the folder should be: refused for every user, the superuser too.
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"file/store cannot be written \(.*choose another"):
        Store(str(tmp_path / "file" / "store")).check_writable()


def test_columns_read_from_source_are_those_of_the_class() -> None:
    for kind in ("paradigms", "tasks"):
        for name in parts.names(kind):
            made: Any = parts.find(kind, name)
            assert parts.columns(kind, name) == made.columns, name


PARADIGM_FILE = """
VERSION = 1
class Other:
    columns = ("labels",)
class Mine:
    {line}
PARADIGM = Mine
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a package of the user's own, with one paradigm whose class has this line."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(line: str) -> str:
        name = f"own_paradigm_{len(list(tmp_path.glob('own_*.py')))}_of_{tmp_path.name}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "mine.py").write_text(PARADIGM_FILE.format(line=line))
        return f"{name}.mine"

    return write


def test_columns_are_read_from_the_class_that_the_module_ends_in(module: Any) -> None:
    name = module('columns: tuple[str, ...] = ("report",)')
    assert parts.columns("paradigms", name) == ("report",)
    assert f"{name}" not in sys.modules


@pytest.mark.parametrize("line", ["pass", "columns = tuple(WANTED)", 'columns = "report"'])
def test_a_class_that_does_not_spell_its_columns_out_is_refused(module: Any, line: str) -> None:
    with pytest.raises(SpecError, match=r"no line columns = \(<strings>\)"):
        parts.columns("paradigms", module(line))


def test_a_column_that_no_corpus_has_is_refused_with_the_nearest_one(
    module: Any, tmp_path: Path
) -> None:
    name = module('columns = ("reports",)')
    with pytest.raises(SpecError, match=r"reads 'reports' of a corpus; did you mean 'report'\?"):
        check(sweep(name), store_with(tmp_path / "store", card()))
