import time

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from radsweep.tasks.ranking import ranking_areas
from radsweep.tasks.resample import (
    interval,
    macro,
    patient_weights,
    shared_people,
    weighted_means,
    weighted_medians,
)


def _patients(count: int, images: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array([f"p{i}" for i in generator.integers(0, count, images)])


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_areas_equal_scikit_learn_s(levels: int) -> None:
    generator = np.random.default_rng(1)
    scores = generator.integers(0, levels, 400).astype(np.float32)
    positive = generator.random(400) < 0.3
    weights = np.ones((1, 400), dtype=np.uint16)
    auroc, auprc = ranking_areas(scores, positive, weights)
    assert auroc[0] == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert auprc[0] == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


# Its import warns of its own.
@pytest.mark.filterwarnings("ignore")
def test_areas_of_tied_scores_equal_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    generator = np.random.default_rng(1)
    positive = generator.random(400) < 0.2
    scores = np.round((positive + generator.normal(size=400)) * 2).astype(np.float32) / 2
    weights = patient_weights(np.arange(400).astype(np.str_), 5, seed=0)
    auroc, auprc = ranking_areas(scores, positive, weights)
    for row, times in enumerate(weights):
        drawn = np.repeat(np.arange(400), times)
        # It squashes what is not in [0, 1], which keeps the order.
        pair = torch.from_numpy(scores[drawn]), torch.from_numpy(positive[drawn].astype(np.int64))
        assert auroc[row] == pytest.approx(float(metrics.binary_auroc(*pair)), abs=1e-5)
        assert auprc[row] == pytest.approx(float(metrics.binary_average_precision(*pair)), abs=1e-5)


def test_every_resample_equals_a_slow_loop_over_repeated_images() -> None:
    generator = np.random.default_rng(2)
    patients = _patients(40, 120)
    scores = generator.integers(0, 20, 120).astype(np.float64)
    positive = generator.random(120) < 0.4
    weights = patient_weights(patients, 25, seed=7)
    auroc, auprc = ranking_areas(scores, positive, weights)
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(120), counts)
        assert auroc[draw] == pytest.approx(roc_auc_score(positive[rows], scores[rows]), abs=1e-12)
        assert auprc[draw] == pytest.approx(
            average_precision_score(positive[rows], scores[rows]), abs=1e-12
        )


def test_a_resample_draws_whole_patients_and_as_many_as_there_are() -> None:
    patients = _patients(30, 90)
    weights = patient_weights(patients, 50, seed=3)
    names, first, images = np.unique(patients, return_index=True, return_counts=True)
    for counts in weights[1:]:
        assert counts[first].sum() == len(names)
        for name, place in zip(names, first, strict=True):
            assert (counts[patients == name] == counts[place]).all()
        assert counts.sum() == (counts[first] * images).sum()


def test_the_first_row_is_the_data_and_the_rest_depends_on_patients_and_seed_alone() -> None:
    patients = _patients(30, 90)
    weights = patient_weights(patients, 20, seed=3)
    assert (weights[0] == 1).all()
    assert (weights == patient_weights(patients, 20, seed=3)).all()
    assert not (weights == patient_weights(patients, 20, seed=4)).all()
    # Another order of the images is the same resamples of the same patients.
    order = np.random.default_rng(0).permutation(90)
    assert (weights[:, order] == patient_weights(patients[order], 20, seed=3)).all()


def test_intervals_of_patients_are_wider_than_intervals_of_images_when_patients_repeat() -> None:
    generator = np.random.default_rng(5)
    effect = np.repeat(generator.normal(size=40), 10)
    patients = np.repeat([f"p{i:02d}" for i in range(40)], 10)
    alone = np.array([f"i{i:03d}" for i in range(400)])
    spreads = []
    for units in (patients, alone):
        draws = weighted_means(patient_weights(units, 400, seed=1), effect[:, None])[1:, 0]
        low, high = interval(draws, len(np.unique(units))) or (0.0, 0.0)
        spreads.append(high - low)
    assert spreads[0] > 2 * spreads[1]


def test_a_resample_without_positives_is_undefined_and_leaves_the_others_alone() -> None:
    weights = np.array([[1, 1, 1], [0, 1, 2]], dtype=np.uint16)
    auroc, auprc = ranking_areas(np.array([3.0, 2.0, 1.0]), np.array([True, False, False]), weights)
    assert auroc[0] == 1.0 and auprc[0] == 1.0
    assert np.isnan(auroc[1]) and np.isnan(auprc[1])
    assert macro([auroc, np.array([0.5, 0.25])]).tolist() == [0.75, 0.25]
    assert interval(auroc[1:], 1) is None


def test_a_mean_rests_on_the_harmonic_mean_of_its_labels_patients_and_on_none_of_nobody_s() -> None:
    assert shared_people([10, 40]) == pytest.approx(2 / (1 / 10 + 1 / 40))
    assert shared_people([7, 0, 7.0]) == pytest.approx(7)
    assert shared_people([0]) == 0 == shared_people([])


def test_medians_are_those_of_the_repeated_rows() -> None:
    values = np.random.default_rng(3).integers(1, 9, (61, 2)) / 2
    weights = patient_weights(_patients(20, 61), 30, seed=1)
    found = weighted_medians(weights, values)
    for counts, medians in zip(weights, found, strict=True):
        assert medians.tolist() == np.median(np.repeat(values, counts, axis=0), axis=0).tolist()


def test_differences_between_encoders_pair_and_so_are_far_less_noisy() -> None:
    generator = np.random.default_rng(6)
    patients = _patients(150, 300)
    positive = generator.random(300) < 0.5
    one = positive + generator.normal(size=300)
    other = one + 0.1 * generator.normal(size=300)
    weights = patient_weights(patients, 300, seed=1)
    unpaired = patient_weights(patients, 300, seed=2)
    a, b = ranking_areas(one, positive, weights)[0], ranking_areas(other, positive, weights)[0]
    c = ranking_areas(other, positive, unpaired)[0]
    assert (a - b)[1:].std() < 0.3 * (a - c)[1:].std()


def test_fourteen_labels_a_thousand_images_and_a_thousand_resamples_take_under_two_seconds() -> (
    None
):
    generator = np.random.default_rng(0)
    weights = patient_weights(_patients(500, 1000), 1000, seed=0)
    scores = generator.normal(size=(1000, 14))
    positive = generator.random((1000, 14)) < 0.2
    started = time.process_time()
    for label in range(14):
        ranking_areas(scores[:, label], positive[:, label], weights)
    assert time.process_time() - started < 2
