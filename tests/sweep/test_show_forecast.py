"""Forecasts on a terminal: numbers by sentence, silence by reason."""

import polars as pl

from radsweep.laws.sentences import Answer
from radsweep.sweep.show_forecast import forecast_lines


def answer(heading: str, text: str) -> Answer:
    return Answer(heading.lower(), heading, "forecast", f"{heading}: {text}", {})


def test_reasons_are_told_once_with_all_whom_they_concern() -> None:
    answers = [answer("Findings", "CLIP is expected at 0.9."), *[answer("Findings", "x")] * 2]
    answers.append(answer("Reports", "x"))
    table = pl.DataFrame(
        {
            "paradigm": ["clip", "unicl", "dinov2", "unicl"],
            "why_not": [None, "two scales only", "two scales only", "two scales only"],
        }
    )
    assert list(forecast_lines(answers, table)) == [
        "- Findings: CLIP is expected at 0.9.",
        "- Nothing can be said of Findings (UniCL, DINOv2); Reports (UniCL): two scales only.",
    ]


def test_a_pair_is_named_as_a_pair() -> None:
    table = pl.DataFrame({"paradigm": ["clip"], "other": ["unicl"], "why_not": ["no law"]})
    (line,) = forecast_lines([answer("Findings", "x")], table)
    assert line == "- Nothing can be said of Findings (CLIP and UniCL): no law."
