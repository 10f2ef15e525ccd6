"""Batch normalisation over ranks: by itself it is PyTorch's (``test_ranks`` has several ranks)."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.models import batch_norm
from radsweep.models.backbone import build_backbone
from radsweep.models.batch_norm import global_moments, over_ranks, require_global


def films(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3 + 2 * torch.randn(count, 4, 5, 5, generator=generator)


def test_moments_are_those_of_every_pixel_of_a_channel() -> None:
    x = films()
    mean, variance, count = global_moments(x)
    for channel in range(4):
        pixels = x[:, channel].reshape(-1).double()
        assert float(mean[channel]) == pytest.approx(float(pixels.mean()), rel=1e-5)
        assert float(variance[channel]) == pytest.approx(float(pixels.var(correction=0)), rel=1e-5)
    assert count.item() == 6 * 25


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_values_gradients_and_running_moments_are_pytorchs(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = kind(4), nn.Sequential(kind(4))
    over_ranks(mine)
    # The arithmetic that is for several ranks, here with one rank's rows: ``test_ranks`` has more.
    monkeypatch.setattr(batch_norm, "world", lambda: (0, 2))
    found = []
    for module in (theirs, mine):
        x = films().requires_grad_()
        y = module(x)
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
        found.append(
            (y.detach(), x.grad, *module.buffers(), *(p.grad for p in module.parameters()))
        )
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-4 * one.abs().max()
    assert torch.allclose(theirs.eval()(films()), mine.eval()(films()), atol=1e-5)


def test_an_encoder_keeps_its_names_and_weights() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("resnet10t", num_classes=0, in_chans=1)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    over_ranks(plain)
    after = plain.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kinds = {type(module).__name__ for module in plain.modules()}
    assert "GlobalBatchNorm2d" in kinds and "BatchNorm2d" not in kinds


def test_what_cannot_go_over_ranks_is_built_and_refused_where_there_are_several() -> None:
    require_global(build_backbone("resnet10t", 32, {}, 0.5, 0.25))
    levit = build_backbone("levit_128s", 224, {}, 0.5, 0.25)
    with pytest.raises(SpecError, match="BatchNorm1d that several workers"):
        require_global(levit)
    still = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False))
    over_ranks(still)
    with pytest.raises(SpecError, match="BatchNorm2d that several workers"):
        require_global(still)
