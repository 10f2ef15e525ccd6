"""Which cell to run next: the one that narrows a forecast most per device-hour.

A forecast is a function of the scores that its law is fitted to. How far it moves when one of them
moves by its own training noise is found by refitting (``solve``), so that bounds and held
coefficients are felt; the noise of independent runs then adds up (the delta method), and one more
run is either one more seed at a scale, whose mean gets steadier, or a new scale (Atkinson, Donev
and Tobias 2007, "Optimum Experimental Designs, with SAS", chapter 10: c-optimality). More runs do
not shrink the noise of the test patients, which all runs share: it is kept apart and stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
import polars as pl

from radsweep.laws.analysis import Analysis
from radsweep.laws.compare import ENDS_APART
from radsweep.laws.forms import FloatArray
from radsweep.laws.sentences import why_no_forecast
from radsweep.laws.solver import solve

ANOTHER_SEED, NEW_SCALE = "another seed", "new scale"
# A new scale between two neighbours that lie closer than this says what they say.
LEAST_GAP = 2.5
SCHEMA = {
    **dict.fromkeys(("sweep", "paradigm", "what"), pl.String),
    "images": pl.Int64,
    "tasks": pl.Int64,
    **dict.fromkeys(("narrower", "device_hours", "narrower_per_device_hour"), pl.Float64),
    "noise_from": pl.String,
}


@final
@dataclass(frozen=True)
class Noise:
    """The variance of one training run's score about its law, and where it was read from."""

    variance: float
    source: str


@final
@dataclass(frozen=True)
class Gain:
    """What one more cell does to the width of one curve's forecast interval."""

    what: str
    images: int
    now: float
    after: float

    @property
    def narrower(self) -> float:
        """The share of the width that goes, in [0, 1); negative where it widens."""
        return 1.0 - self.after / self.now if self.now > 0 else 0.0


def training_noise(one: Analysis) -> Noise | None:
    """From repeated seeds, else from the scatter about the law; None if neither can be had."""
    pooled = one.curve.seed_noise
    if pooled is not None:
        return Noise(pooled.training, f"seeds, {pooled.degrees} degrees of freedom")
    if one.fit is None:
        return None
    free = len(one.curve.scales) - one.fit.form.fitted
    if free < 1:
        return None
    scatter = one.fit.rmse**2 * len(one.curve.scales) / free
    return Noise(
        scatter,
        f"the scatter about the law, {free} degrees of freedom, as no scale was trained twice",
    )


def _start(one: Analysis, rows: int) -> FloatArray | None:
    if one.fit is None or not one.fit.form.is_anchored:
        return None
    return np.full(rows, one.fit.theta["start"])


def _pulls(
    one: Analysis, scales: FloatArray, errors: FloatArray, ahead: float, step: float
) -> FloatArray:
    """How far the forecast moves per unit of each scale's error, [n], by central differences."""
    assert one.fit is not None
    moved = errors + step * np.concatenate([np.eye(len(scales)), -np.eye(len(scales))])
    theta, _ = solve(one.fit.form, scales, moved, start=_start(one, len(moved)))
    forecasts = one.fit.form(np.array([ahead]), theta)[:, 0]
    pulls: FloatArray = (forecasts[: len(scales)] - forecasts[len(scales) :]) / (2 * step)
    return pulls


def _patients(one: Analysis, ahead: float) -> float:
    """The forecast's variance over resamples of the patients alone."""
    assert one.fit is not None
    columns = [scale.draws.mean(axis=0) for scale in one.curve.scales if scale.draws is not None]
    draws = np.stack(columns, axis=1)
    start = None
    base = one.curve.open_weights
    if one.fit.form.is_anchored and base is not None and base.draws is not None:
        draws = np.column_stack([draws, base.draws.mean(axis=0)])
    draws = draws[np.isfinite(draws).all(axis=1)]
    if one.fit.form.is_anchored:
        draws, start = draws[:, :-1], 1.0 - draws[:, -1]
    theta, _ = solve(one.fit.form, one.curve.images, 1.0 - draws, start=start)
    return float(one.fit.form(np.array([ahead]), theta)[:, 0].var(ddof=1))


