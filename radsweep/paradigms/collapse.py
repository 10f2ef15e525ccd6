"""Is a self-supervised encoder still telling images apart? Cheap figures of one batch."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from radsweep.errors import CollapsedError
from radsweep.paradigms.gather import gather_rows


def mean_cosine(features: Tensor) -> float:
    """Mean cosine over all pairs of n >= 2 rows [n, D]; 1 where all point one way."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    count = len(unit)
    return float((unit.sum(dim=0).square().sum() - count) / (count * (count - 1)))


def rank_me(features: Tensor) -> float:
    """Effective rank of rows [n, D]: exp of the singular values' entropy (Garrido et al. 2023)."""
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-12)
    return float(entropy(share).exp())


def entropy(probability: Tensor) -> Tensor:
    """In nats, over the last axis; 0 log 0 is 0."""
    terms: Tensor = torch.special.entr(probability)
    return terms.sum(dim=-1)


def health(cls: Tensor, targets: Tensor, loss: Tensor) -> dict[str, float]:
    """Figures of one batch of a teacher and its student, over all ranks.

    Args:
        cls: the teacher's class tokens [n, D] of this rank; rows of different images are needed.
        targets: the teacher's probabilities [n, K].
        loss: this rank's mean cross-entropy, a scalar.

    Returns:
        ``cls_cosine`` (mean over pairs), ``rank_me``, ``teacher_entropy`` (nats, of an image),
        ``teacher_kl`` (cross-entropy above it) and ``prototypes_used`` (exp of the entropy of the
        mean).
    """
    cls, targets = gather_rows(cls), gather_rows(targets)
    own = float(entropy(targets).mean())
    total = float(gather_rows(loss.reshape(1)).mean())
    return {
        "cls_cosine": mean_cosine(cls),
        "rank_me": rank_me(cls),
        "teacher_entropy": own,
        "teacher_kl": total - own,
        "prototypes_used": float(entropy(targets.mean(dim=0)).exp()),
    }


def judge(
    figures: Mapping[str, float],
    prototypes: int,
    most_cosine: float,
    most_entropy: float,
    when: str,
) -> None:
    """Raise CollapsedError where all images look alike, or every target is the uniform one.

    Args:
        figures: of ``health``.
        prototypes: K; a uniform target has an entropy of ln K.
        most_cosine: limit of ``cls_cosine``.
        most_entropy: limit of ``teacher_entropy``, as a share of ln K.
        when: words for the message.
    """
    share = figures["teacher_entropy"] / math.log(prototypes)
    cosine = figures["cls_cosine"]
    if cosine > most_cosine or share > most_entropy:
        raise CollapsedError(
            f"{when} the mean cosine between images is {cosine:.5f} (limit {most_cosine}) and the "
            f"teacher's entropy {share:.5f} of a uniform guess's (limit {most_entropy}): the "
            "encoder does not tell images apart. Use targets=sinkhorn, head_batch_norm, fewer "
            "prototypes, a head_warmup or a larger batch"
        )
