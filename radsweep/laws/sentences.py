"""The sentences: what a curve, or several of one task, supports, for a reader who treats patients.

Each sentence carries its numbers. Where the table supports no number, the sentence says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from radsweep.laws.analysis import (
    FALLS,
    FLAT,
    NEGLIGIBLE,
    RISES,
    Analysis,
    paired,
)
from radsweep.laws.bootstrap import (
    BEYOND_THE_DATA,
    NEVER,
    Bootstrapped,
    Crossing,
    Interval,
    crossover,
)
from radsweep.laws.curves import FEWEST_DRAWS, Scale
from radsweep.laws.fit import FEW_SCALES
from radsweep.laws.words import images_in_words

SURE = 0.95
AHEAD = 10
TOO_FEW = f"fewer than {FEWEST_DRAWS} paired resamples"
Number = float | int | str | None


@final
@dataclass(frozen=True)
class Answer:
    """One sentence and the numbers in it."""

    task: str
    """The task's name; empty for what concerns the whole table."""
    heading: str
    """The task to read, with the probe where there are several; the sentence begins with it."""
    kind: str
    """``best``, ``crossover``, ``open_weights``, ``trend``, ``ten_times`` or ``caution``."""
    sentence: str
    numbers: dict[str, Number]


def _signed(span: Interval) -> str:
    return f"{span.value:+.3f}, 95% interval {span.low:+.3f} to {span.high:+.3f}"


def _share(share: float) -> str:
    if share >= 1:
        return "all resamples"
    return "over 99% of resamples" if share > 0.99 else f"{share:.0%} of resamples"


def _estimate(images: float) -> str:
    return images_in_words(images, digits=2)


def _scale_at(one: Analysis, images: int) -> Scale:
    return next(scale for scale in one.curve.scales if scale.images == images)


def best_sentences(group: Sequence[Analysis]) -> list[Answer]:
    """Which paradigm of one task is best at the largest common scale, and how sure that is."""
    first = group[0].curve
    sets = [{scale.images for scale in one.curve.scales} for one in group]
    common = set.intersection(*sets)
    if len(group) == 1 or not common:
        reason = (
            f"only {first.arm_title} has scores, so there is nothing to compare it with"
            if len(group) == 1
            else "the paradigms share no scale, so they cannot be compared"
        )
        return [Answer(first.task, first.title, "best", f"{first.title}: {reason}.", {})]
    images = max(common)
    ranked = sorted(group, key=lambda one: -_scale_at(one, images).value)
    top, second = ranked[0], ranked[1]
    high, low = _scale_at(top, images), _scale_at(second, images)
    numbers: dict[str, Number] = {
        **{"images": images, "best": top.curve.arm, "value": high.value},
        **{"runner_up": second.curve.arm, "runner_up_value": low.value},
    }
    lead = (
        f"{first.title}: at {images_in_words(images)} images {top.curve.arm_title} scores highest "
        f"({first.metric_title} {high.value:.3f}, {second.curve.arm_title} {low.value:.3f})"
    )
    draws = paired(top.curve, high, low, second.curve)
    if draws is None:
        text = (
            f"{lead}; with fewer than {FEWEST_DRAWS} paired resamples it is open how sure that is."
        )
        return [Answer(first.task, first.title, "best", text, numbers)]
    share = float(np.mean(draws > 0) + np.mean(draws == 0) / 2)
    numbers["share"] = share
    sure = (
        f"; it is ahead in {_share(share)} of the test patients."
        if share >= SURE
        else f", but is not surely ahead of {second.curve.arm_title}: in only {_share(share)}."
    )
    return [Answer(first.task, first.title, "best", lead + sure, numbers), *_crossover(top, second)]


def _crossover(top: Analysis, second: Analysis) -> list[Answer]:
    laws = (top.plain_law, second.plain_law)
    if laws[0] is None or laws[1] is None or len(laws[0].theta) != len(laws[1].theta):
        return []
    if min(len(law.images) for law in laws if law is not None) < FEW_SCALES:
        return []
    where = crossover(laws[0], laws[1])
    if where.images is None or where.share < SURE or where.low is None or where.high is None:
        return []
    curve = top.curve
    sentence = (
        f"{curve.title}: by their fitted laws {second.curve.arm_title} leads with little data and "
        f"{curve.arm_title} overtakes it at about {_estimate(where.images)} images "
        f"({_estimate(where.low)} to {_estimate(where.high)})."
    )
    numbers: dict[str, Number] = {
        **{"best": curve.arm, "runner_up": second.curve.arm, "images": where.images},
        **{"low": where.low, "high": where.high, "share": where.share},
    }
    return [Answer(curve.task, curve.title, "crossover", sentence, numbers)]


