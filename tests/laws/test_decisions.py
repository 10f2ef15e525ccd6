"""Forecasts, images needed, the next cell and registered hypotheses, against slow versions."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from radsweep.errors import SpecError
from radsweep.laws.analysis import Analysis, analyse
from radsweep.laws.bootstrap import BEYOND_A_DECADE, BEYOND_THE_DATA, Interval
from radsweep.laws.compare import comparisons, holm, two_sided
from radsweep.laws.fit import fit
from radsweep.laws.forecasts import (
    cell_device_hours,
    forecast_at,
    forecast_sentences,
    images_needed,
)
from radsweep.laws.hypotheses import statement, verdicts, verdicts_table
from radsweep.laws.next_cells import ANOTHER_SEED, NEW_SCALE, gains, next_cells
from radsweep.specs import LARGEST_SCALE, Hypothesis
from tests.laws.test_answers import SCALES, rising, table

HOURS = {"clip": 10.0, "dinov2": 20.0}


def noisy(paradigm: str, images: int) -> float:
    shake = {30_000: 0.003, 50_000: -0.004, 100_000: 0.002, 1_000_000: -0.001, 3_500_000: 0.001}
    return rising(paradigm, images) + shake.get(images, 0.0)


def analysed(
    value: Callable[[str, int], float | None] = noisy, **how: object
) -> tuple[Analysis, ...]:
    return analyse(table(value, **how))  # type: ignore[arg-type]


SWEEP = analysed()


def test_a_score_is_forecast_with_its_interval_its_cost_and_its_warning() -> None:
    ahead = forecast_at(SWEEP, 35_000_000, device_hours=HOURS, usd_per_device_hour=3.0)
    row = ahead.row(by_predicate=pl.col("paradigm") == "dinov2", named=True)
    assert row["low"] < row["value"] < row["high"]
    assert row["value"] == pytest.approx(0.5 + 0.04 * np.log10(35e6 / 3e4), abs=0.02)
    assert (row["warning"], row["device_hours"], row["usd"]) == (BEYOND_THE_DATA, 20.0, 60.0)
    far = forecast_at(SWEEP, 36_000_000)
    assert set(far["warning"]) == {BEYOND_A_DECADE}
    assert far["usd"].null_count() == 2
    assert forecast_at(SWEEP, 200_000)["warning"].null_count() == 2


def test_the_images_for_a_score_are_where_the_law_has_it() -> None:
    needed = images_needed(SWEEP, 0.57)
    for row, one in zip(needed.iter_rows(named=True), SWEEP, strict=True):
        assert one.law is not None
        if row["images"] is not None:
            there = one.law.fit.predict(np.array([row["images"]]))[0]
            assert there == pytest.approx(0.57, abs=1e-9)
    steep = needed.row(by_predicate=pl.col("paradigm") == "dinov2", named=True)
    assert steep["images_low"] < steep["images"] < steep["images_high"]
    never = images_needed(SWEEP, 0.99)
    assert never["images"].null_count() == 2
    assert set(never["warning"]) == {"not reached within ten times the largest scale"}
    assert never["share"].max() == 0
    assert set(images_needed(SWEEP, 0.4)["warning"]) == {"already at the smallest scale"}


@pytest.mark.parametrize(
    ("value", "how", "words"),
    [
        (lambda p, n: 0.5, {}, "identical at every scale"),
        (lambda p, n: 0.5 - rising(p, n) / 5, {}, "not established that its scores rise"),
        (rising, {"scales": (0, 30_000, 50_000)}, "2 scales only"),
        (rising, {"scales": (0, 30_000)}, "1 scale only"),
        (lambda p, n: float("nan") if n else 0.5, {}, "no score is usable"),
        (lambda p, n: float("nan") if n > 50_000 else rising(p, n), {}, "2 scales only"),
        (rising, {"scales": (0, 30_000, 50_000, 100_000)}, "only 3 scales"),
    ],
    ids=["equal", "falling", "two points", "one scale", "NaN", "nearly all NaN", "three scales"],
)
def test_a_pathological_curve_gets_a_sentence_instead_of_a_number(
    value: Callable[[str, int], float | None], how: dict[str, object], words: str
) -> None:
    odd = analysed(value, **how)
    for made in (forecast_at(odd, 35_000_000), images_needed(odd, 0.99)):
        assert made["why_not"].str.contains(words).all()
        assert made.select("images_low", "low").null_count().row(0) == (len(odd), len(odd))
        for answer in forecast_sentences(made, odd):
            assert words in answer.sentence
            assert "nan" not in answer.sentence.lower().split()
    assert not len(next_cells(odd, HOURS))


def test_forecast_sentences_carry_their_numbers() -> None:
    said = forecast_sentences(forecast_at(SWEEP, 35_000_000), SWEEP)[1].sentence
    assert said.startswith("Findings: DINOv2 is expected at AUPRC 0.6")
    assert "with 35 million images; warning: this is an extrapolation" in said
    needed = forecast_sentences(images_needed(SWEEP, 0.57), SWEEP)[1].sentence
    assert "DINOv2 reaches 0.57 at about" in needed


def test_device_hours_are_those_of_finished_cells() -> None:
    cells = pl.DataFrame(
        {
            "paradigm": ["clip", "clip", "clip", "dinov2"],
            "images": [0, 100, 200, 100],
            "state": ["done", "done", "done", "running"],
            "seconds": [1.0, 3600.0, 7200.0, 10.0],
            "workers": [1, 8, 8, 8],
        }
    )
    assert cell_device_hours(cells) == {"clip": 12.0}


def slow_width(one: Analysis, scales: list[float], counts: list[int], sd: float) -> float:
    """Simulate: draw every scale's mean anew, refit, and look how far the forecast spreads."""
    assert one.fit is not None
    rng = np.random.default_rng(0)
    law = one.fit.predict(np.array(scales))
    anchor = 1 - one.fit.theta["start"] if one.fit.form.is_anchored else None
    found = [
        fit(
            one.fit.form,
            scales,
            law + rng.normal(0, sd, len(scales)) / np.sqrt(counts),
            anchor=anchor,
        ).predict(np.array([3.5e7]))[0]
        for _ in range(250)
    ]
    return float(np.std(found) * 2 * 1.96)


