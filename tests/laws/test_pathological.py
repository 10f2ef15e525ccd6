"""Odd curves get a sentence instead of a number, through the doors that a reader uses.

No NaN and no infinity in a number or a sentence, and no warning (pytest turns them into errors).
"""

import math
import re
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from radsweep.errors import SpecError
from radsweep.laws.analysis import analyse
from radsweep.laws.answers import answers, fits_table
from radsweep.laws.forecasts import forecast_at, forecast_sentences, images_needed
from radsweep.laws.next_cells import next_cells
from tests.laws.test_answers import SCALES, rising, table

FEW = "fewer than 100 paired resamples"
Value = Callable[[str, int], float | None]


def drawn(scores: pl.DataFrame, change: Callable[[np.ndarray], np.ndarray]) -> pl.DataFrame:
    """The same scores with other draws."""
    made = [change(np.array(row)).tolist() for row in scores["draws"]]
    return scores.with_columns(draws=pl.Series(made, dtype=pl.List(pl.Float32)))


def steady(scores: pl.DataFrame) -> pl.DataFrame:
    """Every resample gives the score itself."""
    made = [[value] * 300 for value in scores["value"]]
    return scores.with_columns(draws=pl.Series(made, dtype=pl.List(pl.Float32)))


def perfect(paradigm: str, images: int) -> float:
    return dict(zip((0, *SCALES), (0.0, 0.0, 0.5, 0.9, 1.0, 1.0), strict=True))[images]


def clipped(scores: pl.DataFrame) -> pl.DataFrame:
    return drawn(scores, lambda draws: np.clip(draws, 0.0, 1.0))


def holed(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda draws: np.where(np.arange(len(draws)) < count, np.nan, draws)


def twice(scores: pl.DataFrame) -> pl.DataFrame:
    scores = drawn(scores, holed(5))
    return pl.concat([scores, scores.filter(pl.col("images") == 100_000)])


def nan_above(images: int) -> Value:
    return lambda paradigm, n: math.nan if n > images else rising(paradigm, n)


# What the sentences on CLIP must say: on its trend, on ten times the data, on the open weights
# (empty where there is none); and a caution, where one is due.
CASES: dict[str, tuple[pl.DataFrame, str, str, str, str]] = {
    "flat": (
        table(lambda p, n: 0.5 + 1e-5 * (n == 100_000)),
        *("any change is smaller than 0.01", "not established that its scores rise"),
        *("does not beat its open weights", ""),
    ),
    "all equal": (
        table(lambda p, n: 0.5),
        *("any change is smaller than 0.01", "identical at every scale"),
        *("does not beat its open weights", ""),
    ),
    "error rises with data": (
        table(lambda p, n: 0.7 - rising(p, n) / 5),
        *("does not rise with data, it falls", "not established that its scores rise"),
        *("does not beat its open weights", ""),
    ),
    "two points": (
        table(scales=(0, 30_000, 50_000)),
        *("CLIP rises", "2 scales only, and every law passes through two points"),
        *("does not beat its open weights", ""),
    ),
    "one scale only": (
        table(scales=(0, 50_000)),
        *("one scale does not say", "1 scale only", "does not beat its open weights", ""),
    ),
    "one seed": (
        table(),
        *("CLIP rises", "ten times the data", "beats its open weights", "trained once (one seed)"),
    ),
    "NaN above": (
        table(nan_above(50_000)),
        *("CLIP rises", "2 scales only", "does not beat its open weights"),
        "the score of cell clip-100000-s0 is missing",
    ),
    "all NaN": (
        table(lambda p, n: math.nan),
        *("no score of CLIP is usable", "no score is usable", ""),
        "the score of cell clip-30000-s0 is missing",
    ),
    "infinite": (
        table(lambda p, n: math.inf if n == 30_000 else rising(p, n)),
        *("CLIP rises", "ten times the data", "beats its open weights"),
        "the score of cell clip-30000-s0 is missing",
    ),
    "exactly 0 and 1": (
        clipped(table(perfect)),
        *("CLIP rises", "ten times the data", "beats its open weights", "one seed"),
    ),
    "outside 0 and 1": (
        table(lambda p, n: 3 * rising(p, n)),
        *("CLIP rises", "not a score between 0 and 1", "beats its open weights", ""),
    ),
    "duplicated rows": (
        twice(table()),
        *("CLIP rises", "ten times the data", "beats its open weights"),
        "cell clip-100000-s0 is in the table 2 times",
    ),
    "open weights missing": (
        table(scales=SCALES),
        *("CLIP rises", "ten times the data", "its gain is unknown", ""),
    ),
    "draws that never vary": (
        steady(table()),
        *("undecided", FEW, "is not decided"),
        "every resample of the test patients gives the same score",
    ),
    "draws that are one noise": (
        drawn(table(noise=0.0), lambda draws: draws),
        *("CLIP rises", "ten times the data", "beats its open weights", "one seed"),
    ),
    "hardly a draw": (
        drawn(table(), holed(250)),
        *("undecided", FEW, "is not decided", "one seed"),
    ),
    "no draws": (
        table().with_columns(draws=None),
        *("undecided", FEW, "is not decided", "one seed"),
    ),
}


def finite(number: object) -> bool:
    return not isinstance(number, float) or math.isfinite(number)


@pytest.mark.parametrize("name", CASES)
def test_an_odd_curve_gets_sentences_and_no_number_that_is_none(name: str) -> None:
    scores, trend, ahead, gain, caution = CASES[name]
    said = answers(scores)
    mine = {a.kind: a.sentence for a in said if a.numbers.get("paradigm") == "clip"}
    assert trend in mine["trend"]
    assert ahead in mine["ten_times"]
    assert gain in mine.get("open_weights", "")
    assert any(caution in a.sentence for a in said if a.kind == "caution") or not caution
    analyses = analyse(scores)
    tables = [
        fits_table(scores),
        *(forecast_at(analyses, n) for n in (40_000.0, 3.5e7, 1e12)),
        *(images_needed(analyses, goal) for goal in (0.0, 0.5, 0.52, 1.0)),
        next_cells(analyses, {"clip": 1.0, "dinov2": 1.0}),
    ]
    for made in tables[1:-1]:
        said = said + forecast_sentences(made, analyses)
    for answer in said:
        assert not re.search(r"\b(nan|inf)\b", answer.sentence.lower()), answer
        assert all(finite(number) for number in answer.numbers.values()), answer
    for made in tables:
        for row in made.iter_rows(named=True):
            assert all(finite(number) for number in row.values()), row


def test_two_rows_that_differ_in_one_place_are_refused_not_averaged() -> None:
    scores = table()
    again = scores.filter(pl.col("images") == 100_000).with_columns(value=pl.col("value") + 0.01)
    with pytest.raises(SpecError, match="several scores share one seed"):
        answers(pl.concat([scores, again]))
