"""Intervals cover what they promise; crossings, forecasts and crossovers stay inside the data."""

import numpy as np
import pytest

from radsweep.errors import SpecError
from radsweep.laws.bootstrap import (
    BEYOND_A_DECADE,
    BEYOND_THE_DATA,
    OUTSIDE_THE_RANGE,
    Bootstrapped,
    bootstrap,
    crossover,
    interval,
    variance,
)
from radsweep.laws.curves import SeedNoise, mix_seeds, seed_noise
from radsweep.laws.forms import (
    ANCHORED,
    LOG_LINEAR,
    POWER_LAW,
    FloatArray,
    Form,
)

IMAGES = np.array([3e4, 5e4, 1e5, 1e6, 3.5e6])


def law(form: Form, theta: list[float], noise: float = 0.003, seed: int = 1) -> Bootstrapped:
    values = 1.0 - form(IMAGES, np.array(theta))
    rng = np.random.default_rng(seed)
    return bootstrap(form, IMAGES, values + rng.normal(0, noise, (300, 5)), values)


@pytest.mark.parametrize(
    ("form", "theta"), [(POWER_LAW, [1.5, 0.12]), (LOG_LINEAR, [0.9, 0.03])], ids=["power", "log"]
)
def test_intervals_cover_the_truth_about_as_often_as_they_say(
    form: Form, theta: list[float]
) -> None:
    rng = np.random.default_rng(2)
    truth = 1.0 - form(IMAGES, np.array(theta))
    ahead = float(1.0 - form(np.array([3.5e7]), np.array(theta))[0])
    hits = {name: 0 for name in (*form.parameters, "forecast")}
    runs = 70
    for _ in range(runs):
        values = truth + rng.normal(0, 0.01, 5)
        found = bootstrap(form, IMAGES, values + rng.normal(0, 0.01, (200, 5)), values)
        for name, known in zip(form.parameters, theta, strict=True):
            span = found.parameters()[name]
            hits[name] += span.low <= known <= span.high
        span = found.forecast(3.5e7).value
        hits["forecast"] += span.low <= ahead <= span.high
    # 95 % nominal; the bounds are 3 standard errors of 70 coin tosses below 0.95.
    for name, count in hits.items():
        assert 0.86 <= count / runs <= 1.0, name


def test_a_law_is_refitted_to_every_draw_of_its_points() -> None:
    found = law(POWER_LAW, [1.5, 0.12])
    span = found.parameters()["exponent"]
    assert span.low < 0.12 < span.high
    assert found.theta.shape == (300, 2)
    value, low, high = found.band(IMAGES)
    assert (low < value).all()
    assert (value < high).all()


def beaten(
    open_weights: float, level: float = 0.9, slope: float = 0.03
) -> tuple[float | None, str | None, float]:
    found = law(LOG_LINEAR, [level, slope])
    draws = open_weights + np.random.default_rng(4).normal(0, 0.001, 300)
    crossing = found.images_to_beat(open_weights, draws)
    return crossing.images, crossing.words, crossing.inside


def test_the_images_to_beat_the_open_weights_are_where_the_law_crosses_them() -> None:
    target = 0.1 + 0.03 * np.log(2e5)
    images, words, inside = beaten(float(target))
    assert images == pytest.approx(2e5, rel=1e-6)
    assert words is None
    assert inside == 1.0


def test_a_crossing_outside_the_data_is_words_not_a_number() -> None:
    assert beaten(0.2)[:2] == (None, "already at the smallest scale")
    assert beaten(0.99)[:2] == (None, "never inside the data")
    assert beaten(0.5, level=0.5, slope=-0.01)[:2] == (None, "never inside the data")


def test_a_crossing_interval_holds_the_crossing() -> None:
    found = law(LOG_LINEAR, [0.9, 0.03])
    target = float(0.1 + 0.03 * np.log(2e5))
    crossing = found.images_to_beat(target, target + np.random.default_rng(5).normal(0, 0.003, 300))
    assert crossing.low is not None
    assert crossing.high is not None
    assert crossing.low < 2e5 < crossing.high


def test_an_anchored_law_is_not_asked_when_it_beats_its_anchor() -> None:
    values = 1.0 - ANCHORED(IMAGES, np.array([0.15, 8e4, 0.4, 0.45]))
    draws = np.tile(values, (10, 1))
    found = bootstrap(ANCHORED, IMAGES, draws, values, anchor=0.55, anchor_draws=np.full(10, 0.55))
    with pytest.raises(SpecError, match="anchored"):
        found.images_to_beat(0.55, np.full(10, 0.55))


def test_forecasts_warn_beyond_the_data_and_more_beyond_a_decade() -> None:
    found = law(LOG_LINEAR, [0.9, 0.03])
    assert found.forecast(1e6).warning is None
    assert found.forecast(3.5e7).warning == BEYOND_THE_DATA
    assert found.forecast(4e7).warning == BEYOND_A_DECADE
    far = found.forecast(1e16).warning
    assert far is not None
    assert far.startswith(OUTSIDE_THE_RANGE)


