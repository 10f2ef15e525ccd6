"""UniCL's loss against CLIP's own code and against loops that spell the formula out."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss
from torch import Tensor

from radsweep.paradigms.contrast import contrast, floor


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
