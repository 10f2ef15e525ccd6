"""Sentences say what the table supports, and nothing more, however odd the table is."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from radsweep.errors import SpecError
from radsweep.laws.answers import Answer, answers, fits_table

SCALES = (30_000, 50_000, 100_000, 1_000_000, 3_500_000)


def rising(paradigm: str, images: int) -> float:
    slope = {"clip": 0.02, "dinov2": 0.04}[paradigm]
    return 0.5 + slope * float(np.log10(images / 30_000)) if images else 0.5


def table(
    value: Callable[[str, int], float | None] = rising,
    scales: tuple[int, ...] = (0, *SCALES),
    seeds: tuple[int, ...] = (0,),
    noise: float = 0.002,
    count: int = 300,
) -> pl.DataFrame:
    rng = np.random.default_rng(9)
    common = rng.normal(0, 0.01, count)
    rows: list[dict[str, Any]] = []
    for paradigm in ("clip", "dinov2"):
        for images in scales:
            for seed in seeds if images else (0,):
                score = value(paradigm, images)
                draws = None if score is None else score + common + rng.normal(0, noise, count)
                rows.append(
                    {
                        **{"sweep": "s", "cell": f"{paradigm}-{images}-s{seed}"},
                        **{"paradigm": paradigm, "start_from": f"{paradigm}-weights"},
                        **{"images": images, "seed": seed, "subset_seed": 0, "task": "findings"},
                        "stratify_by": None,
                        **{"probe": "linear", "label": "macro", "metric": "auprc"},
                        **{"headline": True, "value": score, "split": "test"},
                        "draws": None if draws is None else draws.tolist(),
                        "finished_at": datetime.datetime(2026, 1, 1),
                    }
                )
    schema = {"value": pl.Float64, "draws": pl.List(pl.Float32), "stratify_by": pl.String}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def said(scores: pl.DataFrame, kind: str, paradigm: str | None = None) -> Answer:
    found = [
        answer
        for answer in answers(scores)
        if answer.kind == kind and paradigm in (None, answer.numbers.get("paradigm"))
    ]
    assert len(found) == 1, found
    assert "nan" not in found[0].sentence.lower().split()
    return found[0]


def test_the_best_paradigm_is_named_with_how_sure_that_is() -> None:
    best = said(table(), "best")
    assert best.sentence == (
        "Findings: at 3.5 million images DINOv2 scores highest (AUPRC 0.583, CLIP 0.541); it is "
        "ahead in all resamples of the test patients."
    )
    assert best.numbers["share"] == 1.0


def test_a_best_paradigm_that_chance_could_undo_is_not_called_sure() -> None:
    close = said(table(lambda paradigm, images: 0.6 if paradigm == "clip" else 0.5995), "best")
    assert "not surely ahead of DINOv2" in close.sentence


def test_the_first_scale_that_beats_the_open_weights_is_named() -> None:
    def dips(paradigm: str, images: int) -> float:
        return 0.55 if images == 0 else rising(paradigm, images) + 0.02

    found = said(table(dips), "open_weights", "dinov2")
    assert found.numbers["images"] == 1_000_000
    crossing = found.numbers["crossing"]
    assert isinstance(crossing, float)
    assert crossing == pytest.approx(30_000 * 10**0.75, rel=0.1)
    assert "its fitted law crosses them at about" in found.sentence


def test_a_paradigm_that_never_beats_its_open_weights_is_said_so() -> None:
    never = said(table(lambda paradigm, images: 0.5), "open_weights", "clip")
    assert "does not beat its open weights" in never.sentence
    worse = said(table(lambda p, images: 0.4 if images else 0.6), "open_weights", "clip")
    assert "scores below its open weights at every scale" in worse.sentence


def test_without_open_weights_no_gain_is_claimed() -> None:
    found = said(table(scales=SCALES), "open_weights", "clip")
    assert found.sentence == (
        "Findings: there is no open-weights score for CLIP, so its gain is unknown."
    )
    assert found.numbers == {"paradigm": "clip"}


def test_open_weights_are_shared_by_paradigms_that_start_from_them() -> None:
    shared = table().filter((pl.col("images") > 0) | (pl.col("paradigm") == "clip"))
    shared = shared.with_columns(start_from=pl.lit("the same"))
    assert said(shared, "open_weights", "dinov2").numbers["open_weights"] == 0.5


@pytest.mark.parametrize(
    ("value", "verdict", "words"),
    [
        (rising, "rises", "CLIP rises with data"),
        (lambda p, n: 0.5 - rising(p, n) / 5, "falls", "does not rise with data, it falls"),
        (lambda p, n: 0.5, "flat", "any change is smaller than 0.01"),
    ],
    ids=["rising", "falling", "flat"],
)
def test_whether_scores_rise_is_said(
    value: Callable[[str, int], float], verdict: str, words: str
) -> None:
    found = said(table(value), "trend", "clip")
    assert found.numbers["verdict"] == verdict
    assert words in found.sentence


def test_a_trend_that_noise_hides_is_undecided() -> None:
    found = said(table(lambda p, n: 0.5 + n / 3.5e8, noise=0.05), "trend", "clip")
    assert found.numbers["verdict"] == "undecided"


def test_ten_times_the_data_comes_with_a_warning() -> None:
    found = said(table(), "ten_times", "dinov2")
    assert found.numbers["value"] == pytest.approx(0.5 + 0.04 * np.log10(35e6 / 3e4), abs=0.01)
    assert "Warning: this is an extrapolation" in found.sentence
    assert "The last doubling of the data bought +0.01" in found.sentence
    assert found.numbers["gain_low"] < found.numbers["gain_high"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (table(lambda p, n: 0.5), "identical at every scale"),
        (table(lambda p, n: 0.5 - rising(p, n) / 5), "not established that its scores rise"),
        (table(scales=(0, 30_000, 100_000, 1_000_000)), "only 3 scales"),
        (table(scales=(0, 30_000)), "1 scale only"),
        (table().with_columns(draws=None), "fewer than 100 paired resamples"),
    ],
    ids=["flat", "falling", "three scales", "one scale", "no draws"],
)
def test_no_forecast_is_made_where_none_is_supported(scores: pl.DataFrame, reason: str) -> None:
    found = said(scores, "ten_times", "clip")
    assert reason in found.sentence
    assert found.numbers == {"paradigm": "clip"}


def test_one_scale_is_too_few_for_a_trend() -> None:
    assert "one scale does not say" in said(table(scales=(0, 30_000)), "trend", "clip").sentence


def test_a_missing_score_is_left_out_and_said() -> None:
    def broken(paradigm: str, images: int) -> float:
        return float("nan") if images == 100_000 else rising(paradigm, images)

    scores = table(broken)
    notes = [a.sentence for a in answers(scores) if a.kind == "caution"]
    assert any(
        "CLIP, 100,000 images: the score of cell clip-100000-s0 is missing" in n for n in notes
    )
    assert said(scores, "trend", "clip").numbers["verdict"] == "rises"


def test_a_resample_without_a_value_is_dropped_for_all() -> None:
    scores = table()
    holed = scores["draws"].to_list()
    holed[2][5] = float("nan")
    scores = scores.with_columns(draws=pl.Series(holed, dtype=pl.List(pl.Float32)))
    assert said(scores, "trend", "clip").numbers["verdict"] == "rises"


def test_a_single_seed_is_a_caution_and_several_give_a_second_layer_of_noise() -> None:
    assert "one seed" in said(table(), "caution").sentence
    several = table(seeds=(0, 1, 2))
    assert not [a for a in answers(several) if a.kind == "caution"]
    assert said(table(), "trend", "clip").numbers["seed_deviation"] is None
    assert said(several, "trend", "clip").numbers["seed_deviation"] == pytest.approx(0.0, abs=1e-9)


def test_an_empty_table_is_one_sentence() -> None:
    (only,) = answers(table().head(0))
    assert only.sentence == "There are no test scores of a pretrained encoder yet."


def test_two_cells_in_one_place_are_refused() -> None:
    scores = table()
    twin = scores.filter(pl.col("images") == 30_000).with_columns(cell=pl.lit("another recipe"))
    with pytest.raises(SpecError, match="another recipe"):
        answers(pl.concat([scores, twin]))


def test_subsets_of_two_stratifications_are_no_one_curve_whatever_the_open_weights_say() -> None:
    scores = table()
    trained = pl.col("images") > 0
    by_sex = scores.with_columns(stratify_by=pl.when(trained).then(pl.lit("sex")))
    assert answers(by_sex) == answers(scores)
    half = pl.when(pl.col("images") > 100_000).then(pl.lit("sex+view"))
    with pytest.raises(SpecError, match=r"sweep s .* by nothing and by sex\+view.*column strat"):
        answers(scores.with_columns(stratify_by=half))


def test_a_paradigm_that_starts_from_two_weights_is_two_arms() -> None:
    scores = table()
    other = scores.filter(pl.col("paradigm") == "clip").with_columns(start_from=pl.lit("random"))
    arms = {a.numbers["paradigm"] for a in answers(pl.concat([scores, other])) if a.kind == "trend"}
    assert arms == {"clip from clip-weights", "clip from random", "dinov2"}


def test_a_table_without_a_column_is_refused() -> None:
    with pytest.raises(SpecError, match="start_from"):
        answers(table().drop("start_from"))


def test_only_headline_test_scores_count() -> None:
    scores = table()
    others = pl.concat(
        [scores.with_columns(headline=False), scores.with_columns(split=pl.lit("val"))]
    ).with_columns(value=0.99)
    assert answers(pl.concat([scores, others])) == answers(scores)


def test_the_same_table_gives_the_same_numbers_twice() -> None:
    scores = table(seeds=(0, 1))
    assert answers(scores) == answers(scores.sample(fraction=1.0, shuffle=True, seed=3))


def test_the_table_of_fits_has_a_row_per_curve() -> None:
    fits = fits_table(table())
    assert fits["paradigm"].to_list() == ["clip", "dinov2"]
    row = fits.row(1, named=True)
    assert row["r2"] > 0.99
    assert row["leave_largest_out"] < 0.01
    assert row["forecast_images"] == 35_000_000
    shares = json.loads(row["forms"])
    assert next(iter(shares)) == row["form"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert row["gain_low"] < row["gain_per_doubling"] < row["gain_high"]
    assert row["forecast_low"] < row["forecast"] < row["forecast_high"]
    flat = fits_table(table(lambda p, n: 0.5)).row(0, named=True)
    assert flat["form"] is None
    assert flat["forecast"] is None
    assert flat["flags"] == "the scores are identical at every scale"