def gains(
    one: Analysis, ahead: float, *, available: int | None = None
) -> tuple[tuple[Gain, ...], Noise] | str:
    """What each possible next cell does to one curve's forecast at ``ahead`` images.

    Candidates are another seed at each scale, a scale between two that lie apart, and, where the
    corpus has more images (``available``), one beyond the largest. Returns why there are none, in
    words, where the curve supports no forecast.
    """
    reason = why_no_forecast(one)
    noise = training_noise(one)
    if reason is not None or one.fit is None:
        return reason or "no law is fitted"
    if noise is None or noise.variance == 0:
        return "the noise of training is unknown: run a second seed at the smallest scale first"
    scales, errors = one.curve.images, 1.0 - one.curve.values
    counts = np.array([len(scale.values) for scale in one.curve.scales], dtype=np.float64)
    step = math.sqrt(noise.variance)
    pulls = _pulls(one, scales, errors, ahead, step)
    patients = _patients(one, ahead)
    now = ENDS_APART * math.sqrt(patients + noise.variance * np.sum(pulls**2 / counts))
    found = []
    for i, images in enumerate(scales):
        more = counts + (np.arange(len(scales)) == i)
        spread = patients + noise.variance * np.sum(pulls**2 / more)
        found.append(Gain(ANOTHER_SEED, int(images), now, ENDS_APART * math.sqrt(spread)))
    for images in _new_scales(scales, available):
        where = int(np.searchsorted(scales, images))
        wider = np.insert(scales, where, images)
        law = one.fit.form(np.array([float(images)]), one.fit.vector())[0]
        moved = _pulls(one, wider, np.insert(errors, where, law), ahead, step)
        spread = patients + noise.variance * np.sum(moved**2 / np.insert(counts, where, 1.0))
        found.append(Gain(NEW_SCALE, images, now, ENDS_APART * math.sqrt(spread)))
    return tuple(found), noise


def _new_scales(scales: FloatArray, available: int | None) -> list[int]:
    between = [math.sqrt(a * b) for a, b in pairwise(scales) if b / a >= LEAST_GAP]
    largest = float(scales.max())
    if available is not None and available > largest:
        between.append(min(float(available), largest * math.sqrt(10)))
    digits = [1 - math.floor(math.log10(n)) for n in between]
    rounded = [round(n, d) for n, d in zip(between, digits, strict=True)]
    limit = math.inf if available is None else available
    return [int(min(n, limit)) for n in rounded if int(min(n, limit)) not in scales]


def next_cells(
    analyses: Sequence[Analysis],
    device_hours: Mapping[str, float],
    *,
    ahead: float | None = None,
    available: int | None = None,
) -> pl.DataFrame:
    """Possible next cells, best first: how much narrower they make the forecasts, per device-hour.

    Args:
        analyses: of ``radsweep.laws.analysis.analyse``.
        device_hours: of one cell by paradigm (``forecasts.cell_device_hours``, or a plan's); a
            paradigm that is absent is listed without a ratio, last.
        ahead: images at which the forecasts are wanted; ten times each largest scale if None.
        available: images that the corpus has to pretrain on.

    Returns:
        One row per cell (paradigm, images, another seed or a new scale): ``tasks`` that it informs,
        ``narrower`` (share of the forecast interval's width that goes, mean over these tasks),
        device_hours, narrower_per_device_hour, and where the training noise was read from. Empty
        where no curve supports a forecast.
    """
    found: dict[tuple[str, str, str, str, int], list[tuple[float, str]]] = {}
    for one in analyses:
        largest = max((scale.images for scale in one.curve.scales), default=0)
        answer = gains(one, ahead or 10.0 * largest, available=available)
        if isinstance(answer, str):
            continue
        curve = one.curve
        for gain in answer[0]:
            key = (curve.sweep, curve.arm, curve.paradigm, gain.what, gain.images)
            found.setdefault(key, []).append((gain.narrower, answer[1].source))
    rows: list[dict[str, Any]] = []
    for (sweep, arm, paradigm, what, images), per_task in found.items():
        narrower = float(np.mean([share for share, _ in per_task]))
        hours = device_hours.get(paradigm)
        rows.append(
            {
                **{"sweep": sweep, "paradigm": arm, "what": what, "images": images},
                **{"tasks": len(per_task), "narrower": narrower, "device_hours": hours},
                "narrower_per_device_hour": narrower / hours if hours else None,
                "noise_from": per_task[0][1],
            }
        )
    table = pl.DataFrame(rows, schema=SCHEMA)
    order = ["narrower_per_device_hour", "narrower"]
    return table.sort(order, descending=True, nulls_last=True)
