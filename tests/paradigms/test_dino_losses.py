"""DINOv2's arithmetic against lightly's and against slow, obvious versions."""

import math
import statistics
import warnings

import pytest
import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss

from radsweep.errors import CollapsedError
from radsweep.paradigms.collapse import health, judge, mean_cosine, rank_me
from radsweep.paradigms.dino_head import DinoHead, GlobalBatchNorm
from radsweep.paradigms.dino_losses import (
    centred_targets,
    dino_loss,
    koleo,
    moved_centre,
    patch_loss,
    sinkhorn_targets,
)
from radsweep.paradigms.dinov2 import Settings


def scores(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_dino_term_and_its_centre_are_lightlys() -> None:
    theirs = DINOLoss(output_dim=10, teacher_temp=0.05)
    centre = torch.zeros(10)
    for step in range(3):
        teacher, student = scores(2, 6, 10, seed=step), scores(5, 6, 10, seed=9 + step)
        expected = theirs(list(teacher), list(student), teacher_temp=0.05)
        targets = centred_targets(teacher, centre, 0.05)
        assert torch.allclose(dino_loss(student[:2], student[2:], targets, 0.1), expected)
        centre = moved_centre(centre, teacher.flatten(0, 1), 0.9)
        assert torch.allclose(centre, theirs.center.flatten(), atol=1e-7)


def test_two_global_crops_alone_predict_each_other() -> None:
    teacher, student = scores(2, 4, 8), scores(2, 4, 8, seed=1)
    targets = centred_targets(teacher, torch.zeros(8), 0.07)
    by_hand = 0.0
    for mine, other in ((0, 1), (1, 0)):
        for image in range(4):
            logs = torch.log_softmax(student[mine, image] / 0.1, dim=0)
            by_hand -= float((targets[other, image] * logs).sum()) / 8
    assert float(dino_loss(student, student[:0], targets, 0.1)) == pytest.approx(by_hand, abs=1e-5)


def test_the_patch_term_is_lightlys() -> None:
    masks = torch.zeros(4, 9, dtype=torch.bool)
    masks[0, :3], masks[3, 2:7] = True, True
    teacher, student = scores(8, 12), scores(8, 12, seed=1)
    theirs = IBOTPatchLoss(output_dim=12, teacher_temp=0.06)
    expected = theirs(teacher, student, masks.view(4, 3, 3))
    targets = centred_targets(teacher, torch.zeros(12), 0.06)
    assert torch.allclose(patch_loss(student, targets, masks, 0.1), expected)


def test_nothing_hidden_leaves_the_centre_and_the_loss_finite() -> None:
    centre = torch.randn(5)
    assert torch.equal(moved_centre(centre, torch.zeros(0, 5), 0.9), centre)
    empty = torch.zeros(0, 5, requires_grad=True)
    loss = patch_loss(empty, torch.zeros(0, 5), torch.zeros(2, 4, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert sinkhorn_targets(torch.zeros(0, 5), 0.05, 3).shape == (0, 5)


def test_koleo_is_lightlys() -> None:
    features = scores(16, 8).requires_grad_()
    expected = KoLeoLoss()(features)
    (theirs,) = torch.autograd.grad(expected, features)
    (mine,) = torch.autograd.grad(koleo(features), features)
    assert torch.allclose(koleo(features), expected, atol=1e-6)
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_koleo_survives_one_image_and_two_equal_ones() -> None:
    assert koleo(scores(1, 8)).item() == 0.0
    twins = scores(1, 8).repeat(2, 1).requires_grad_()
    koleo(twins).backward()
    assert twins.grad is not None and torch.isfinite(twins.grad).all()


def slow_sinkhorn(teacher: Tensor, temperature: float, iterations: int) -> Tensor:
    """Rows and columns of exp(score / temperature) scaled in turn, as SwAV's paper writes it."""
    plan = (teacher.double() / temperature).exp().T
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(dim=1, keepdim=True) * plan.shape[0]
        plan /= plan.sum(dim=0, keepdim=True) * plan.shape[1]
    return (plan * plan.shape[1]).T


def test_sinkhorn_in_logarithms_is_sinkhorn() -> None:
    teacher = scores(12, 6)
    mine = sinkhorn_targets(teacher, 0.5, 3)
    assert torch.allclose(mine.double(), slow_sinkhorn(teacher, 0.5, 3), atol=1e-6)
    assert torch.allclose(mine.sum(dim=1), torch.ones(12))


def test_sinkhorn_survives_scores_that_overflow_an_exponential() -> None:
    balanced = sinkhorn_targets(100 * scores(12, 6), 0.04, 3)
    assert torch.isfinite(balanced).all()
    assert torch.allclose(balanced.sum(dim=1), torch.ones(12), atol=1e-5)


def test_batch_norm_is_torchs_in_training() -> None:
    x = scores(10, 4)
    mine, theirs = GlobalBatchNorm(4), torch.nn.BatchNorm1d(4)
    assert torch.allclose(mine(x), theirs(x), atol=1e-6)
    assert mine(x[:0]).shape == (0, 4)


def test_prototype_scores_are_scaled_cosines() -> None:
    torch.manual_seed(0)
    head = DinoHead(6, layers=2, hidden=8, bottleneck=4, prototypes=5, batch_norm=False)
    with torch.no_grad():
        head.prototypes.scale[2] = 3.0
    x = scores(3, 6)
    hidden = head.mlp(x)
    for image in range(3):
        for k in range(5):
            cosine = torch.cosine_similarity(hidden[image], head.prototypes.direction[k], dim=0)
            assert torch.allclose(head(x)[image, k], cosine * (3.0 if k == 2 else 1.0), atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_groups_of_rows_are_scored_as_if_each_came_alone(batch_norm: bool) -> None:
    torch.manual_seed(0)
    head = DinoHead(6, layers=3, hidden=8, bottleneck=4, prototypes=5, batch_norm=batch_norm)
    groups = [scores(7, 6), scores(0, 6), 3 + 2 * scores(12, 6, seed=1)]
    found = []
    for answers in (head.each(*groups), [head(group) for group in groups]):
        head.zero_grad()
        weights = [scores(*answer.shape, seed=2) for answer in answers]
        sum((a * w).sum() for a, w in zip(answers, weights, strict=True)).backward()
        found.append([*answers, *(p.grad.clone() for p in head.parameters())])
    assert [len(answer) for answer in found[0][:3]] == [7, 0, 12]
    for together, alone in zip(*found, strict=True):
        assert torch.allclose(together, alone, atol=1e-5)


def test_collapse_figures_tell_one_point_from_many() -> None:
    many = scores(32, 16)
    one = torch.ones(32, 16) + 1e-4 * many
    loops = [
        float(torch.cosine_similarity(many[i], many[j], dim=0))
        for i in range(32)
        for j in range(32)
        if i != j
    ]
    assert mean_cosine(many) == pytest.approx(sum(loops) / len(loops), abs=1e-6)
    assert mean_cosine(one) > 0.99999 and rank_me(one) < 1.1 < 10 < rank_me(many)


def test_only_a_clear_collapse_is_an_error() -> None:
    limits = Settings(prototypes=8, collapse_entropy=0.999)
    many, targets = scores(32, 8), torch.softmax(scores(32, 8) * 5, dim=1)
    good = health(scores(32, 16), many, targets, torch.tensor(1.5))
    judge(good, limits, "now")
    assert good["teacher_kl"] == pytest.approx(1.5 - good["teacher_entropy"])
    assert 1 <= good["prototypes_used"] <= 8
    spreads = [statistics.stdev(row) for row in many.tolist()]
    assert good["teacher_spread"] == pytest.approx(statistics.mean(spreads), rel=1e-5)
    with pytest.raises(CollapsedError, match=r"mean cosine between images is 1.00000"):
        judge(health(torch.ones(32, 16), many, targets, torch.tensor(1.5)), limits, "now")
    uniform = torch.full((32, 8), 1 / 8)
    blind = health(scores(32, 16), many, uniform, torch.tensor(math.log(8)))
    with pytest.raises(CollapsedError, match=r"entropy is 1\.00000 of a blind guess"):
        judge(blind, limits, "now")
    single = torch.eye(8)[torch.zeros(32, dtype=torch.int64)]
    one = health(scores(32, 16), many, single, torch.tensor(0.0))
    with pytest.raises(CollapsedError, match=r"choose 1\.000 of 8 prototypes"):
        judge(one, limits, "now")


@pytest.mark.parametrize(
    ("settings", "remedies"),
    [
        (
            Settings(),
            "Use targets=sinkhorn, head_batch_norm=True, prototypes=4096 (now 65536), "
            "head_warmup=0.1, a lower learning_rate or a larger batch_size",
        ),
        (
            Settings(targets="sinkhorn", head_batch_norm=True, prototypes=4096),
            "Use head_warmup=0.1, a lower learning_rate or a larger batch_size",
        ),
        (
            Settings(targets="sinkhorn", head_batch_norm=True, prototypes=64, head_warmup=0.1),
            "Use a lower learning_rate or a larger batch_size",
        ),
    ],
)
def test_a_collapsed_cell_is_advised_to_do_what_it_has_not_done(
    settings: Settings, remedies: str
) -> None:
    lost = {"teacher_entropy": 0.0, "cls_cosine": 1.0, "prototypes_used": 1.0}
    with pytest.raises(CollapsedError) as raised:
        judge(lost, settings, "now")
    assert str(raised.value).endswith(": the encoder does not tell images apart. " + remedies)
