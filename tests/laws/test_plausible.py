"""Forms are weighed by what the noise allows, and the draws of those that stand are mixed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2, kstest

from radsweep.laws.bootstrap import BEYOND_THE_DATA
from radsweep.laws.fit import fit
from radsweep.laws.forms import (
    ANCHORED,
    FORMS,
    LOG_LINEAR,
    POWER_LAW,
    POWER_LAW_WITH_FLOOR,
    FloatArray,
    Form,
)
from radsweep.laws.plausible import (
    Candidate,
    Scores,
    candidates,
    deviance,
    mixed,
    scatter,
    standing,
    weights,
)

IMAGES = np.array([3e4, 5e4, 1e5, 1e6, 3.5e6])
SHARED, OWN = 0.008, 0.003
KNOWN = {
    POWER_LAW: (1.5, 0.12),
    POWER_LAW_WITH_FLOOR: (0.2, 5.0, 0.3),
    LOG_LINEAR: (0.9, 0.03),
    ANCHORED: (0.15, 8e4, 0.4, 0.45),
}


def noise(rng: np.random.Generator, rows: int) -> FloatArray:
    """[rows, 6]: of five scales and the open weights."""
    return rng.normal(0, SHARED, (rows, 1)) + rng.normal(0, OWN, (rows, 6))


def seen(form: Form, rng: np.random.Generator, draws: int = 400) -> Scores:
    theta = np.array(KNOWN[form])
    start = theta[-1] if form.is_anchored else 0.5
    truth = 1.0 - np.append(form(IMAGES, theta), start)
    values = truth + noise(rng, 1)[0]
    columns = values + noise(rng, draws)
    return Scores(IMAGES, values[:5], columns[:, :5], float(values[5]), columns[:, 5])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_deviance_is_that_of_a_general_minimiser(form: Form) -> None:
    scores = seen(form, np.random.default_rng(1))
    law = fit(form, IMAGES, scores.values, anchor=scores.anchor)
    columns, errors = 1.0 - scores.draws, 1.0 - scores.values
    if form.is_anchored:
        assert scores.anchor is not None
        assert scores.anchor_draws is not None
        columns = np.column_stack([columns, 1.0 - scores.anchor_draws])
        errors = np.append(errors, 1.0 - scores.anchor)
    inverse = np.linalg.inv(np.cov(columns, rowvar=False))

    def misfit(scaled: FloatArray) -> float:
        theta = scaled * law.vector()
        gap = errors - (
            np.append(form(IMAGES, theta), theta[-1]) if form.is_anchored else form(IMAGES, theta)
        )
        return float(gap @ inverse @ gap)

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-10, "fatol": 1e-10}
    slow = minimize(misfit, np.ones(len(law.theta)), method="Nelder-Mead", options=options).fun
    # One Gauss-Newton step is short of the end by the curvature of the law.
    assert deviance(law, scores) == pytest.approx(slow, abs=0.05)


def test_the_deviance_of_the_true_form_is_chi_square_however_large_the_shared_noise() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        scores = seen(POWER_LAW, rng)
        found.append(deviance(fit(POWER_LAW, IMAGES, scores.values), scores))
    assert kstest(found, chi2(3).cdf).pvalue > 0.01


def test_a_form_that_its_own_scores_refute_is_out_however_well_it_predicts() -> None:
    scores = seen(POWER_LAW_WITH_FLOOR, np.random.default_rng(3))
    found = candidates(FORMS, scores)
    named = {one.fit.form: one for one in found}
    assert not named[LOG_LINEAR].is_near
    lucky = replace(named[LOG_LINEAR], left_out_error=1.0)
    kept = standing([*(one for one in found if one.fit.form is not LOG_LINEAR), lucky])
    assert kept[0].fit.form is POWER_LAW_WITH_FLOOR
    assert LOG_LINEAR not in [one.fit.form for one in kept]
    assert standing([lucky]) == [lucky]


def test_a_form_that_misses_the_largest_scale_by_far_is_out() -> None:
    scores = seen(POWER_LAW, np.random.default_rng(4))
    law = fit(POWER_LAW, IMAGES, scores.values)
    near = Candidate(law, 1.0, 3, left_out_error=law.leave_largest_out)
    assert law.leave_largest_out is not None
    poor = fit(LOG_LINEAR, IMAGES, [0.50, 0.51, 0.52, 0.53, 0.70])
    assert poor.leave_largest_out is not None
    assert poor.leave_largest_out > 0.05
    far = Candidate(poor, 0.5, 3, left_out_error=0.01)
    unsure = Candidate(poor, 0.5, 3, left_out_error=0.1)
    assert standing([near, far]) == [near]
    assert standing([near, unsure]) == [unsure, near]


def test_draws_follow_the_forms_in_proportion_to_their_weights() -> None:
    scores = seen(POWER_LAW, np.random.default_rng(5), draws=1000)
    found = candidates(FORMS, scores)
    kept = standing(found)
    assert len(kept) > 1
    law = mixed(found, scores)
    assert law.fit == kept[0].fit
    shares = dict(zip((one.fit.form.name for one in kept), weights(kept), strict=True))
    for name, share in law.weights().items():
        assert share == pytest.approx(shares[name], abs=0.01)
    assert sum(law.weights().values()) == pytest.approx(1.0)
    # A wider interval than that of the chosen form alone, ahead; much the same inside the data.
    alone = mixed(kept[:1], scores)
    wide, narrow = law.forecast(3.5e7), alone.forecast(3.5e7)
    assert wide.warning == BEYOND_THE_DATA
    assert wide.value.value == narrow.value.value
    assert wide.value.high - wide.value.low > narrow.value.high - narrow.value.low
    inside = [one.forecast(2e5).value for one in (law, alone)]
    assert inside[0].high - inside[0].low == pytest.approx(inside[1].high - inside[1].low, rel=0.15)
    # Every quantity is read from the form that a draw follows.
    rival = law.rivals[0]
    needed = law.images_for(float(law.fit.predict(np.array([2e6]))[0]))
    assert needed.low is not None
    assert needed.low < 2e6
    row = int(rival.rows[0])
    ahead = 1.0 - rival.form(np.array([3.5e7]), rival.theta[:1])[0, 0]
    assert law._values(np.array([3.5e7]))[row, 0] == pytest.approx(ahead)


def test_scatter_about_a_law_tells_the_noise_of_training_again() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(60):
        scores = seen(POWER_LAW, rng)
        moved = scores.values + rng.normal(0, 0.004, 5)
        scores = Scores(IMAGES, moved, scores.draws - scores.values + moved)
        noise_of = scatter(candidates((POWER_LAW,), scores), scores.draws)
        assert noise_of is not None
        assert noise_of.degrees == 3
        assert noise_of.held == pytest.approx(OWN**2, rel=0.3)
        found.append(noise_of.variance)
    assert np.mean(found) == pytest.approx(OWN**2 + 0.004**2, rel=0.25)
    few = Scores(IMAGES[:3], scores.values[:3], scores.draws[:, :3])
    assert scatter(candidates((POWER_LAW,), few), few.draws) is None
