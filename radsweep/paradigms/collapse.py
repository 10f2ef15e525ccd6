"""Is a self-supervised encoder still telling images apart? Cheap figures of one batch."""

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from radsweep.errors import CollapsedError
from radsweep.models.gather import gather_rows


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


def health(cls: Tensor, scores: Tensor, targets: Tensor, loss: Tensor) -> dict[str, float]:
    """Figures of one batch of a teacher and its student, over all ranks.

    Args:
        cls: the teacher's class tokens [n, D] of this rank; rows of different images are needed.
        scores: the teacher's, over prototypes [m, K].
        targets: the probabilities [m, K] that are made of them.
        loss: this rank's mean cross-entropy, a scalar.

    Returns:
        ``cls_cosine`` (mean over pairs), ``rank_me``, ``teacher_spread`` (standard deviation of an
        image's scores over prototypes), ``teacher_entropy`` (nats, of an image), ``teacher_kl``
        (cross-entropy above it) and ``prototypes_used`` (exp of the entropy of the mean).
    """
    spread = gather_rows(scores.float().std(dim=1))
    cls, targets = gather_rows(cls), gather_rows(targets)
    own = float(entropy(targets).mean())
    total = float(gather_rows(loss.reshape(1)).mean())
    return {
        "cls_cosine": mean_cosine(cls),
        "rank_me": rank_me(cls),
        "teacher_spread": float(spread.mean()),
        "teacher_entropy": own,
        "teacher_kl": total - own,
        "prototypes_used": float(entropy(targets.mean(dim=0)).exp()),
    }


class Limits(Protocol):
    """Beyond which an encoder has collapsed, and what can be done; DINOv2's settings are such."""

    @property
    def prototypes(self) -> int:
        """K; a uniform target has an entropy of ln K."""

    @property
    def targets(self) -> str:
        """``sinkhorn``, or what collapses sooner."""

    @property
    def head_batch_norm(self) -> bool:
        """Whether the head normalises over the batch."""

    @property
    def head_warmup(self) -> float:
        """Share of the budget during which only the head learns."""

    @property
    def collapse_cosine(self) -> float:
        """Largest ``cls_cosine``."""

    @property
    def collapse_entropy(self) -> float:
        """Largest ``teacher_entropy``, as a share of ln K."""

    @property
    def collapse_prototypes(self) -> float:
        """Least ``prototypes_used``."""


def judge(figures: Mapping[str, float], limits: Limits, when: str) -> None:
    """Raise CollapsedError where all images look alike, or all targets are one.

    Args:
        figures: of ``health``.
        limits: what is allowed.
        when: words for the message.
    """
    share = figures["teacher_entropy"] / math.log(limits.prototypes)
    cosine, used = figures["cls_cosine"], figures["prototypes_used"]
    faults = []
    if cosine > limits.collapse_cosine:
        faults.append(
            f"the mean cosine between images is {cosine:.5f} (> {limits.collapse_cosine})"
        )
    if share > limits.collapse_entropy:
        faults.append(
            f"the teacher's entropy is {share:.5f} of a blind guess's (> {limits.collapse_entropy})"
        )
    if used < limits.collapse_prototypes:
        faults.append(
            f"all images choose {used:.3f} of {limits.prototypes} prototypes "
            f"(< {limits.collapse_prototypes})"
        )
    if faults:
        raise CollapsedError(
            f"{when} {' and '.join(faults)}: the encoder does not tell images apart. Use "
            + ", ".join([*_remedies(limits), "a lower learning_rate or a larger batch_size"])
        )


FEW_PROTOTYPES = 4096
"""With a batch of 64 chest x-rays, beside the other settings here, seen to hold; 65536 were not."""


def _remedies(limits: Limits) -> list[str]:
    """What is known to keep small batches of x-rays from collapsing and is not set yet."""
    known = {
        "targets=sinkhorn": limits.targets != "sinkhorn",
        "head_batch_norm=True": not limits.head_batch_norm,
        f"prototypes={FEW_PROTOTYPES} (now {limits.prototypes})": (
            limits.prototypes > FEW_PROTOTYPES
        ),
        "head_warmup=0.1": limits.head_warmup == 0,
    }
    return [remedy for remedy, is_left in known.items() if is_left]
