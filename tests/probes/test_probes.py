import importlib

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from radsweep import parts
from radsweep.errors import SpecError
from radsweep.probes.base import Choice, Fitted, Probe, batches, cosine_rate
from radsweep.probes.linear import Linear
from radsweep.probes.logistic import logistic_path
from radsweep.probes.report import Report
from radsweep.probes.segment import Segment
from radsweep.tasks.overlap import dice
from radsweep.tasks.statements import stated
from tests.probes import toy

CPU = torch.device("cpu")
SEGMENT = Segment.build({"steps": 150, "width": 32, "batch_size": 8})
REPORT = Report.build(
    {"steps": 120, "width": 32, "layers": 1, "heads": 2, "vocabulary_size": 320}
    | {"token_side": 2, "batch_size": 8, "max_tokens": 32}
)


def _fit(probe: Probe, make: object, leak: bool, choice: Choice, train: int = 120) -> Fitted:
    return probe.fit(make(train, leak, 1), make(40, leak, 2), choice, seed=5, device=CPU)  # type: ignore[operator]


def _auroc(leak: bool) -> float:
    test = toy.labels(200, leak, 3)
    logits = _fit(Linear.build({}), toy.labels, leak, {}).predict(test.features)
    known = np.isfinite(test.targets)
    return float(
        np.mean(
            [
                roc_auc_score(test.targets[known[:, i], i], logits[known[:, i], i])
                for i in range(test.targets.shape[1])
            ]
        )
    )


def _dice(leak: bool) -> float:
    test = toy.masks(60, leak, 3)
    predicted = _fit(SEGMENT, toy.masks, leak, {"learning_rate": 1e-2}).predict(test.features)
    return float(np.nanmean(dice(test.targets, predicted)))


def _right_statements(leak: bool) -> float:
    test = toy.reports(60, leak, 3)
    written = _fit(REPORT, toy.reports, leak, {"learning_rate": 1e-2}).predict(test.features)
    names = ("effusion", "nodule", "cardiomegaly")
    pairs = [
        (stated(a).get(name, 0), stated(b).get(name, 0))
        for a, b in zip(test.targets, written, strict=True)
        for name in names
    ]
    return float(np.mean([a == b for a, b in pairs]))


def test_linear_finds_a_leaked_label_and_is_at_chance_on_noise() -> None:
    assert _auroc(leak=True) > 0.98
    assert 0.4 < _auroc(leak=False) < 0.6


def test_segment_draws_a_leaked_line_and_no_line_from_noise() -> None:
    assert _dice(leak=True) > 0.9
    assert _dice(leak=False) < 0.3


def test_report_writes_leaked_findings_and_is_at_chance_on_noise() -> None:
    assert _right_statements(leak=True) > 0.95
    assert 0.35 < _right_statements(leak=False) < 0.65


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_logistic_path_reaches_scikit_learn_s_optimum(strength: float) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 20)) @ generator.normal(size=(20, 20))
    features = (features - features.mean(0)) / features.std(0)
    chance = 1 / (1 + np.exp(-features[:, :3]))
    targets = (generator.random((300, 3)) < chance).astype(np.float64)
    targets[generator.random(targets.shape) < 0.1] = np.nan
    strengths = torch.tensor([1e-2, strength, 1.0], dtype=torch.float64)
    path = logistic_path(torch.from_numpy(features), torch.from_numpy(targets), strengths)
    for label in range(3):
        known = np.isfinite(targets[:, label])
        peer = LogisticRegression(C=1 / (strength * known.sum()), tol=1e-10, max_iter=10_000)
        peer.fit(features[known], targets[known, label])
        np.testing.assert_allclose(path.weights[1, label], peer.coef_[0], atol=1e-4)
        np.testing.assert_allclose(path.biases[1, label], peer.intercept_[0], atol=1e-4)


