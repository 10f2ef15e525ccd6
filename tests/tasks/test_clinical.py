import importlib.util

import numpy as np
import pytest

from radsweep.errors import SpecError
from radsweep.tasks.clinical import KNOWN, ChexbertF1, RadGraphF1, find_metric, measure_reports

TOY = "tests.tasks.toy_metric"
WEIGHTS = np.array([[1, 1, 1], [2, 0, 1]], dtype=np.uint16)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_metric_whose_package_is_not_installed_says_so_and_what_to_do(name: str) -> None:
    if any(importlib.util.find_spec(package) for package in KNOWN[name].needs):
        pytest.skip("its package is installed here")
    with pytest.raises(SpecError, match=rf"{name} needs the package .*`pip install "):
        find_metric(name)


def test_an_unknown_metric_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(SpecError, match="did you mean 'radgraph_f1'"):
        find_metric("radgraph")
    with pytest.raises(SpecError, match="is its package installed"):
        find_metric("nowhere.to_be_found")
    with pytest.raises(SpecError, match="has no METRIC"):
        find_metric("tests.tasks.test_clinical")


def test_a_metric_of_one_s_own_is_found_by_its_module_s_name_and_resampled() -> None:
    reports = ["a b", "c d", "e f"], ["a x", "c d", "x y"]
    patients = np.array(["p", "q", "p"])
    (one,), judged = measure_reports(find_metric(TOY), *reports, patients, WEIGHTS)
    assert judged == 3
    assert (one.metric, one.label, one.positives) == ("word_recall", "all", None)
    assert one.patients == 2
    assert one.values.tolist() == [0.5, pytest.approx(1 / 3)]


def test_radgraph_is_a_mean_of_rewards_and_chexbert_an_f1_of_sums() -> None:
    rewards = np.array([[0.0], [0.5], [1.0]])
    assert RadGraphF1().summary(rewards, WEIGHTS)["radgraph_f1"].tolist() == [
        0.5,
        pytest.approx(1 / 3),
    ]
    outcomes = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    found = ChexbertF1().summary(outcomes, WEIGHTS)["chexbert_f1"]
    assert found.tolist() == [pytest.approx(2 * 3 / (2 * 3 + 1 + 1)), pytest.approx(8 / 10)]
    nothing = ChexbertF1().summary(np.zeros((3, 3)), WEIGHTS)
    assert np.isnan(nothing["chexbert_f1"]).all()
