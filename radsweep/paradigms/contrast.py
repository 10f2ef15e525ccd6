"""The contrastive loss of UniCL (Yang et al. 2022), of which CLIP's is a case; and SigLIP's.

Images and texts of a batch are paired; two pairs of one class are positives of each other. Class 0
means "like nothing else", so that a batch of zeros is CLIP (Radford et al. 2021); a negative class
takes its pair out of the loss.
"""

import math

import torch
from torch import Tensor

from radsweep.models.gather import gather_rows, sum_over_ranks, world

LARGEST_SCALE = math.log(100.0)
"""Of the logarithm of the logit scale, as in CLIP."""

FIRST_BIAS = -10.0
"""Of SigLIP's logits at first: nearly all pairs are negatives (Zhai et al. 2023, section 3.2)."""


def positives(same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Who is whose positive, for this rank's rows against the whole batch.

    Args:
        same: int64 [n] classes of this rank's pairs: positive for a class, 0 for a pair of its own,
            negative for one without a text.

    Returns:
        bool [n, N], own rows against the pairs of all ranks; bool [n] and bool [N], which of them
        count.
    """
    rank, _ = world()
    everybody = gather_rows(same)
    own = torch.arange(len(same), device=same.device) + rank * len(same)
    equal = (same[:, None] == everybody[None, :]) & (same[:, None] > 0)
    itself = own[:, None] == torch.arange(len(everybody), device=same.device)[None, :]
    counted = everybody >= 0
    return (equal | itself) & counted, same >= 0, counted


def contrast(image: Tensor, text: Tensor, same: Tensor, logit_scale: Tensor) -> Tensor:
    """Mean over both directions of the cross-entropy with normalised soft targets, in float32.

    Every row's target is spread evenly over its positives:
    L = 1/2 [mean_i -sum_j Y_ij log p_ij / sum_j Y_ij + the same over columns]. Averaged over ranks
    it is the loss of the whole batch, and so is its gradient.

    Args:
        image: [n, D] of this rank's images; normalised here.
        text: [n, D] of their texts.
        same: int64 [n] classes, see ``positives``.
        logit_scale: scalar, the logarithm of what cosines are multiplied by; at most ln 100 is
            used.
    """
    with torch.autocast(image.device.type, enabled=False):
        image = torch.nn.functional.normalize(image.float(), dim=-1)
        text = torch.nn.functional.normalize(text.float(), dim=-1)
        scale = logit_scale.float().clamp(max=LARGEST_SCALE).exp()
        targets, rows, columns = positives(same)
        loss = _soft_cross_entropy(scale * image @ gather_rows(text).T, targets, rows, columns)
        loss = loss + _soft_cross_entropy(
            scale * text @ gather_rows(image).T, targets, rows, columns
        )
        return loss / 2


def sigmoid_contrast(
    image: Tensor, text: Tensor, same: Tensor, logit_scale: Tensor, logit_bias: Tensor
) -> Tensor:
    """SigLIP's loss: every pair a yes or no of its own, in float32 (Zhai et al. 2023, section 3).

    L = -mean_i sum_j log sigmoid(z_ij (s <u_i, v_j> + b)), z = 1 for positives and -1 else.
    Averaged over ranks it is the loss of the whole batch, and so is its gradient.

    Args:
        image: [n, D] of this rank's images; normalised here.
        text: [n, D] of their texts.
        same: int64 [n] classes, see ``positives``.
        logit_scale: scalar, the logarithm of s; at most ln 100 is used.
        logit_bias: scalar b.
    """
    with torch.autocast(image.device.type, enabled=False):
        image = torch.nn.functional.normalize(image.float(), dim=-1)
        text = torch.nn.functional.normalize(text.float(), dim=-1)
        scale = logit_scale.float().clamp(max=LARGEST_SCALE).exp()
        targets, rows, columns = positives(same)
        logits = scale * image @ gather_rows(text).T + logit_bias.float()
        signed = torch.where(targets, logits, -logits)
        losses = -torch.nn.functional.logsigmoid(signed).masked_fill(~columns, 0.0)
        return _mean(losses.sum(dim=1), rows)


def floor(same: Tensor) -> Tensor:
    """The least value of ``contrast``: a row with K equal positives cannot go below ln K."""
    targets, rows, _ = positives(same)
    logs = targets.sum(dim=1).clamp_min(1).float().log()
    return _mean(logs, rows)


def _soft_cross_entropy(logits: Tensor, targets: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    logits = logits.masked_fill(~columns, -torch.inf)
    chosen = torch.log_softmax(logits, dim=1).masked_fill(~targets, 0.0).sum(dim=1)
    return _mean(-chosen / targets.sum(dim=1).clamp_min(1), rows)


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """This rank's part of the mean over counted rows; the mean over ranks is the whole."""
    count = sum_over_ranks(rows.sum().float())
    return values.masked_fill(~rows, 0.0).sum() * world()[1] / count.clamp_min(1.0)
