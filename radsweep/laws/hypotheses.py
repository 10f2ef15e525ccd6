"""Pre-registered hypotheses: what was claimed before the scores were seen, answered from them.

"UniCL beats CLIP on findings at every scale" is yes only if every scale says so by itself (an
intersection-union test, Berger 1982, which needs no correction within the hypothesis), and no as
soon as one scale surely says the opposite (corrected for the number of scales by Bonferroni).
Across hypotheses the p values are corrected by Holm 1979. All else is undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import polars as pl

from radsweep.laws.analysis import Analysis
from radsweep.laws.bootstrap import Interval
from radsweep.laws.compare import ALPHA, holm, one_sided
from radsweep.laws.compare import difference as compared
from radsweep.laws.words import images_in_words, paradigm_title, task_title
from radsweep.specs import EVERY_SCALE, LARGEST_SCALE, OPEN_WEIGHTS, Hypothesis

YES, NO, UNDECIDED = "yes", "no", "undecided"


def statement(hypothesis: Hypothesis) -> str:
    """The claim as a sentence without its full stop."""
    other = hypothesis.better_than
    other = "its open weights" if other == OPEN_WEIGHTS else paradigm_title(other)
    margin = f" by more than {hypothesis.by:g}" if hypothesis.by else ""
    if isinstance(hypothesis.at, int):
        place = f"{images_in_words(hypothesis.at)} images"
    else:
        place = hypothesis.at if hypothesis.at == EVERY_SCALE else f"the {hypothesis.at}"
    beats = f"{paradigm_title(hypothesis.paradigm)} beats {other}{margin}"
    return f"{beats} on {task_title(hypothesis.task).lower()} at {place}"


@final
@dataclass(frozen=True)
class Verdict:
    """A hypothesis and what the scores say of it."""

    hypothesis: Hypothesis
    answer: str
    """``yes``, ``no`` or ``undecided``."""
    effects: tuple[tuple[int, Interval], ...]
    """(images, difference with its 95 % interval), smallest scale first."""
    p: float | None
    """Two-sided, before the correction; None where nothing could be tested."""
    p_holm: float | None
    sentence: str


def _pairs(one: Hypothesis, analyses: Sequence[Analysis]) -> list[tuple[int, Interval | None]]:
    of_task = [a for a in analyses if a.curve.task == one.task]
    first = next((a for a in of_task if a.curve.arm == one.paradigm), None)
    if first is None:
        return []
    if one.better_than == OPEN_WEIGHTS:
        found = [(gap.images, gap.interval) for gap in first.differences]
    else:
        second = next((a for a in of_task if a.curve.arm == one.better_than), None)
        if second is None:
            return []
        gaps = [compared(first, second, scale.images) for scale in first.curve.scales]
        found = [(gap.images, gap.span) for gap in gaps if gap is not None]
    if one.at == EVERY_SCALE:
        return found
    wanted = max((images for images, _ in found), default=0) if one.at == LARGEST_SCALE else one.at
    return [pair for pair in found if pair[0] == wanted]


def _tested(one: Hypothesis, effects: Sequence[tuple[int, Interval]]) -> tuple[float, float]:
    """The p values that speak for yes and for no."""
    above = [one_sided(span, one.by) for _, span in effects]
    return max(above), min(len(above) * min(1 - p for p in above), 1.0)


def _sentence(one: Hypothesis, answer: str, effects: Sequence[tuple[int, Interval]]) -> str:
    # The weakest scale decides: it is what holds a yes up, and what makes a no.
    images, span = min(effects, key=lambda pair: pair[1].value)
    smallest = "The difference" if len(effects) == 1 else "The smallest difference"
    return (
        f"{statement(one)}: {answer}. {smallest} is {span.value:+.3f}, 95% interval "
        f"{span.low:+.3f} to {span.high:+.3f}, at {images_in_words(images)} images."
    )


def verdicts(hypotheses: Sequence[Hypothesis], analyses: Sequence[Analysis]) -> tuple[Verdict, ...]:
    """Answer every hypothesis from the analysed curves (``radsweep.laws.analysis.analyse``).

    A hypothesis whose scores are not there (yet), or lack paired resamples at one of its scales, is
    undecided, and its sentence says so; it does not count in the correction.
    """
    tested: list[tuple[int, list[tuple[int, Interval]], float, float]] = []
    found: list[Verdict | None] = []
    for i, one in enumerate(hypotheses):
        pairs = _pairs(one, analyses)
        effects = [(images, span) for images, span in pairs if span is not None]
        if not pairs or len(effects) < len(pairs):
            lacking = "there are no such scores" if not pairs else "a scale lacks paired resamples"
            text = f"{statement(one)}: {UNDECIDED}, because {lacking}."
            found.append(Verdict(one, UNDECIDED, tuple(effects), None, None, text))
            continue
        tested.append((i, effects, *_tested(one, effects)))
        found.append(None)
    raw = [min(2 * min(yes, no), 1.0) for _, _, yes, no in tested]
    for (i, effects, yes, no), p, p_holm in zip(tested, raw, holm(raw), strict=True):
        answer = UNDECIDED if p_holm > ALPHA else YES if yes < no else NO
        text = _sentence(hypotheses[i], answer, effects)
        found[i] = Verdict(hypotheses[i], answer, tuple(effects), p, float(p_holm), text)
    return tuple(one for one in found if one is not None)


VERDICTS_SCHEMA = {
    **dict.fromkeys(("statement", "answer"), pl.String),
    **{"images": pl.Int64, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64},
    **{"p": pl.Float64, "p_holm": pl.Float64, "sentence": pl.String},
}


def verdicts_table(found: Sequence[Verdict]) -> pl.DataFrame:
    """One row per hypothesis and scale (one without numbers where nothing could be tested)."""
    rows: list[dict[str, Any]] = []
    for one in found:
        named = {
            **{"statement": statement(one.hypothesis), "answer": one.answer},
            **{"p": one.p, "p_holm": one.p_holm, "sentence": one.sentence},
        }
        rows += [
            {**named, "images": n, "difference": span.value, "low": span.low, "high": span.high}
            for n, span in one.effects
        ] or [named]
    return pl.DataFrame(rows, schema=VERDICTS_SCHEMA)
