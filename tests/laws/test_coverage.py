"""Nominal 95 % intervals hold the truth in 93 to 97 of 100 simulated sweeps, form and all.

Each simulated sweep has five scales of two paradigms that start from one score. Three noises: the
test patients' that all encoders share, what of it they do not share, and training again. It goes
through the analysis that a real sweep goes through, which has to choose the form itself.
"""

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import norm

from radsweep.laws.analysis import Analysis, analyse_curve, paired, spread
from radsweep.laws.bootstrap import Interval, interval
from radsweep.laws.curves import Curve, Scale
from radsweep.laws.forms import (
    ANCHORED,
    LOG_LINEAR,
    POWER_LAW,
    POWER_LAW_WITH_FLOOR,
    FloatArray,
    Form,
)
from radsweep.laws.plausible import MISSES
from radsweep.laws.sentences import caution_sentences, crossing_of
from radsweep.laws.wide_forms import BROKEN

IMAGES = np.array([3e4, 5e4, 1e5, 1e6, 3.5e6])
AHEAD = 3.5e7
SHARED, OWN, TRAINING = 0.008, 0.003, 0.004
Truth = tuple[Form, tuple[float, ...]]
LAWS: dict[str, Truth] = {
    "log-linear": (LOG_LINEAR, (0.9, 0.03)),
    "power": (POWER_LAW, (1.5, 0.12)),
    "floor": (POWER_LAW_WITH_FLOOR, (0.2, 5.0, 0.3)),
    "anchored": (ANCHORED, (0.15, 8e4, 0.4, 0.45)),
}
# The other paradigm: it leads with little data and is overtaken.
OTHER: Truth = (LOG_LINEAR, (0.62, 0.012))
# Steeper beyond a million images than before: none of a sweep's forms can bend so.
BENT: Truth = (BROKEN, (0.9, 0.05, 0.5, 1e6))


def score(truth: Truth, images: float) -> float:
    return float(1.0 - truth[0](np.array([images]), np.array(truth[1]))[0])


def start(truth: Truth) -> float:
    """The open weights' score: where the law is at 200,000 images, or its own start."""
    return 1.0 - truth[1][-1] if truth[0].is_anchored else score(truth, 2e5)


def curve(
    truth: Truth, arm: str, seeds: int, rng: np.random.Generator, patients: FloatArray
) -> Curve:
    """A curve of scores whose patients (the test set's, then D resamples) move it by [1 + D]."""

    def scale(images: float, value: float, runs: int, training: float) -> Scale:
        values = value + patients[0] + rng.normal(0, OWN, runs) + rng.normal(0, training, runs)
        own = rng.normal(0, OWN, (runs, len(patients) - 1))
        return Scale(int(images), values, values[:, None] + patients[1:] + own)

    scales = tuple(scale(n, score(truth, n), seeds, TRAINING) for n in IMAGES)
    base = scale(0, start(truth), 1, 0.0)
    return Curve(
        f"{rng.integers(2**32)}", "t", "", "auprc", "macro", arm, "w", arm, scales, base, ()
    )


def laws_hold(one: Analysis, truth: Truth) -> dict[str, bool]:
    """Whether the law's intervals hold the truth."""
    assert one.law is not None
    _, low, high = one.law.band(np.array([1e5, AHEAD]))
    doubling = one.law.gain_per_doubling()
    gain = score(truth, IMAGES[-1]) - score(truth, IMAGES[-1] / 2)
    needed = one.law.images_for(score(truth, 2e6))
    found = {
        "law at a seen scale": low[0] <= score(truth, 1e5) <= high[0],
        "forecast at 10x": low[1] <= score(truth, AHEAD) <= high[1],
        "gain per doubling": doubling.low <= gain <= doubling.high,
        "images for a score": (needed.low or 0.0) <= 2e6 <= (needed.high or np.inf),
    }
    crossing = crossing_of(one)
    if crossing is not None and not truth[0].is_anchored:
        low_end, high_end = crossing.low or 0.0, crossing.high or np.inf
        found["images to beat the open weights"] = low_end <= 2e5 <= high_end
    return found


def holds(span: Interval | None, truth: float) -> bool:
    assert span is not None
    return span.low <= truth <= span.high


def scores_hold(first: Curve, second: Curve, truth: Truth) -> dict[str, bool]:
    """Whether the intervals that need no law hold the truth."""
    at, other = first.scales[3], second.scales[3]
    assert first.open_weights is not None
    gaps = paired(first, at, other, second), paired(first, at, first.open_weights)
    assert gaps[0] is not None
    assert gaps[1] is not None
    known = score(truth, 1e6)
    return {
        "score": holds(spread(first, at), known),
        "difference of two paradigms": holds(
            interval(at.value - other.value, gaps[0]), known - score(OTHER, 1e6)
        ),
        "difference from the open weights": holds(
            interval(at.value - first.open_weights.value, gaps[1]), known - start(truth)
        ),
    }


