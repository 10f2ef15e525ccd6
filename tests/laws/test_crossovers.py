"""Crossovers of two paradigms and gains per doubling: found where they are, words where not."""

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from radsweep.laws.analysis import analyse
from radsweep.laws.crossovers import (
    crossover_sentences,
    crossovers,
    doubling_sentences,
    doublings,
)
from tests.laws.test_answers import rising, table


def crossing(at: float, slope: float = 0.04) -> Callable[[str, int], float]:
    """DINOv2 overtakes CLIP at ``at`` images."""

    def value(paradigm: str, images: int) -> float:
        if not images:
            return 0.5
        steep = slope if paradigm == "dinov2" else 0.01
        return 0.6 + steep * float(np.log10(images / at))

    return value


def test_a_crossover_is_where_the_laws_meet_whichever_is_named_first() -> None:
    analyses = analyse(table(crossing(3e5)))
    (row,) = crossovers(analyses).to_dicts()
    assert (row["paradigm"], row["other"]) == ("dinov2", "clip")
    assert row["images"] == pytest.approx(3e5, rel=0.05)
    assert row["low"] < 3e5 < row["high"]
    assert row["share"] == 1.0
    (said,) = crossover_sentences(crossovers(analyses), analyses)
    assert "by their laws DINOv2 overtakes CLIP at about" in said.sentence
    assert "not established" not in said.sentence


def test_a_crossover_that_chance_could_undo_is_said_to_be_open() -> None:
    analyses = analyse(table(crossing(3e5, slope=0.011), noise=0.01))
    (row,) = crossovers(analyses).to_dicts()
    assert row["share"] < 0.95
    (said,) = crossover_sentences(crossovers(analyses), analyses)
    assert "not established" in said.sentence or "at every scale" in said.sentence


def test_laws_that_never_cross_name_who_is_ahead() -> None:
    analyses = analyse(table(crossing(3e3)))
    (row,) = crossovers(analyses).to_dicts()
    assert (row["paradigm"], row["images"], row["share"]) == ("dinov2", None, 0.0)
    (said,) = crossover_sentences(crossovers(analyses), analyses)
    assert "DINOv2 is ahead of CLIP at every scale" in said.sentence


def test_what_a_doubling_bought_has_its_interval_and_its_sentence() -> None:
    analyses = analyse(table())
    for row, slope in zip(doublings(analyses).to_dicts(), (0.02, 0.04), strict=True):
        assert row["gain"] == pytest.approx(slope * np.log10(2), rel=0.1)
        assert row["low"] < row["gain"] < row["high"]
        assert row["images"] == 3_500_000
    said = doubling_sentences(doublings(analyses), analyses)
    assert "the last doubling of the data, to 3.5 million images, bought CLIP" in said[0].sentence
    assert json.dumps(said[0].numbers)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (table(lambda p, n: 0.5), "identical at every scale"),
        (table(scales=(0, 30_000)), "1 scale only"),
        (table().with_columns(draws=None), "fewer than 100 paired resamples"),
        (table(lambda p, n: float("nan")), "no score is usable"),
    ],
    ids=["equal", "one scale", "no draws", "NaN"],
)
def test_without_a_law_there_is_a_reason_and_no_number(scores: pl.DataFrame, words: str) -> None:
    analyses = analyse(scores)
    crossed, doubled = crossovers(analyses), doublings(analyses)
    assert crossed.select("images", "low", "high", "share").null_count().row(0) == (1,) * 4
    assert doubled.select("gain", "low", "high").null_count().row(0) == (2,) * 3
    for answer in crossover_sentences(crossed, analyses) + doubling_sentences(doubled, analyses):
        assert words in answer.sentence


def test_a_curve_of_three_scales_says_nothing_of_who_overtakes_whom() -> None:
    analyses = analyse(table(rising, scales=(0, 30_000, 100_000, 1_000_000)))
    assert crossovers(analyses)["why_not"].to_list() == ["CLIP has only 3 scales"]
