import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from radsweep.errors import SpecError
from radsweep.probes.base import Fitted, FrozenFeatures, Labelled, Probe
from radsweep.probes.few_shot import FewShot, few
from radsweep.probes.knn import Neighbours
from radsweep.probes.linear import Linear
from radsweep.probes.linear_mean import LinearMean
from radsweep.probes.linear_pooled import LinearPooled
from radsweep.probes.linear_projected import LinearProjected
from tests.probes import toy

CPU = torch.device("cpu")
PROBES = [Neighbours.build({}), FewShot.build({})]


def _fit(probe: Probe, leak: bool) -> Fitted:
    return probe.fit(toy.labels(200, leak, 1), toy.labels(60, leak, 2), {}, seed=5, device=CPU)


@pytest.mark.parametrize("probe", PROBES, ids=["knn", "few_shot"])
def test_it_finds_a_leaked_label_and_is_at_chance_on_noise(probe: Probe) -> None:
    areas = []
    for leak in (True, False):
        test = toy.labels(300, leak, 3)
        logits = _fit(probe, leak).predict(test.features)
        assert logits.dtype == np.float32 and np.isfinite(logits).all()
        known = np.isfinite(test.targets)
        areas.append(
            np.mean(
                [
                    roc_auc_score(test.targets[known[:, i], i], logits[known[:, i], i])
                    for i in range(3)
                ]
            )
        )
    assert areas[0] > 0.98
    assert 0.42 < areas[1] < 0.58


def test_neighbours_vote_as_a_slow_loop_counts_them() -> None:
    train, test = toy.labels(50, True, 1), toy.labels(12, True, 3)
    fitted = Neighbours.build({"neighbours": 7}).fit(train, train, {}, 0, CPU)
    found = fitted.predict(test.features)
    centre = train.features.pooled.mean(axis=0)
    prior = np.nanmean(train.targets, axis=0)
    for i, query in enumerate(test.features.pooled - centre):
        cosine = [
            float(query @ one / np.linalg.norm(query) / np.linalg.norm(one))
            for one in train.features.pooled - centre
        ]
        nearest = np.argsort(cosine)[::-1][:7]
        for label in range(3):
            positive, negative = prior[label], 1 - prior[label]
            for place in nearest:
                vote = np.exp((cosine[place] - cosine[nearest[0]]) / 0.07)
                positive += vote * (train.targets[place, label] == 1)
                negative += vote * (train.targets[place, label] == 0)
            assert found[i, label] == pytest.approx(np.log(positive / negative), abs=1e-3)


def test_a_neighbour_whose_label_is_not_known_does_not_vote_on_it() -> None:
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [0.0, -1.0]], np.float32)
    targets = np.array([[np.nan], [1.0], [0.0], [0.0]], np.float32)
    train = Labelled(features=FrozenFeatures(pooled=vectors, mean=vectors), targets=targets)
    fitted = Neighbours.build({"neighbours": 2}).fit(train, train, {}, 0, CPU)
    assert fitted.predict(train.features)[0, 0] > 0


def test_few_shows_so_many_of_each_value_and_the_same_ones_whatever_the_other_labels_are() -> None:
    targets = toy.labels(100, True, 1).targets
    shown = few(targets, 8, seed=3)
    for label in range(3):
        assert [(shown[:, label] == value).sum() for value in (0, 1)] == [8, 8]
    known = np.isfinite(shown)
    assert (shown[known] == targets[known]).all()
    assert not np.array_equal(np.isfinite(few(targets, 8, seed=4)), known)
    alone = few(targets[:, :1], 8, seed=3)
    assert np.array_equal(np.isfinite(alone[:, 0]), known[:, 0])
    assert np.isfinite(few(targets, 1000, seed=3)).sum() == np.isfinite(targets).sum()


def test_with_every_example_shown_few_shot_is_the_linear_probe() -> None:
    test = toy.labels(20, True, 3)
    every = _fit(FewShot.build({"examples": 1000}), True).predict(test.features)
    assert np.array_equal(every, _fit(Linear.build({}), True).predict(test.features))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Linear, ("pooled", "mean")),
        (LinearPooled, ("pooled",)),
        (LinearMean, ("mean",)),
        (LinearProjected, ("projected",)),
    ],
)
def test_each_linear_probe_is_the_regression_on_its_own_vectors(
    kind: type[Linear], named: tuple[str, ...]
) -> None:
    def split(images: int, seed: int) -> Labelled:
        one, other = toy.labels(images, True, seed), toy.labels(images, False, seed)
        vectors = {"pooled": one.features.pooled, "mean": other.features.mean[:, :5]}
        features = FrozenFeatures(**vectors, projected=one.features.pooled[:, :7])
        return Labelled(features=features, targets=one.targets[:, 1:])

    def vectors(features: FrozenFeatures) -> np.ndarray:
        return np.hstack([getattr(features, name) for name in named])

    train, test = split(200, 1), split(50, 3)
    one_strength = {"strengths": 1, "strength_low": 0.1}
    found = kind.build(one_strength).fit(train, train, {}, 0, CPU).predict(test.features)
    centre, spread = (moment(vectors(train.features), axis=0) for moment in (np.mean, np.std))
    for label in range(2):
        known = LogisticRegression(C=1 / (0.1 * 200), tol=1e-8, max_iter=1000)
        known.fit((vectors(train.features) - centre) / spread, train.targets[:, label])
        said = known.decision_function((vectors(test.features) - centre) / spread)
        assert found[:, label] == pytest.approx(said, abs=1e-3)


def test_projected_vectors_are_not_made_up_where_there_are_none() -> None:
    train = toy.labels(20, True, 1)
    with pytest.raises(SpecError, match="space shared with texts"):
        LinearProjected.build({}).fit(train, train, {}, 0, CPU)


def test_settings_that_make_no_sense_are_refused() -> None:
    for kind, given, word in (
        (Neighbours, {"vectors": "both"}, "pooled or mean"),
        (Neighbours, {"neighbours": 0}, "at least one"),
        (Neighbours, {"temperature": 0.0}, "above 0"),
        (FewShot, {"examples": 0}, "at least 1"),
        (LinearMean, {"strengths": 0}, "linear_mean: 0 strengths"),
        (Linear, {"vectors": "projected"}, "pooled, mean or both"),
    ):
        with pytest.raises(SpecError, match=word):
            kind.build(given)