def covered(
    truths: dict[str, Truth], seeds: int, runs: int, *, draws: int, with_laws: bool = True
) -> dict[str, float]:
    """The share of simulated sweeps whose interval holds the truth, by quantity.

    ``with_laws`` asks the laws; without, the scores and differences themselves.
    """
    found: dict[str, list[bool]] = defaultdict(list)
    for place, truth in enumerate(truths.values()):
        # What moves all scores is spread evenly over the runs: fewer runs say as much.
        order = np.random.default_rng([place, runs]).permutation(runs)
        for run, quantile in enumerate((order + 0.5) / runs):
            rng = np.random.default_rng([place, seeds, run])
            patients = SHARED * np.append(norm.ppf(quantile), rng.normal(size=draws))
            pair = [curve(t, arm, seeds, rng, patients) for t, arm in ((truth, "a"), (OTHER, "b"))]
            if with_laws:
                hits = laws_hold(analyse_curve(pair[0]), truth)
            else:
                hits = scores_hold(pair[0], pair[1], truth)
            for name, hit in hits.items():
                found[name].append(hit)
    return {name: float(np.mean(hits)) for name, hits in found.items()}


@pytest.mark.timeout(180)
def test_nominal_95_percent_is_93_to_97_with_five_scales_and_three_seeds() -> None:
    for name, share in covered(LAWS, 3, 130, draws=200).items():
        assert 0.93 <= share <= 0.97, (name, share)


def test_scores_and_differences_cover_as_they_say_with_two_seeds_or_three() -> None:
    for seeds in (2, 3):
        found = covered({"power": LAWS["power"]}, seeds, 1200, draws=200, with_laws=False)
        for name, share in found.items():
            assert 0.93 <= share <= 0.97, (seeds, name, share)


def test_one_seed_covers_a_difference_78_times_in_100_which_its_caution_says() -> None:
    found = covered({"power": LAWS["power"]}, 1, 1200, draws=200, with_laws=False)
    assert found["difference of two paradigms"] == pytest.approx(0.78, abs=0.03)
    said = [answer.sentence for answer in caution_sentences([analyse_curve(one_seed())])]
    assert any("78 times in 100" in sentence for sentence in said)


def one_seed() -> Curve:
    rng = np.random.default_rng(0)
    return curve(LAWS["power"], "a", 1, rng, SHARED * rng.normal(size=201))


@pytest.mark.timeout(180)
def test_one_seed_is_enough_for_laws_whose_interval_then_rests_on_their_scatter() -> None:
    laws = {name: LAWS[name] for name in ("log-linear", "power", "floor")}
    found = covered(laws, 1, 70, draws=200)
    for name in ("law at a seen scale", "forecast at 10x", "gain per doubling"):
        # Three standard errors of 210 coin tosses below 0.95; a t of 2 or 3 degrees errs upwards.
        assert found[name] >= 0.905, (name, found[name])


def test_a_law_of_no_known_form_is_said_to_miss_and_gets_a_wide_interval() -> None:
    rng = np.random.default_rng(5)
    bent = analyse_curve(curve(BENT, "a", 3, rng, SHARED * rng.normal(size=201)))
    straight = analyse_curve(curve(LAWS["power"], "a", 3, rng, SHARED * rng.normal(size=201)))
    assert bent.fit is not None
    assert straight.fit is not None
    assert MISSES in bent.fit.flags
    assert MISSES not in straight.fit.flags
    assert laws_hold(bent, BENT)["law at a seen scale"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LAWS)
def test_each_law_covers_93_to_97_in_many_runs(name: str) -> None:
    for quantity, share in covered({name: LAWS[name]}, 3, 1500, draws=300).items():
        assert 0.93 <= share <= 0.97, (quantity, share)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_anchored_law_without_a_floor_covers_only_88_in_100_ahead() -> None:
    edge = {"edge": (ANCHORED, (0.0, 3e5, 0.15, 0.3))}
    found = covered(edge, 3, 400, draws=300)
    # The floor sits on its bound, where no bootstrap covers what it says (Andrews 2000).
    assert found["forecast at 10x"] == pytest.approx(0.88, abs=0.05)
    assert 0.93 <= found["law at a seen scale"] <= 0.97
