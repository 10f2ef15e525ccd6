"""Batch normalisation by the statistics of the global batch, whatever the number of ranks.

PyTorch's own normalises each rank's share by itself, so that two workers train another model than
one; its synchronised one needs GPUs. The sums here pass gradients over ranks on any device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from radsweep.errors import SpecError
from radsweep.models.gather import gather_rows, world


def global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count [] over all ranks and all axes but the second.

    Ranks tell one another their own mean, squares about it and count, once (Chan et al. 1979).

    Args:
        x: float32 [n, C, ...]; n may differ between ranks, and be 0.
    """
    axes = [0, *range(2, x.ndim)]
    own_count = torch.full_like(x[:0].sum(), x.numel() / x.shape[1])
    own_mean = x.sum(dim=axes) / own_count.clamp_min(1)
    squares = (x - _along(own_mean, x)).square().sum(dim=axes)
    told = gather_rows(torch.cat([own_mean, squares, own_count[None]])[None])
    (means, squares), counts = told[:, :-1].chunk(2, dim=1), told[:, -1:].detach()
    count = counts.sum().clamp_min(1)
    mean = (counts * means).sum(dim=0) / count
    variance = (squares + counts * (means - mean).square()).sum(dim=0) / count
    return mean, variance, count


def _along(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view(1, -1, *[1] * (x.ndim - 2))


def _normalise(module: Any, images: Tensor) -> Tensor:
    """In training: [n, C, h, w] by moments over ranks; the running ones move alike on every rank.

    ``module`` is one of PyTorch's, with its affine parameters and running statistics.
    """
    x = images.float()
    mean, variance, count = global_moments(x)
    with torch.no_grad():
        module.num_batches_tracked += 1
        unbiased = variance * count / (count - 1).clamp_min(1)
        module.running_mean.lerp_(mean, module.momentum)
        module.running_var.lerp_(unbiased, module.momentum)
    scale = module.weight * torch.rsqrt(variance + module.eps)
    normal = (x - _along(mean, x)) * _along(scale, x) + _along(module.bias, x)
    return normal.to(images.dtype)


@final
class GlobalBatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, over ranks."""

    def forward(self, input: Tensor) -> Tensor:
        """[n, C, h, w] of the same."""
        if not self.training or world()[1] == 1:
            return super().forward(input)
        return _normalise(self, input)


@final
class GlobalBatchNormAct2d(BatchNormAct2d):
    """timm's with an activation behind it, over ranks."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, h, w] of the same."""
        if not self.training or world()[1] == 1:
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        active: Tensor = self.act(self.drop(_normalise(self, x)))
        return active


_GLOBAL: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: GlobalBatchNorm2d,
    BatchNormAct2d: GlobalBatchNormAct2d,
}


def over_ranks(model: nn.Module) -> None:
    """Make every batch normalisation of ``model`` that can be a global one, in place.

    No weight changes. What stays as it is trains in one process, and is refused in several
    (``require_global``).
    """
    for module in model.modules():
        kind: Any = _GLOBAL.get(type(module))
        if kind is not None and _moves(module):
            # The two have the same state; only ``forward`` differs.
            module.__class__ = kind


def _moves(module: Any) -> bool:
    """Whether it has affine parameters, and running statistics that follow by a share."""
    return bool(module.affine and module.track_running_stats and module.momentum)


@contextmanager
def held_moments(model: nn.Module) -> Iterator[None]:
    """Afterwards all running moments of ``model`` are what they were before.

    For a backward pass that computes activations anew: they have moved in the forward pass.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    moments = [buffer for norm in norms for buffer in norm.buffers()]
    before = [moment.clone() for moment in moments]
    yield
    for moment, held in zip(moments, before, strict=True):
        moment.copy_(held)


def require_global(model: nn.Module) -> None:
    """Raise SpecError where a batch normalisation would see a rank's share of the batch only."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in _GLOBAL.values():
            raise SpecError(
                f"{name} is a {type(module).__name__} that several workers cannot compute over the "
                "whole batch; train with one worker, or choose an encoder with plain BatchNorm2d "
                "or with another normalisation"
            )
