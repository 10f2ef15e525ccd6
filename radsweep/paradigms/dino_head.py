"""From features to scores over prototypes: DINO's projection head (Caron et al. 2021)."""

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radsweep.errors import SpecError
from radsweep.models.batch_norm import global_moments

EPS = 1e-5
"""Of batch normalisation."""


@final
class GlobalBatchNorm(nn.Module):
    """Batch normalisation by the statistics of the global batch, now and always.

    There are no running statistics, since a head is thrown away before evaluation; and the sums
    pass gradients over ranks, so that W ranks normalise as one process would.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [n, width] of [n, width]; n may differ between ranks, and be 0."""
        x = x.float()
        mean, variance, _ = global_moments(x)
        return (x - mean) * torch.rsqrt(variance + EPS) * self.weight + self.bias


@final
class Prototypes(nn.Module):
    """Cosine to each prototype times its scale: DINO's weight-normalised last layer."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(count, width))
        self.scale = nn.Parameter(torch.ones(count, 1))
        nn.init.trunc_normal_(self.direction, std=0.02)

    def forward(self, x: Tensor, sizes: list[int]) -> list[Tensor]:
        """Scores [size, prototypes] of each group of unit vectors [sum(sizes), width], in order.

        One by one: joined, they would be copied whole in the backward pass, which are gigabytes.
        """
        weight = self.scale * F.normalize(self.direction, dim=1)
        return [F.linear(group, weight) for group in torch.split(x, sizes)]


@final
class DinoHead(nn.Module):
    """Linear layers with GELU down to a bottleneck, normalised, against prototypes."""

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        hidden: int,
        bottleneck: int,
        prototypes: int,
        batch_norm: bool,
    ) -> None:
        """Random weights from torch's current generator (truncated normal of 0.02, as DINO).

        Args:
            width: of the features.
            layers: linear layers before the prototypes, at least 1.
            hidden: width between them.
            bottleneck: width of the last.
            prototypes: how many.
            batch_norm: whether hidden layers are batch-normalised; what keeps small batches from
                collapse.
        """
        super().__init__()
        stack: list[nn.Module] = []
        for layer in range(layers):
            last = layer == layers - 1
            normed = batch_norm and not last
            # Batch normalisation takes a constant away again.
            linear = nn.Linear(width, bottleneck if last else hidden, bias=not normed)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
            stack.append(linear)
            if not last:
                stack += [GlobalBatchNorm(hidden)] if normed else []
                stack.append(nn.GELU())
            width = hidden
        self.mlp = nn.Sequential(*stack)
        self._compares_rows = batch_norm and layers > 1
        self.prototypes = Prototypes(bottleneck, prototypes)

    def forward(self, features: Tensor) -> Tensor:
        """Scores float32 [n, prototypes] of features [n, width]."""
        return self.each(features)[0]

    def each(self, *groups: Tensor) -> list[Tensor]:
        """``forward`` of each group of rows [n, width], as if they came one by one.

        What does not compare rows is done once for all, and the prototypes are normalised once.
        """
        if self._compares_rows:
            projected = torch.cat([self.mlp(group) for group in groups])
        else:
            projected = self.mlp(torch.cat(groups))
        with torch.autocast(projected.device.type, enabled=False):
            unit = F.normalize(projected.float(), dim=-1)
            scores: list[Tensor] = self.prototypes(unit, [len(group) for group in groups])
        return scores

    def load(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Load what ``state`` has under ``prefix``, if anything.

        Raises SpecError, listing both, where names or shapes differ.
        """
        own = self.state_dict()
        given = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        if not given:
            return
        if _shapes(own) != _shapes(given):
            raise SpecError(
                f"the starting weights' DINO head is {_shapes(given)}; the settings (head_layers, "
                "head_hidden, head_bottleneck, prototypes, head_batch_norm) make " + _shapes(own)
            )
        self.load_state_dict(given)


def _shapes(state: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(state.items()))


def heads_state(**heads: DinoHead | None) -> dict[str, Tensor]:
    """Tensors of several heads under ``<name>.``; None is no head."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, head in heads.items()
        if head is not None
        for name, tensor in head.state_dict().items()
    }
