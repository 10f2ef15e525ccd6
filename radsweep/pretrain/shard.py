"""A cell whose weights, gradients and moments are too large for one device: in shares over ranks.

PyTorch's FSDP2: a block is whole on a rank only while it computes. Loss and gradient stay those of
the global batch, and a checkpoint is the file that every other way to train writes and reads.
"""

from typing import Any

import torch
import torch.distributed
from timm.models.davit import DaVit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from radsweep.errors import SpecError
from radsweep.models.backbone import Backbone
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
    check_options(images_at_once, compile_blocks)
    models = [tower.model for tower in paradigm.towers() if isinstance(tower, Backbone)]
    other = next((one for one in models if not isinstance(one, VisionTransformer | DaVit)), None)
    if activation_checkpointing and other is not None:
        # In others timm may call what is within a stage, and the stage's weights are not there.
        raise SpecError(
            f"sharded weights of a {type(other).__name__} do not go with activation checkpointing, "
            "as those of a ViT and a DaViT do; leave it out"
        )


def check_options(images_at_once: int | None, compile_blocks: bool) -> None:
    """The part of ``check`` that needs no model."""
    if images_at_once is not None or compile_blocks:
        raise SpecError(
            "sharded weights (--shard) go neither with --images-at-once nor with --compile; leave "
            "these out, and take --activation-checkpointing where memory is short"
        )


def shard(paradigm: Paradigm, device: torch.device) -> None:
    """Leave each rank its share of every parameter, in place; all ranks hold the same weights."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for tower in paradigm.towers():
        for block in tower.blocks_within():
            if next(block.parameters(), None) is not None:
                fully_shard(block, mesh=mesh)
    fully_shard(paradigm, mesh=mesh, ignored_params=set(_scalars(paradigm)))
    register_fsdp_forward_method(paradigm, "encode")


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


def whole(state: Any, is_kept: bool = True) -> Any:
    """A state dict with every share made whole, on the CPU. A collective: all ranks call it.

    Args:
        state: nested dicts and lists of tensors and other values.
        is_kept: False leaves None where a share was: this rank only takes part.
    """

    def made_whole(one: Any) -> Any:
        if not isinstance(one, DTensor):
            return one
        tensor = one.full_tensor()
        return tensor.cpu() if is_kept else None

    return tree_map(made_whole, state)


def like(tensor: Tensor, share: Tensor) -> Tensor:
    """This rank's share of a whole tensor, cut as ``share`` is; a whole one where that is whole."""
    if not isinstance(share, DTensor) or tensor.shape != share.shape:
        return tensor
    # Every rank has read the whole: none need be sent.
    return distribute_tensor(tensor, share.device_mesh, share.placements, src_data_rank=None)
