"""Views depend on example and generator alone, and show what they should."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from radsweep.corpus.example import Example, Stratum
from radsweep.paradigms.augment import blurred, jittered, random_crop
from radsweep.paradigms.masks import block_mask
from radsweep.paradigms.pairs import NO_TEXT, LabelWords, ReportWords, text_class
from radsweep.paradigms.prompts import ABSENT, PRESENT, UNCERTAIN, prompt, set_prompt
from tests.paradigms.tiny import build, examples, recipe

WHOLE = Stratum(0, 1)


@pytest.mark.parametrize("paradigm", ["clip", "unicl", "dinov2"])
def test_a_view_is_a_function_of_example_generator_and_stratum(paradigm: str) -> None:
    viewer = build(recipe(paradigm)).viewer()
    copied = pickle.loads(pickle.dumps(viewer))
    example = examples(1)[0]
    first = viewer(example, np.random.default_rng(3), WHOLE)
    second = copied(example, np.random.default_rng(3), WHOLE)
    other = viewer(example, np.random.default_rng(4), WHOLE)
    assert set(first) == set(second)
    for name, view in first.items():
        assert np.array_equal(view, second[name]) and view.dtype == other[name].dtype
        assert view.shape == other[name].shape
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("paradigm", ["clip", "unicl", "dinov2"])
def test_a_worker_that_unpickles_a_viewer_and_views_does_not_import_torch(paradigm: str) -> None:
    viewer = build(recipe(paradigm)).viewer()
    script = (
        "import pickle, sys; import numpy as np; "
        "viewer, example, stratum = pickle.load(sys.stdin.buffer); "
        "views = viewer(example, np.random.default_rng(0), stratum); "
        "print(len(views), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((viewer, examples(1)[0], WHOLE)), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode().split() == ["3", "False", "False"]


def test_dinov2_sees_two_large_crops_one_of_them_masked_and_small_ones() -> None:
    views = build(recipe("dinov2")).viewer()(examples(1)[0], np.random.default_rng(0), WHOLE)
    assert views["globals"].shape == (2, 1, 32, 32) and views["globals"].dtype == np.uint8
    assert views["locals"].shape == (2, 1, 16, 16)
    assert views["masks"].shape == (2, 16) and sorted(views["masks"].any(axis=1)) == [False, True]


def test_a_batch_has_every_share_of_hidden_patches_from_the_least_to_the_most() -> None:
    viewer = build(recipe("dinov2", image_size=256, mask_ratio_min=0.2)).viewer()
    example, shares = examples(1, size=256)[0], []
    for index in range(12):
        draws = [np.random.default_rng((seed, index)) for seed in range(30)]
        masks = [viewer(example, one, Stratum(index, 12))["masks"] for one in draws]
        shares.append([mask.sum() / mask.shape[1] for mask in masks])
    asked = 0.2 + 0.3 * np.arange(13) / 12
    # Blocks fill up to what was asked for, or stop a few patches short of it.
    assert all(max(drawn) <= high for drawn, high in zip(shares, asked[1:], strict=True))
    means = np.mean(shares, axis=1)
    assert (np.diff(means) > 0).all()
    assert np.abs(means - (asked[1:] + asked[:-1]) / 2).max() < 0.02


def test_strata_part_the_numbers_below_one() -> None:
    drawn = [Stratum(i, 5).draw(np.random.default_rng(i)) for i in range(5)]
    assert [int(5 * number) for number in drawn] == [0, 1, 2, 3, 4]


def test_the_whole_image_is_a_crop_of_scale_one() -> None:
    pixels = examples(1, size=32)[0].pixels
    crop = random_crop(pixels, 32, 1.0, 1.0, np.random.default_rng(0))
    assert np.array_equal(np.asarray(crop), pixels)


def test_crops_have_the_area_they_were_asked_for() -> None:
    # A ramp tells a crop's extent: its range of values is its width and height.
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    spans = []
    for seed in range(200):
        crop = np.asarray(random_crop(ramp, 100, 0.25, 0.25, np.random.default_rng(seed)), float)
        spans.append((crop[:, -1].mean() - crop[:, 0].mean()) / 200)
    assert 0.5 * 0.85 < min(spans) < 0.47 and 0.53 < max(spans) < 0.5 * 1.17


def test_intensity_moves_and_order_stays() -> None:
    values = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    ramp = random_crop(values, 256, 1, 1, np.random.default_rng(0))
    changed = [jittered(ramp, 0.4, np.random.default_rng(seed)) for seed in range(20)]
    assert all((np.diff(view[0, 0].astype(int)) >= 0).all() for view in changed)
    assert len({int(view.mean()) for view in changed}) > 10
    assert np.array_equal(jittered(ramp, 0.0, np.random.default_rng(0))[0], np.asarray(ramp))


def test_blur_comes_with_its_probability() -> None:
    film = random_crop(examples(1)[0].pixels, 32, 1, 1, np.random.default_rng(0))
    hits = sum(blurred(film, 0.3, np.random.default_rng(s)) is not film for s in range(500))
    assert 110 < hits < 190


def test_masks_hide_something_and_no_more_than_they_may() -> None:
    counts = []
    for seed in range(300):
        mask = block_mask(8, 8, 24, np.random.default_rng(seed))
        counts.append(int(mask.sum()))
    assert min(counts) >= 1 and max(counts) <= 24 and np.mean(counts) > 18
    for seed in range(50):
        assert block_mask(2, 2, 1, np.random.default_rng(seed)).sum() == 1


def test_equal_reports_are_one_class_whatever_their_spacing() -> None:
    assert text_class("No acute  disease.") == text_class(" no acute disease.\n") > 0
    assert text_class("No acute disease.") != text_class("Acute disease.")
    example = examples(1)[0]
    generator = np.random.default_rng(0)
    assert ReportWords(merge_duplicates=False)(example, generator)[1] == 0
    merged = ReportWords(merge_duplicates=True)(example, generator)[1]
    assert merged == text_class(str(example.report))


def labelled(**labels: int | None) -> Example:
    return Example(image_id="a", pixels=np.zeros((8, 8), np.uint8), labels=labels)


def words(policy: str = "one", share: float = 1.0, positive: float = 1.0) -> LabelWords:
    return LabelWords(
        report=ReportWords(merge_duplicates=True), label_share=share, label_policy=policy,
        positive_share=positive,
    )  # fmt: skip


def test_positive_labels_are_preferred_and_missing_ones_never_said() -> None:
    example = labelled(finding_edema=1, finding_nodule=0, tube_ett=None)
    said = {words()(example, np.random.default_rng(seed)) for seed in range(40)}
    assert all("pulmonary edema" in text.lower() for text, _ in said)
    assert {meaning for _, meaning in said} == {text_class("label: finding_edema=1")}
    either = {words(positive=0.0)(example, np.random.default_rng(seed))[1] for seed in range(40)}
    assert either == {text_class("label: finding_edema=1"), text_class("label: finding_nodule=0")}


def test_a_set_of_labels_is_one_class() -> None:
    one = labelled(finding_edema=1, finding_nodule=0, tube_ett=-1)
    two = labelled(finding_edema=1, tube_ett=-1, tube_cvc=None)
    generator = np.random.default_rng(0)
    text, meaning = words("set")(one, generator)
    assert meaning == words("set")(two, generator)[1]
    assert meaning != words("set")(labelled(finding_edema=1), generator)[1]
    assert "pulmonary edema" in text.lower() and "endotracheal tube" in text.lower()


def test_the_share_of_label_rows_is_kept_and_reports_fill_in() -> None:
    example = examples(1)[0]
    viewer = words(share=0.25)
    reports = sum(
        viewer(example, np.random.default_rng(seed))[0] == example.report for seed in range(400)
    )
    assert 260 < reports < 340
    silent = labelled()
    assert words()(silent, np.random.default_rng(0)) == ("", NO_TEXT)
    bare = Example(image_id="b", pixels=silent.pixels, report="Normal.", labels={"tube_ett": None})
    assert words()(bare, np.random.default_rng(0))[0] == "Normal."


def test_prompts_say_what_the_label_says() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        assert "cardiomegaly" in prompt("finding_cardiomegaly", PRESENT, generator).lower()
        absent = prompt("tube_ngt", ABSENT, generator).lower()
        assert "nasogastric tube" in absent and ("no " in absent or "absent" in absent)
        doubt = prompt("tube_chest_tube", UNCERTAIN, generator).lower()
        assert "chest tube" in doubt
        assert any(word in doubt for word in ("possible", "cannot", "questionable"))
    assert "no" in set_prompt({"finding_edema": 0}, generator).lower()
