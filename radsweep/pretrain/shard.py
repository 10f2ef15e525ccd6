"""A cell whose weights, gradients and moments are too large for one device: in shares over ranks.

PyTorch's FSDP2: a block is whole on a rank only while it computes. Loss and gradient stay those of
the global batch, and a checkpoint is the file that every other way to train writes and reads.
"""

from typing import Any

import torch
import torch.distributed
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from radsweep.errors import SpecError
from radsweep.paradigms.base import Paradigm


def check(
    paradigm: Paradigm,
    ranks: int,
    *,
    images_at_once: int | None,
    activation_checkpointing: bool,
    compile_blocks: bool,
) -> None:
    """Raise SpecError where there is nobody to share with, or for what FSDP2 does not go with."""
    if ranks == 1:
        raise SpecError("weights are shared over processes and there is 1; give more --workers")
    if images_at_once is not None or compile_blocks:
        raise SpecError(
            "sharded weights go neither with images at once nor with compiled blocks; leave these "
            "out, and take activation checkpointing where memory is short"
        )
    if activation_checkpointing and any(isinstance(one, ResNet) for one in paradigm.modules()):
        # timm calls what is within a layer then, and the layer's weights would not be there.
        raise SpecError("a ResNet's sharded weights do not go with activation checkpointing")


def shard(paradigm: Paradigm, device: torch.device) -> None:
    """Leave each rank its share of every parameter, in place; all ranks hold the same weights."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for tower in paradigm.towers():
        for block in tower.blocks_within():
            if next(block.parameters(), None) is not None:
                fully_shard(block, mesh=mesh)
    fully_shard(paradigm, mesh=mesh, ignored_params=set(_scalars(paradigm)))


def is_sharded(paradigm: Paradigm) -> bool:
    """Whether ``shard`` was there."""
    return any(isinstance(parameter, DTensor) for parameter in paradigm.parameters())


def _scalars(paradigm: Paradigm) -> list[nn.Parameter]:
    """A temperature has no axis to be cut along, and stays whole."""
    return [parameter for parameter in paradigm.parameters() if parameter.ndim == 0]


@torch.no_grad()
def average_scalars(paradigm: Paradigm) -> None:
    """The gradients that FSDP2 leaves alone."""
    for parameter in _scalars(paradigm):
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


def whole(state: Any) -> Any:
    """A state dict with every share made whole, on the CPU. A collective: all ranks call it."""
    return tree_map(lambda one: one.full_tensor().cpu() if isinstance(one, DTensor) else one, state)


def like(tensor: Tensor, share: Tensor) -> Tensor:
    """This rank's share of a whole tensor, cut as ``share`` is; a whole one where that is whole."""
    if not isinstance(share, DTensor) or tensor.shape != share.shape:
        return tensor
    # Every rank has read the whole: none need be sent.
    return distribute_tensor(tensor, share.device_mesh, share.placements, src_data_rank=None)