def crossing_of(one: Analysis) -> Crossing | None:
    """Where the law comes to beat the open weights; None if a crossing is not supported."""
    law, base = one.plain_law, one.curve.open_weights
    if law is None or base is None or one.open_weights_draws is None:
        return None
    if len(law.images) < 3 or not 0 <= base.value <= 1:
        return None
    return law.images_to_beat(base.value, one.open_weights_draws)


def _crossing_words(one: Analysis, crossing: Crossing | None) -> str:
    if crossing is None:
        return ""
    if crossing.words == NEVER:
        return "; its fitted law does not cross them inside the data"
    if crossing.images is None:
        sure = crossing.already >= SURE
        return "" if sure else "; its fitted law is above them from the smallest scale on"
    smallest = images_in_words(one.curve.scales[0].images)
    low = f"{smallest} or fewer" if crossing.low is None else _estimate(crossing.low)
    high = "beyond the data" if crossing.high is None else _estimate(crossing.high)
    return f"; its fitted law crosses them at about {_estimate(crossing.images)} ({low} to {high})"


def open_weights_sentence(one: Analysis) -> Answer:
    """From how many images on a paradigm beats its open weights, or that it does not."""
    curve, base = one.curve, one.curve.open_weights
    numbers: dict[str, Number] = {"paradigm": curve.arm}

    def answer(text: str) -> Answer:
        return Answer(curve.task, curve.title, "open_weights", f"{curve.title}: {text}.", numbers)

    if base is None:
        return answer(
            f"there is no open-weights score for {curve.arm_title}, so its gain is unknown"
        )
    numbers["open_weights"] = base.value
    spans = [(d.images, d.interval) for d in one.differences if d.interval is not None]
    if len(spans) < len(one.differences) or not spans:
        return answer(
            f"{curve.arm_title} has {TOO_FEW}, so whether it beats its open weights "
            f"({curve.metric_title} {base.value:.3f}) is not decided"
        )
    above = [images for images, span in spans if span.low > 0]
    if not above:
        if all(span.high < 0 for _, span in spans):
            return answer(f"{curve.arm_title} scores below its open weights at every scale")
        images, span = max(spans, key=lambda pair: pair[1].value)
        numbers.update(images=images, difference=span.value, low=span.low, high=span.high)
        return answer(
            f"{curve.arm_title} does not beat its open weights "
            f"({curve.metric_title} {base.value:.3f}) at any scale; "
            f"the best difference is {_signed(span)}, at {images_in_words(images)} images"
        )
    first = above[0]
    span = dict(spans)[first]
    numbers.update(images=first, difference=span.value, low=span.low, high=span.high)
    lasting = len(above) == sum(images >= first for images, _ in spans)
    onwards = "on" if lasting else "on, though not at every larger scale"
    crossing = crossing_of(one)
    if crossing is not None:
        numbers.update(crossing=crossing.images, crossing_words=crossing.words)
        numbers.update(crossing_low=crossing.low, crossing_high=crossing.high)
    return answer(
        f"{curve.arm_title} beats its open weights ({curve.metric_title} {base.value:.3f}) from "
        f"{images_in_words(first)} images {onwards} ({_signed(span)})"
        f"{_crossing_words(one, crossing)}"
    )


def trend_sentence(one: Analysis) -> Answer:
    """Whether scores rise with data."""
    curve, trend = one.curve, one.trend
    numbers: dict[str, Number] = {"paradigm": curve.arm, "verdict": trend.verdict}
    if not curve.scales:
        text = f"no score of {curve.arm_title} is usable, so nothing is said of it"
        return Answer(curve.task, curve.title, "trend", f"{curve.title}: {text}.", numbers)
    if len(curve.scales) < 2:
        text = f"one scale does not say whether {curve.arm_title} improves with data"
        return Answer(curve.task, curve.title, "trend", f"{curve.title}: {text}.", numbers)
    if trend.change is None:
        text = f"{curve.arm_title} has {TOO_FEW}, so whether it improves with data is undecided"
        return Answer(curve.task, curve.title, "trend", f"{curve.title}: {text}.", numbers)
    change = trend.change
    numbers.update(difference=change.value, low=change.low, high=change.high)
    numbers["rank_correlation"] = trend.rank_correlation
    if one.noise is not None:
        seeds = one.noise.seeds
        numbers["sampling_deviation"] = math.sqrt(one.noise.sampling)
        numbers["seed_deviation"] = None if seeds is None else math.sqrt(seeds)
    verdicts = {
        RISES: f"{curve.arm_title} rises with data",
        FALLS: f"{curve.arm_title} does not rise with data, it falls",
        FLAT: f"{curve.arm_title} does not rise with data: any change is smaller than {NEGLIGIBLE}",
    }
    verdict = verdicts.get(trend.verdict, f"whether {curve.arm_title} rises with data is undecided")
    ends = [images_in_words(curve.scales[i].images) for i in (0, -1)]
    text = f"{curve.title}: {verdict} ({_signed(change)}, from {ends[0]} to {ends[1]} images)."
    return Answer(curve.task, curve.title, "trend", text, numbers)


