"""UniCL's loss against CLIP's own code and against loops that spell the formula out."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

from radsweep.paradigms.contrast import contrast, floor, sigmoid_contrast


def pairs(count: int, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    image = torch.randn(count, width, generator=generator)
    return image, torch.randn(count, width, generator=generator)


def slow(image: Tensor, text: Tensor, same: list[int], scale: float) -> float:
    """1/2 [mean_i -sum_j Y_ij log p_ij / sum_j Y_ij + the same over columns], one number at a
    time."""
    kept = [i for i in range(len(same)) if same[i] >= 0]
    cosine = torch.nn.functional.cosine_similarity(image[:, None], text[None, :], dim=-1).double()
    total = 0.0
    for matrix in (cosine, cosine.T):
        for i in kept:
            partition = math.log(sum(math.exp(scale * float(matrix[i, j])) for j in kept))
            alike = [j for j in kept if j == i or (same[i] > 0 and same[i] == same[j])]
            logs = [scale * float(matrix[i, j]) - partition for j in alike]
            total -= sum(logs) / len(alike) / len(kept) / 2
    return total


def test_without_classes_it_is_clip() -> None:
    image, text = pairs(12)
    scale = torch.tensor(math.log(1 / 0.07))
    normal = torch.nn.functional.normalize
    theirs = ClipLoss()(normal(image, dim=-1), normal(text, dim=-1), scale.exp())
    assert contrast(image, text, torch.zeros(12, dtype=torch.int64), scale) == pytest.approx(
        float(theirs), abs=1e-6
    )


@pytest.mark.parametrize(
    "same", [[5, 0, 5, 0, 9, 5], [3, 3, 3, 3, 3, 3], [0, -1, 4, 4, -1, 0], [1, 2, 3, 4, 5, 6]]
)
def test_classes_share_their_targets_evenly(same: list[int]) -> None:
    image, text = pairs(6)
    loss = contrast(image, text, torch.tensor(same), torch.tensor(2.0))
    assert float(loss) == pytest.approx(slow(image, text, same, math.exp(2.0)), abs=1e-5)


def test_a_pair_without_text_moves_nothing() -> None:
    image, text = (rows.requires_grad_() for rows in pairs(4))
    same = torch.tensor([0, -1, 0, 0])
    contrast(image, text, same, torch.tensor(1.0)).backward()
    for rows in (image, text):
        assert rows.grad is not None and not rows.grad[1].any() and rows.grad[0].any()


def test_the_floor_is_reached_by_perfect_pairs() -> None:
    same = torch.tensor([7, 7, 0, 8, 8, 8])
    directions = torch.eye(8)[[0, 0, 1, 2, 2, 2]]
    loss = contrast(directions, directions, same, torch.tensor(math.log(100.0)))
    expected = (2 * math.log(2) + 3 * math.log(3)) / 6
    assert float(floor(same)) == pytest.approx(expected, abs=1e-6)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_the_scale_stops_at_100() -> None:
    image, text = pairs(5)
    same = torch.zeros(5, dtype=torch.int64)
    at_limit = contrast(image, text, same, torch.tensor(math.log(100.0)))
    assert contrast(image, text, same, torch.tensor(9.0)) == at_limit


def test_the_sigmoid_loss_is_siglips() -> None:
    ours = [rows.requires_grad_() for rows in pairs(12)]
    theirs = [rows.detach().clone().requires_grad_() for rows in ours]
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    loss = sigmoid_contrast(*ours, torch.zeros(12, dtype=torch.int64), scale, bias)
    unit = [torch.nn.functional.normalize(rows, dim=-1) for rows in theirs]
    expected = SigLipLoss()(*unit, scale.exp(), bias)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-6)


def test_classes_and_missing_texts_count_in_the_sigmoid_loss_too() -> None:
    image, text = pairs(6)
    same, total = [5, 0, 5, -1, 9, 5], 0.0
    kept = [0, 1, 2, 4, 5]
    for i in kept:
        for j in kept:
            logit = 3.0 * float(torch.cosine_similarity(image[i], text[j], dim=0)) - 1.5
            alike = i == j or (same[i] > 0 and same[i] == same[j])
            total += math.log1p(math.exp(-logit if alike else logit)) / len(kept)
    loss = sigmoid_contrast(
        image, text, torch.tensor(same), torch.tensor(math.log(3.0)), torch.tensor(-1.5)
    )
    assert float(loss) == pytest.approx(total, abs=1e-5)
