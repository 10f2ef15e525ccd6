"""What a score table says: as sentences with their numbers, and as a table of fitted laws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from radsweep.laws.analysis import Analysis, analyse, by_task
from radsweep.laws.sentences import (
    AHEAD,
    Answer,
    best_sentences,
    caution_sentences,
    crossing_of,
    open_weights_sentence,
    ten_times_sentence,
    trend_sentence,
    why_no_forecast,
)

__all__ = ["Answer", "answers", "answers_from", "fits_table", "fits_table_from"]


def answers_from(analyses: Sequence[Analysis]) -> list[Answer]:
    """Sentences from curves analysed before (``analyse``): task by task, cautions last."""
    found: list[Answer] = []
    for group in by_task(analyses).values():
        usable = [one for one in group if one.curve.scales]
        if usable:
            found += best_sentences(usable)
        for make in (open_weights_sentence, trend_sentence, ten_times_sentence):
            found += [make(one) for one in usable]
        for make in (trend_sentence, ten_times_sentence):
            found += [make(one) for one in group if not one.curve.scales]
    return found + caution_sentences(analyses)


def answers(scores: pl.DataFrame) -> list[Answer]:
    """What the score table says, as sentences with their numbers; see the module's text.

    Raises:
        SpecError: the table lacks a column or holds two cells in one place.
    """
    return answers_from(analyse(scores))


FITS_SCHEMA = {
    **dict.fromkeys(("sweep", "task", "probe", "paradigm", "metric", "form", "theta"), pl.String),
    "forms": pl.String,
    **dict.fromkeys(("r2", "rmse", "leave_largest_out"), pl.Float64),
    **dict.fromkeys(("gain_per_doubling", "gain_low", "gain_high"), pl.Float64),
    "flags": pl.String,
    **dict.fromkeys(("n_beat", "n_beat_low", "n_beat_high"), pl.Float64),
    "n_beat_words": pl.String,
    **dict.fromkeys(("forecast_images", "forecast", "forecast_low", "forecast_high"), pl.Float64),
    "forecast_warning": pl.String,
}


def _fits_row(one: Analysis) -> dict[str, Any]:
    curve, chosen = one.curve, one.fit
    row: dict[str, Any] = dict.fromkeys(FITS_SCHEMA)
    row.update(sweep=curve.sweep, task=curve.task, probe=curve.probe, paradigm=curve.arm)
    row.update(metric=curve.metric, flags=one.no_law)
    if chosen is not None:
        row.update(form=chosen.form.name, theta=json.dumps(chosen.theta), r2=chosen.r2)
        row.update(rmse=chosen.rmse, leave_largest_out=chosen.leave_largest_out)
        row.update(flags="; ".join(chosen.flags))
    if one.law is not None:
        gain = one.law.gain_per_doubling()
        row.update(forms=json.dumps(one.law.weights()), gain_per_doubling=gain.value)
        row.update(gain_low=gain.low, gain_high=gain.high)
    crossing = crossing_of(one)
    if crossing is not None:
        row.update(n_beat=crossing.images, n_beat_words=crossing.words)
        row.update(n_beat_low=crossing.low, n_beat_high=crossing.high)
    reason = why_no_forecast(one)
    row["forecast_warning"] = reason
    if one.law is not None and reason is None:
        ahead = one.law.forecast(AHEAD * curve.scales[-1].images)
        row.update(forecast_images=ahead.images, forecast_warning=ahead.warning)
        row.update(forecast=ahead.value.value, forecast_low=ahead.value.low)
        row.update(forecast_high=ahead.value.high)
    return row


def fits_table_from(analyses: Sequence[Analysis]) -> pl.DataFrame:
    """One row per analysed curve, see ``fits_table``."""
    return pl.DataFrame([_fits_row(one) for one in analyses], schema=FITS_SCHEMA)


def fits_table(scores: pl.DataFrame) -> pl.DataFrame:
    """The chosen law of every headline curve: one row per sweep, task, probe and paradigm.

    ``theta`` is JSON by parameter name, ``forms`` JSON of the share of the draws that follow each
    form, ``gain_per_doubling`` what the last doubling inside the data bought, ``flags`` are words
    joined by "; ", ``n_beat`` (images, with interval) is where the law beats the open weights and
    null where that is not inside the data (``n_beat_words`` says so), ``forecast`` is the score at
    ten times the largest scale and null where ``forecast_warning`` says why.

    Raises:
        SpecError: the table lacks a column or holds two cells in one place.
    """
    return fits_table_from(analyse(scores))
