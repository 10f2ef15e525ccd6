"""Intervals against known truths: of 95% intervals, 95% must hold the truth, no more, no less."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm, t

from radsweep.evaluate.compare import differences
from radsweep.tasks.base import MACRO, Examples, Measurement, TaskData
from radsweep.tasks.labels import measure_labels
from radsweep.tasks.resample import interval, patient_weights, weighted_means

SHIFT, OTHER_SHIFT = 1.2, 0.96
"""Of the scores of images that have a label, in deviations: of an encoder and of a worse one."""
PREVALENCES = {"rare": 0.1, "common": 0.3}
MEANS = (("auroc", MACRO), ("auprc", MACRO))


def _true_auroc(shift: float) -> float:
    """Binormal scores of unit variance (Hanley and McNeil 1982)."""
    return float(norm.cdf(shift / np.sqrt(2)))


def _true_auprc(shift: float, prevalence: float) -> float:
    """Average precision of an endless test set: the integral of precision over recall."""
    thresholds = np.linspace(8.0 + shift, -8.0, 200_001)
    true, false = norm.sf(thresholds - shift), norm.sf(thresholds)
    precision = prevalence * true / (prevalence * true + (1 - prevalence) * false + 1e-300)
    return float(np.trapezoid(precision, true))


def _truth() -> dict[tuple[str, str], float]:
    found = {("auroc", name): _true_auroc(SHIFT) for name in (*PREVALENCES, MACRO)}
    auprc = {name: _true_auprc(SHIFT, share) for name, share in PREVALENCES.items()}
    found |= {("auprc", name): value for name, value in auprc.items()}
    found["auprc", MACRO] = float(np.mean(list(auprc.values())))
    apart = _true_auroc(SHIFT) - _true_auroc(OTHER_SHIFT)
    found |= {("difference of auroc", name): apart for name in (*PREVALENCES, MACRO)}
    less = [_true_auprc(OTHER_SHIFT, share) for share in PREVALENCES.values()]
    found["difference of auprc", MACRO] = found["auprc", MACRO] - float(np.mean(less))
    return found | {("mean", "all"): 0.0}


def _hospital(generator: np.random.Generator, patients: int) -> tuple[TaskData, np.ndarray]:
    """Patients of one to three images who have a label or not, and noise of unit variance.

    Half of the noise's variance is shared by a patient's images.
    """
    person = np.repeat(np.arange(patients), generator.integers(1, 4, patients))
    has = generator.random((patients, len(PREVALENCES))) < list(PREVALENCES.values())
    test = Examples(
        rows=np.arange(len(person)),
        image_ids=[str(image) for image in range(len(person))],
        patients=person.astype(np.str_),
        targets=has[person].astype(np.float32),
    )
    data = TaskData(labels=tuple(PREVALENCES), train=test, val=test, test=test, left_out={})
    shared = generator.normal(size=patients)[person][:, None]
    return data, (shared + generator.normal(size=has[person].shape)) / np.sqrt(2)


def _measured(
    data: TaskData, noise: np.ndarray, shift: float, weights: np.ndarray
) -> dict[tuple[str, str], Measurement]:
    scores = shift * np.asarray(data.test.targets) + noise
    return {(one.metric, one.label): one for one in measure_labels(data, scores, weights)}


def _coverage(hospitals: int, patients: int, draws: int) -> dict[tuple[str, str], float]:
    """Share of simulated test sets whose interval holds the truth."""
    generator = np.random.default_rng(20)
    truth = _truth()
    held = dict.fromkeys(truth, 0)
    for hospital in range(hospitals):
        data, noise = _hospital(generator, patients)
        weights = patient_weights(data.test.patients, draws, seed=hospital)
        one = _measured(data, noise, SHIFT, weights)
        noise_of_other = 0.8 * noise + 0.6 * generator.normal(size=noise.shape)
        other = _measured(data, noise_of_other, OTHER_SHIFT, weights)
        bounds = {name: row.interval() for name, row in one.items()}
        for metric, label in (*(("auroc", label) for label in PREVALENCES), *MEANS):
            pair = {"one": one[metric, label], "other": other[metric, label]}
            row = differences(pair)[0]
            bounds[f"difference of {metric}", label] = row["ci_low"], row["ci_high"]
        mean = weighted_means(weights, noise[:, :1])[1:, 0]
        bounds["mean", "all"] = interval(mean, patients)
        for name, value in truth.items():
            low, high = bounds[name] or (np.nan, np.nan)
            held[name] += low <= value <= high
    return {name: count / hospitals for name, count in held.items()}


def test_intervals_hold_the_truth_between_93_and_97_times_in_100() -> None:
    # 2,000 hospitals leave a standard error of 0.5 points.
    coverage = _coverage(hospitals=2000, patients=150, draws=199)
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("patients", [300, 600])
def test_they_do_in_larger_test_sets(patients: int) -> None:
    coverage = _coverage(hospitals=2000, patients=patients, draws=399)
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage


@pytest.mark.slow
@pytest.mark.parametrize("patients", [75, 100])
def test_where_ten_patients_or_fewer_have_a_label_they_are_rather_too_wide(patients: int) -> None:
    coverage = _coverage(hospitals=2000, patients=patients, draws=199)
    assert all(0.93 <= share <= 0.98 for share in coverage.values()), coverage


@pytest.mark.slow
@pytest.mark.parametrize("labels", [4, 8])
def test_the_interval_of_a_mean_auprc_of_rare_labels_makes_up_for_its_bias(labels: int) -> None:
    """Of labels of 15 patients; unmoved, it held the truth 93 and 86 times in 100."""
    generator = np.random.default_rng(1)
    truth, held = _true_auprc(SHIFT, 0.05), {True: 0, False: 0}
    for hospital in range(1000):
        person = np.repeat(np.arange(300), generator.integers(1, 4, 300))
        has = (generator.random((300, labels)) < 0.05)[person]
        shared = generator.normal(size=300)[person][:, None]
        noise = (shared + generator.normal(size=has.shape)) / np.sqrt(2)
        people = person.astype(np.str_)
        test = Examples(
            rows=np.arange(len(person)),
            image_ids=[str(image) for image in range(len(person))],
            patients=people,
            targets=has.astype(np.float32),
        )
        names = tuple(str(label) for label in range(labels))
        data = TaskData(labels=names, train=test, val=test, test=test, left_out={})
        weights = patient_weights(people, 199, seed=hospital)
        row = _measured(data, noise, SHIFT, weights)["auprc", MACRO]
        for moved in (True, False):
            bounds = dataclasses.replace(row, is_biased=moved).interval() or (np.nan, np.nan)
            held[moved] += bounds[0] <= truth <= bounds[1]
    assert held[False] < held[True]
    assert 0.93 <= held[True] / 1000 <= 0.97, held


def test_an_interval_is_moved_by_twice_what_resamples_are_off_and_keeps_its_number() -> None:
    def moved(off: float, spread: float) -> tuple[tuple[float, float], tuple[float, float]]:
        draws = 0.3 + off + spread * np.linspace(-1, 1, 1001)
        one = Measurement(
            label=MACRO,
            metric="auprc",
            values=np.array([0.3, *draws, np.nan]),
            positives=None,
            patients=30,
        )
        plain = one.interval()
        bounds = dataclasses.replace(one, is_biased=True).interval()
        assert plain is not None and bounds is not None
        return plain, bounds

    plain, bounds = moved(0.04, 0.1)
    assert bounds == pytest.approx([bound - 0.08 for bound in plain])
    _, (low, high) = moved(0.25, 0.1)
    assert low == 0 and high == 0.3


def test_intervals_are_no_narrower_where_few_resamples_were_drawn() -> None:
    """Of 100 resamples as of 10,000: on average they hold as much of what is drawn from."""
    generator = np.random.default_rng(4)
    few = [interval(generator.normal(size=100), 1e6) or (0.0, 0.0) for _ in range(4000)]
    held = [norm.cdf(high) - norm.cdf(low) for low, high in few]
    assert np.mean(held) == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize("patients", [5, 20, 100])
def test_the_interval_of_a_mean_of_few_patients_is_student_s(patients: int) -> None:
    values = np.random.default_rng(patients).normal(size=patients)
    weights = patient_weights(np.arange(patients).astype(np.str_), 40_000, seed=0)
    low, high = interval(weighted_means(weights, values[:, None])[1:, 0], patients) or (0.0, 0.0)
    error = values.std(ddof=1) / np.sqrt(patients)
    expected = t.interval(0.95, patients - 1, loc=values.mean(), scale=error)
    # The bootstrap's tails of five values are not normal; its width is Student's within a sixth.
    assert high - low == pytest.approx(
        expected[1] - expected[0], rel=1 / 6 if patients < 10 else 0.05
    )


def test_intervals_of_single_images_hold_it_far_too_rarely_where_patients_repeat() -> None:
    """What the clusters are for: the same data resampled image by image is too sure of itself."""
    generator = np.random.default_rng(3)
    held = 0
    for repeat in range(200):
        effect = np.repeat(generator.normal(size=40), 10)
        alone = np.arange(400).astype(np.str_)
        draws = weighted_means(patient_weights(alone, 200, seed=repeat), effect[:, None])[1:, 0]
        low, high = interval(draws, 400) or (0.0, 0.0)
        held += low <= 0 <= high
    assert held / 200 < 0.7