def test_the_width_after_one_more_cell_is_that_of_a_simulation() -> None:
    one = SWEEP[1]
    answer = gains(one, 3.5e7)
    assert not isinstance(answer, str)
    found, noise = answer
    sd = float(np.sqrt(noise.variance))
    patients = found[0].now ** 2 - slow_width(one, list(SCALES), [1] * 5, sd) ** 2
    for gain in (found[4], next(g for g in found if g.what == NEW_SCALE)):
        if gain.what == ANOTHER_SEED:
            slow = slow_width(one, list(SCALES), [1, 1, 1, 1, 2], sd)
        else:
            slow = slow_width(one, sorted([*SCALES, float(gain.images)]), [1] * 6, sd)
        assert gain.after == pytest.approx(np.sqrt(slow**2 + max(patients, 0)), rel=0.15)


def test_the_next_cell_is_the_one_that_narrows_most_per_device_hour() -> None:
    found = next_cells(SWEEP, HOURS, available=20_000_000)
    assert found["narrower_per_device_hour"].is_sorted(descending=True)
    top = found.row(0, named=True)
    assert top["paradigm"] == "clip"
    beyond = found.filter(pl.col("images") > 3_500_000)
    assert set(beyond["images"]) == {11_000_000}
    assert found["noise_from"].str.contains("no scale was trained twice").all()
    unpriced = next_cells(SWEEP, {})
    assert unpriced["narrower_per_device_hour"].null_count() == len(unpriced)
    assert unpriced["narrower"].is_sorted(descending=True)


def test_holm_agrees_with_the_step_by_step_rule() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.uniform(0, 0.1, 6)
        rejected: set[int] = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (6 - step):
                break
            rejected.add(int(i))
        assert {i for i, q in enumerate(holm(p)) if q <= 0.05} == rejected


def test_a_p_value_says_what_its_interval_says() -> None:
    assert two_sided(Interval(0.02, 0.0, 0.04)) == pytest.approx(0.05, abs=1e-3)
    assert two_sided(Interval(0.0, -0.02, 0.02)) == 1.0
    assert two_sided(Interval(0.1, 0.1, 0.1)) == 0.0


def test_paradigms_are_compared_at_every_scale_and_corrected_together() -> None:
    found = comparisons(SWEEP)
    assert [one.images for one in found] == list(SCALES)
    assert found[-1].value == pytest.approx(noisy("clip", SCALES[-1]) - noisy("dinov2", SCALES[-1]))
    assert found[-1].is_decided
    # At the smallest scale the two are equal by construction.
    assert not found[0].is_decided
    for one in found:
        assert one.p is not None
        assert one.p_holm is not None
        assert one.p_holm >= one.p


def claim(**changed: object) -> Hypothesis:
    fields = {"task": "findings", "paradigm": "dinov2", "better_than": "clip", **changed}
    return Hypothesis(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hypothesis", "answer"),
    [
        (claim(at=LARGEST_SCALE), "yes"),
        (claim(at=3_500_000, by=0.02), "yes"),
        (claim(at=3_500_000, by=0.06), "no"),
        (claim(), "undecided"),
        (claim(paradigm="clip", better_than="dinov2"), "no"),
        (claim(better_than="open weights", at=LARGEST_SCALE), "yes"),
        (claim(task="reports"), "undecided"),
        (claim(better_than="unicl"), "undecided"),
        (claim(at=77), "undecided"),
    ],
)
def test_a_registered_hypothesis_is_answered(hypothesis: Hypothesis, answer: str) -> None:
    (verdict,) = verdicts([hypothesis], SWEEP)
    assert verdict.answer == answer
    assert f": {answer}" in verdict.sentence
    row = verdicts_table([verdict]).row(0, named=True)
    assert row["answer"] == answer


def test_many_hypotheses_are_corrected_together() -> None:
    alone = verdicts([claim(at=50_000)], SWEEP)[0]
    many = verdicts([claim(at=50_000), *[claim()] * 30], SWEEP)[0]
    assert alone.p is not None
    assert many.p_holm is not None
    assert many.p_holm > alone.p


def test_a_hypothesis_reads_as_a_sentence_and_a_senseless_one_is_refused() -> None:
    assert statement(claim()) == "DINOv2 beats CLIP on findings at every scale"
    other = claim(better_than="open weights", at=50_000, by=0.01)
    assert (
        statement(other)
        == "DINOv2 beats its open weights by more than 0.01 on findings at 50,000 images"
    )
    for wrong, words in (({"better_than": "dinov2"}, "itself"), ({"at": "somewhere"}, "somewhere")):
        with pytest.raises(SpecError, match=words):
            claim(**wrong)