def test_a_doubling_buys_what_the_law_says() -> None:
    gain = law(LOG_LINEAR, [0.9, 0.03]).gain_per_doubling()
    assert gain.value == pytest.approx(0.03 * np.log(2))
    assert gain.low < gain.value < gain.high


def test_a_crossover_is_found_where_two_laws_meet() -> None:
    slow = law(LOG_LINEAR, [0.6, 0.01])
    fast = law(LOG_LINEAR, [0.6 + 0.02 * np.log(3e5), 0.03], seed=2)
    where = crossover(slow, fast)
    assert where.images == pytest.approx(3e5, rel=1e-4)
    assert where.low is not None
    assert where.high is not None
    assert where.low <= 3e5 <= where.high
    assert where.share == 1.0
    above = crossover(law(LOG_LINEAR, [0.5, 0.01]), law(LOG_LINEAR, [0.7, 0.01]))
    assert above.images is None


def test_one_seed_leaves_the_patient_draws_alone() -> None:
    draws = np.random.default_rng(6).normal(0.5, 0.01, (1, 100))
    rng = np.random.default_rng(0)
    assert seed_noise([np.array([0.5]), np.array([0.6])]) is None
    assert (mix_seeds(draws, None, rng, rng) == draws[0]).all()


def test_seeds_and_patients_both_widen_the_draws_of_a_mean() -> None:
    rng = np.random.default_rng(7)
    draws = 0.5 + rng.normal(0, 0.004, (3, 40_000)).mean(axis=0) + np.zeros((3, 1))
    noise = SeedNoise(variance=0.02**2, degrees=10)
    mixed = mix_seeds(draws, noise, np.random.default_rng(0), np.random.default_rng(1))
    # A t of 10 degrees of freedom has the variance 10 / 8.
    assert mixed.var() == pytest.approx(0.004**2 / 3 + 0.02**2 / 3 * 10 / 8, rel=0.05)


def test_the_seed_noise_is_pooled_over_scales_of_different_length() -> None:
    found = seed_noise([np.array([0.1, 0.3]), np.array([0.9]), np.array([0.5, 0.6, 0.7])])
    # By hand: squares 0.02 + 0.02 over 1 + 2 degrees of freedom.
    assert found is not None
    assert (found.variance, found.degrees) == (pytest.approx(0.04 / 3), 3)


def test_the_noise_that_draws_hold_already_is_not_counted_twice() -> None:
    rng = np.random.default_rng(9)
    scores = [0.5 + rng.normal(0, 0.005, 3) for _ in range(400)]
    draws: list[FloatArray] = [s[:, None] + rng.normal(0, 0.003, (3, 200)) for s in scores]
    noise = seed_noise(scores, draws)
    assert noise is not None
    assert noise.held == pytest.approx(0.003**2, rel=0.02)
    assert noise.training == pytest.approx(0.004**2, rel=0.1)
    quiet = SeedNoise(0.001**2, 10, held=0.003**2)
    assert quiet.training == 0.0
    mixed = mix_seeds(draws[0], quiet, np.random.default_rng(0), np.random.default_rng(1))
    assert (mixed == draws[0].mean(axis=0)).mean() > 0.99


def test_an_interval_of_few_draws_holds_95_percent_of_what_they_are_drawn_from() -> None:
    rng = np.random.default_rng(10)
    held = []
    for draws in rng.uniform(size=(4000, 100)):
        span = interval(0.5, draws)
        held.append(span.high - span.low)
    assert np.mean(held) == pytest.approx(0.95, abs=0.002)


def test_the_two_layers_of_noise_are_told_apart() -> None:
    rng = np.random.default_rng(8)
    scores = [rng.normal(0.5, 0.02, 3) for _ in range(200)]
    draws: list[FloatArray] = [s[:, None] + rng.normal(0, 0.005, 400)[None] for s in scores]
    parts = variance(scores, draws)
    assert parts.sampling == pytest.approx(0.005**2, rel=0.1)
    assert parts.seeds == pytest.approx(0.02**2 / 3, rel=0.3)
    assert variance([np.array([0.5])], [draws[0][:1]]).seeds is None


def test_draws_that_do_not_fit_the_points_are_refused() -> None:
    values = 1.0 - LOG_LINEAR(IMAGES, np.array([0.9, 0.03]))
    good = np.tile(values, (10, 1))
    for draws, words in (
        (good[:, :4], "do not fit"),
        (np.where(good > 0.5, np.nan, good), "NaN"),
    ):
        with pytest.raises(SpecError, match=words):
            bootstrap(LOG_LINEAR, IMAGES, draws, values)
    with pytest.raises(SpecError, match="distinct and rising"):
        bootstrap(LOG_LINEAR, IMAGES[[0, 0, 1, 2, 3]], good, values)