def test_weights_of_a_rare_label_are_scikit_learn_s_to_one_part_in_ten_thousand() -> None:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(64, 64)) * np.arange(1, 65)[:, None] ** -0.5
    features = generator.normal(size=(4000, 64)) @ mixing
    features = (features - features.mean(0)) / features.std(0)
    logits = features @ generator.normal(size=(64, 6)) * 0.1 + np.linspace(-5, -1, 6)
    targets = (generator.random((4000, 6)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    assert 0.01 < targets[:, 0].mean() < 0.02
    strengths = np.logspace(-3, 1, 9)
    path = logistic_path(*(torch.from_numpy(each) for each in (features, targets, strengths)))
    for s, strength in enumerate(strengths):
        for label in range(6):
            peer = LogisticRegression(
                C=1 / (strength * 4000), tol=1e-10, max_iter=100, solver="newton-cholesky"
            )
            wanted = peer.fit(features, targets[:, label]).coef_[0]
            apart = np.linalg.norm(path.weights[s, label].numpy() - wanted)
            assert apart < 1e-4 * np.linalg.norm(wanted)


def test_linear_chooses_each_label_s_strength_on_val() -> None:
    train, val = toy.labels(60, True, 1), toy.labels(40, True, 2)
    path = Linear.build({}).fit(train, val, {}, 0, CPU).val_score
    for strength in np.logspace(-3, 1, 9):
        one = {"strengths": 1, "strength_low": float(strength), "strength_high": float(strength)}
        assert path >= Linear.build(one).fit(train, val, {}, 0, CPU).val_score - 1e-6


@pytest.mark.parametrize(
    ("probe", "make", "choice"),
    [
        (Linear.build({}), toy.labels, {}),
        (Segment.build({"steps": 5, "width": 8}), toy.masks, {"learning_rate": 1e-2}),
        (
            Report.build({"steps": 5, "width": 16, "layers": 1, "heads": 2, "token_side": 2}),
            toy.reports,
            {"learning_rate": 1e-2},
        ),
    ],
    ids=["linear", "segment", "report"],
)
def test_the_same_seed_gives_the_same_probe_whatever_ran_before(
    probe: Probe, make: object, choice: Choice
) -> None:
    test = make(10, True, 3)  # type: ignore[operator]
    first = _fit(probe, make, True, choice, train=30)
    torch.rand(100)
    again = _fit(probe, make, True, choice, train=30)
    assert first.val_score == again.val_score
    assert np.array_equal(first.predict(test.features), again.predict(test.features))


def test_segment_takes_a_pyramid_and_a_grid_that_the_mask_does_not_divide() -> None:
    made = toy.masks(12, True, 1)
    level = made.features.maps[0]
    pyramid = (
        level.repeat(2, axis=2).repeat(2, axis=3),
        level,
        level[:, :, ::2, ::2],
        level[:, :5],
    )
    features = type(made.features)(
        pooled=made.features.pooled, mean=made.features.mean, maps=pyramid
    )
    cut = type(made)(features=features, targets=made.targets[:, :, :30, :27])
    fitted = Segment.build({"steps": 2, "width": 8}).fit(cut, cut, {"learning_rate": 1e-3}, 0, CPU)
    assert fitted.predict(features).shape == (12, toy.CLASSES, 30, 27)


def test_a_report_is_the_same_whatever_batch_it_is_written_in() -> None:
    test = toy.reports(9, True, 3)
    settings = {"steps": 30, "width": 32, "layers": 1, "heads": 2, "token_side": 2}
    choice = {"learning_rate": 1e-2}
    together = _fit(Report.build(settings), toy.reports, True, choice).predict(test.features)
    one_by_one = Report.build(settings | {"predict_batch_size": 1})
    assert _fit(one_by_one, toy.reports, True, choice).predict(test.features) == together


def test_a_projector_stage_leaves_the_language_model_alone_until_it_ends() -> None:
    settings = {"steps": 1, "width": 16, "layers": 1, "heads": 2, "token_side": 2}
    plain = _fit(Report.build(settings), toy.reports, True, {"learning_rate": 1e-2})
    staged = _fit(
        Report.build(settings | {"projector_steps": 40}), toy.reports, True, {"learning_rate": 1e-2}
    )
    assert staged.val_score > plain.val_score


def test_a_setting_of_the_wrong_type_or_out_of_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"segment\.steps is '9'"):
        Segment.build({"steps": "9"})
    with pytest.raises(SpecError, match="heads"):
        Report.build({"width": 30, "heads": 4})
    with pytest.raises(SpecError, match="pooled, mean or both"):
        Linear.build({"vectors": "cls"})
    with pytest.raises(SpecError, match=r"no config\.json"):
        Report.build({"language_model": "/nowhere"}).fit(
            toy.reports(4, True, 1), toy.reports(4, True, 1), {"learning_rate": 1e-3}, 0, CPU
        )


def test_batches_visit_every_image_before_any_comes_again() -> None:
    order = np.concatenate(batches(10, 4, 5, seed=1))
    assert sorted(order[:10]) == list(range(10)) == sorted(order[10:])
    assert [len(rows) for rows in batches(3, 8, 2, seed=1)] == [3, 3]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [cosine_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0 == rates[9]
    assert rates[-1] < 0.001


@pytest.mark.parametrize("name", parts.names("probes"))
def test_every_probe_says_its_version_and_settings_without_being_run(name: str) -> None:
    assert parts.version("probes", name) >= 1
    settings = vars(importlib.import_module(f"radsweep.probes.{name}"))["Settings"]
    # Inherited ones too: those of the segmentation probes stand in another module.
    assert parts.setting_names("probes", name) == list(settings.__dataclass_fields__)