def why_no_forecast(one: Analysis) -> str | None:
    """What stands against a forecast, in words; None if nothing does."""
    if one.no_law is not None:
        return one.no_law
    if len(one.curve.scales) < FEW_SCALES:
        return f"there are only {len(one.curve.scales)} scales"
    if one.law is None:
        return f"it has {TOO_FEW}"
    if one.trend.verdict != RISES:
        return "it is not established that its scores rise with data"
    if one.law.fit.leave_largest_out is None:
        return "no law could be tested on its largest scale"
    return None


def _rivals(law: Bootstrapped) -> str:
    """Which other forms the interval holds, in words; empty where none stands."""
    others = list(law.weights())[1:]
    if not others:
        return ""
    named = " and ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
    return f" ({law.fit.form.name}; the interval weighs {named} too)"


def ten_times_sentence(one: Analysis) -> Answer:
    """What ten times the data would buy, with its warning, or why that cannot be said."""
    curve = one.curve
    numbers: dict[str, Number] = {"paradigm": curve.arm}

    def answer(text: str) -> Answer:
        return Answer(curve.task, curve.title, "ten_times", f"{curve.title}: {text}", numbers)

    reason = why_no_forecast(one)
    if reason is not None or one.law is None or one.law.fit.leave_largest_out is None:
        return answer(
            f"what ten times the data would buy {curve.arm_title} cannot be said: {reason}."
        )
    last = curve.scales[-1]
    forecast = one.law.forecast(AHEAD * last.images)
    span, missed = forecast.value, one.law.fit.leave_largest_out
    doubling = one.law.gain_per_doubling()
    if forecast.warning != BEYOND_THE_DATA:
        return answer(
            f"what ten times the data would buy {curve.arm_title} cannot be said: "
            f"{forecast.warning}."
        )
    numbers.update(images=forecast.images, value=span.value, low=span.low, high=span.high)
    numbers.update(form=one.law.fit.form.name, leave_largest_out=missed)
    numbers.update(gain_per_doubling=doubling.value)
    numbers.update(gain_low=doubling.low, gain_high=doubling.high)
    flags = "".join(f"; {flag}" for flag in one.law.fit.flags)
    bought = f"The last doubling of the data bought {_signed(doubling)}. "
    return answer(
        f"ten times the data ({images_in_words(forecast.images)} images) would take "
        f"{curve.arm_title} from {last.value:.3f} to about {span.value:.3f} "
        f"({span.low:.3f} to {span.high:.3f}), if its law holds{_rivals(one.law)}. "
        f"{bought}Warning: {forecast.warning}; the law missed its largest scale, when that was "
        f"left out, by {missed:.3f}{flags}."
    )


def caution_sentences(analyses: Sequence[Analysis]) -> list[Answer]:
    """What was left out, and what the intervals do not hold."""
    found = []
    if not analyses:
        text = "There are no test scores of a pretrained encoder yet."
        return [Answer("", "", "caution", text, {})]
    seeds = {len(scale.values) for one in analyses for scale in one.curve.scales}
    if seeds == {1}:
        text = (
            "Every encoder was trained once (one seed): the intervals of scores and differences "
            "hold the chance of the test patients, not that of training again, and are too narrow "
            "(where training again moves a score half as much as other patients do, a 95% interval "
            "of a difference holds the truth about 78 times in 100); those of laws hold it as far "
            "as the scores scatter about the law."
        )
        found.append(Answer("", "", "caution", text, {"seeds": 1}))
    for one in analyses:
        for note in dict.fromkeys(one.curve.left_out):
            found.append(Answer(one.curve.task, one.curve.title, "caution", note, {}))
    return found
