"""Three ways to read a ViT's position table at another grid; they differ, so each has a name.

``dinov2`` is what DINOv2's training code does (bicubic by scale factor, with its offset of 0.1),
``hf`` what transformers does (bicubic to a size, no antialiasing), ``timm`` what timm does
(bicubic, antialiased).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from radsweep.errors import SpecError

POLICIES = ("dinov2", "hf", "timm")
DINOV2_OFFSET = 0.1
"""Added to the grid's side before dividing, in DINOv2's released training code (Oquab et al.
2023)."""


def check_policy(policy: str) -> None:
    """Raise SpecError unless the name is one of ``POLICIES``."""
    if policy not in POLICIES:
        raise SpecError(f"position interpolation {policy!r}; known: {', '.join(POLICIES)}")


def resample_positions(
    table: Tensor, old: tuple[int, int], new: tuple[int, int], policy: str
) -> Tensor:
    """The table at another grid; the table itself where the grid is its own.

    Args:
        table: [1, prefix + old height * old width, D]; prefix rows (class token) are kept as they
            are.
        old: height and width of the table's grid.
        new: height and width that are wanted.
        policy: one of ``POLICIES``.

    Returns:
        [1, prefix + new height * new width, D] of the table's dtype; computed in float32.

    Raises SpecError for an unknown policy.
    """
    check_policy(policy)
    if old == new:
        return table
    prefix = table.shape[1] - old[0] * old[1]
    grid = table[:, prefix:].float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    if policy == "dinov2":
        scale = tuple((n + DINOV2_OFFSET) / o for n, o in zip(new, old, strict=True))
        grid = F.interpolate(grid, scale_factor=list(scale), mode="bicubic")
    else:
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=policy == "timm")
    rows = grid.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1).to(table.dtype)
    return torch.cat([table[:, :prefix], rows], dim=1)
