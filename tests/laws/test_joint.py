"""The joint law comes out with the parameters it was made of, published ones among them."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from radsweep.errors import SpecError
from radsweep.laws.forms import FloatArray
from radsweep.laws.joint import HUBER_DELTA, PARAMETERS, fit_joint
from radsweep.laws.table import fit_joint_table

# Hoffmann et al. 2022 (appendix D.3) and Besiroglu et al. 2024 (table 1).
PUBLISHED = {
    "Hoffmann": (1.69, 406.4, 410.7, 0.34, 0.28),
    "Besiroglu": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
}
SIZES, TOKENS = (
    column.ravel() for column in np.meshgrid(np.geomspace(4e7, 1e10, 8), np.geomspace(1e9, 3e11, 8))
)


def losses(
    truth: tuple[float, ...], size: FloatArray = SIZES, data: FloatArray = TOKENS
) -> FloatArray:
    return truth[0] + truth[1] * size ** -truth[3] + truth[2] * data ** -truth[4]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_table_made_from_published_parameters_gives_them_back(name: str) -> None:
    table = pl.DataFrame({"n": SIZES, "d": TOKENS, "loss": losses(PUBLISHED[name])})
    (row,) = fit_joint_table(table, ["n", "d"], "loss", bootstraps=0).to_dicts()
    assert [row[p] for p in PARAMETERS] == pytest.approx(PUBLISHED[name], rel=1e-6)
    assert json.loads(row["theta"]) == {p: row[p] for p in PARAMETERS}
    assert row["leave_largest_out"] < 1e-9
    assert row["reads"] == "loss as a loss"


def test_a_table_printed_to_three_decimals_gives_nearly_the_published_parameters() -> None:
    truth = PUBLISHED["Hoffmann"]
    found = fit_joint(SIZES, TOKENS, np.round(losses(truth), 3))
    assert list(found.theta.values()) == pytest.approx(truth, rel=0.02)


def test_sizes_and_scores_of_another_magnitude_are_fitted_as_well() -> None:
    size, data = (c.ravel() for c in np.meshgrid([20.0, 86.0, 300.0, 1100.0], [3e1, 1e2, 1e3, 4e3]))
    truth = (0.12, 0.6, 0.9, 0.3, 0.45)
    table = pl.DataFrame({"m": size, "k": data, "auc": 1 - losses(truth, size, data)})
    (row,) = fit_joint_table(table, ["m", "k"], "auc", bootstraps=0).to_dicts()
    assert [row[p] for p in PARAMETERS] == pytest.approx(truth, rel=1e-4)
    assert row["reads"] == "1 - auc as a loss"


def test_no_general_minimiser_gets_lower_on_noisy_points() -> None:
    rng = np.random.default_rng(0)
    noisy = losses(PUBLISHED["Hoffmann"]) * np.exp(rng.normal(0, 0.01, len(SIZES)))
    found = fit_joint(SIZES, TOKENS, noisy, is_judged=False)
    logs = np.log(SIZES), np.log(TOKENS), np.log(noisy)

    def slow(p: FloatArray) -> float:
        law = np.log(np.exp(p[0]) + np.exp(p[1] - p[3] * logs[0]) + np.exp(p[2] - p[4] * logs[1]))
        far = np.abs(logs[2] - law)
        return float(
            np.where(far < HUBER_DELTA, far**2 / 2, HUBER_DELTA * (far - HUBER_DELTA / 2)).sum()
        )

    for e, a, b, exponent in ((0.5, 5, 5, 0.3), (0, 10, 10, 0.5), (0.6, 6, 7, 0.35)):
        start = np.array([e, a, b, exponent, exponent])
        run = minimize(slow, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000})
        assert found.objective <= run.fun * (1 + 1e-6)


def test_intervals_hold_the_truth_and_one_wild_point_moves_little() -> None:
    truth = PUBLISHED["Hoffmann"]
    noisy = losses(truth) * np.exp(np.random.default_rng(3).normal(0, 0.004, len(SIZES)))
    found = fit_joint(SIZES, TOKENS, noisy, bootstraps=200)
    for name, known in zip(PARAMETERS, truth, strict=True):
        assert found.intervals[name].low < known < found.intervals[name].high, name
    noisy[10] *= 3
    wild = fit_joint(SIZES, TOKENS, noisy, is_judged=False)
    assert wild.theta["alpha"] == pytest.approx(found.theta["alpha"], abs=0.02)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pl.DataFrame({"n": SIZES[:4], "d": TOKENS[:4], "y": [2.0, 3, 4, 5]}), "needs 6 points"),
        (
            pl.DataFrame({"n": [1e7] * 64, "d": TOKENS, "y": losses(PUBLISHED["Hoffmann"])}),
            "'n' takes",
        ),
        (pl.DataFrame({"n": SIZES, "d": TOKENS, "y": [2.0] * 64}), "identical"),
        (pl.DataFrame({"n": TOKENS, "d": TOKENS, "y": TOKENS**-0.3}), "rise together"),
        (
            pl.DataFrame({"n": SIZES, "d": TOKENS, "y": [float("nan")] * 64}),
            "needs 6 points, not 0",
        ),
    ],
    ids=["few", "one size", "flat", "collinear", "missing"],
)
def test_points_that_carry_no_joint_law_get_a_sentence(table: pl.DataFrame, words: str) -> None:
    (row,) = fit_joint_table(table, ["n", "d"], "y").to_dicts()
    assert (row["form"], row["chosen"], row["E"]) == ("no law", False, None)
    assert words in row["flags"]


def test_groups_and_their_errors_keep_their_names() -> None:
    one = pl.DataFrame({"n": SIZES, "d": TOKENS, "y": losses(PUBLISHED["Hoffmann"])})
    both = pl.concat([one.with_columns(arm=pl.lit(a)) for a in "ab"])
    assert fit_joint_table(both, ["n", "d"], "y", ["arm"], bootstraps=0)["arm"].to_list() == [
        "a",
        "b",
    ]
    with pytest.raises(SpecError, match=r"arm a: .*above 0"):
        fit_joint_table(both.with_columns(d=0.0), ["n", "d"], "y", ["arm"])
    with pytest.raises(SpecError, match="two different columns"):
        fit_joint_table(one, ["n"], "y")
