"""Gram anchoring: patches stay as alike to one another as an earlier encoder found them.

In long training, patch features lose their places while class tokens still improve; what an encoder
says of every pair of patches is held to what a frozen one says (DINOv3, Simeoni et al. 2025,
section 4). Tubes are found in patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def gram_loss(patches: Tensor, anchor: Tensor) -> Tensor:
    """Mean squared difference of cosines between all pairs of patches of a crop, in float32.

    Args:
        patches: [n, N, D] of the student.
        anchor: [n, N, E] of the frozen encoder; E may differ from D.

    Returns:
        Scalar: mean over crops and over the N x N pairs.
    """
    with torch.autocast(patches.device.type, enabled=False):
        own = F.normalize(patches.float(), dim=-1)
        held = F.normalize(anchor.float(), dim=-1)
        return F.mse_loss(own @ own.transpose(1, 2), held @ held.transpose(1, 2))


def is_due(before: float, now: float, every: float | None) -> bool:
    """Whether a multiple of ``every`` lies in (before, now], shares of the budget; None: never."""
    return every is not None and int(now / every) > int(before / every)
