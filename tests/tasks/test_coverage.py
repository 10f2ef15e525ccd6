"""Intervals against known truths: of 95% intervals, 95% must hold the truth, no more, no less."""

import numpy as np
import pytest
from scipy.stats import norm

from radsweep.tasks.ranking import ranking_areas
from radsweep.tasks.resample import interval, patient_weights, weighted_means

SHIFT = 1.2
"""Of the scores of images that have the label, in deviations."""
PREVALENCE = 0.3


def _true_auprc(shift: float) -> float:
    """Average precision of an endless test set: the integral of precision over recall."""
    thresholds = np.linspace(8.0 + shift, -8.0, 200_001)
    true, false = norm.sf(thresholds - shift), norm.sf(thresholds)
    precision = PREVALENCE * true / (PREVALENCE * true + (1 - PREVALENCE) * false + 1e-300)
    return float(np.trapezoid(precision, true))


def _hospital(
    generator: np.random.Generator, patients: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients of one to three images, labels, and scores that share half their variance."""
    images = generator.integers(1, 4, patients)
    person = np.repeat(np.arange(patients), images)
    positive = generator.random(len(person)) < PREVALENCE
    shared = generator.normal(size=patients)[person]
    noise = (shared + generator.normal(size=len(person))) / np.sqrt(2)
    return person.astype(np.str_), positive, noise


def _coverage(repeats: int, patients: int, draws: int) -> dict[str, float]:
    """Share of intervals that hold the truth: two areas, a mean, and a paired difference."""
    generator = np.random.default_rng(20)
    truth = {
        "auroc": float(norm.cdf(SHIFT / np.sqrt(2))),
        "auprc": _true_auprc(SHIFT),
        "mean": 0.0,
        "difference": float(norm.cdf(SHIFT / np.sqrt(2)) - norm.cdf(0.8 * SHIFT / np.sqrt(2))),
    }
    held = dict.fromkeys(truth, 0)
    for repeat in range(repeats):
        person, positive, noise = _hospital(generator, patients)
        other_noise = 0.8 * noise + 0.6 * generator.normal(size=len(noise))
        weights = patient_weights(person, draws, seed=repeat)
        auroc, auprc = ranking_areas(SHIFT * positive + noise, positive, weights)
        other, _ = ranking_areas(0.8 * SHIFT * positive + other_noise, positive, weights)
        found = {
            "auroc": auroc,
            "auprc": auprc,
            "mean": weighted_means(weights, noise[:, None])[:, 0],
            "difference": auroc - other,
        }
        for name, values in found.items():
            bounds = interval(values[1:])
            assert bounds is not None
            held[name] += bounds[0] <= truth[name] <= bounds[1]
    return {name: count / repeats for name, count in held.items()}


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    coverage = _coverage(repeats=300, patients=150, draws=200)
    # 300 repeats leave a standard error of 1.3 points; the long form below is the sharp one.
    assert all(0.91 <= share <= 0.99 for share in coverage.values()), coverage


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_hold_the_truth_between_93_and_97_times_in_100() -> None:
    coverage = _coverage(repeats=2000, patients=300, draws=500)
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage


def test_intervals_of_single_images_hold_it_far_too_rarely_where_patients_repeat() -> None:
    """What the clusters are for: the same data resampled image by image is too sure of itself."""
    generator = np.random.default_rng(3)
    held = 0
    for repeat in range(200):
        effect = np.repeat(generator.normal(size=40), 10)
        alone = np.arange(400).astype(np.str_)
        draws = weighted_means(patient_weights(alone, 200, seed=repeat), effect[:, None])[1:, 0]
        low, high = interval(draws) or (0.0, 0.0)
        held += low <= 0 <= high
    assert held / 200 < 0.7
