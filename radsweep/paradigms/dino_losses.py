"""The arithmetic of DINOv2 (Oquab et al. 2023, section 4): targets and loss terms.

All of it in float32, and exact over ranks: a global batch gives one loss and one gradient, whatever
the number of processes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from radsweep.models.gather import gather_rows, max_over_ranks, sum_over_ranks, world

KOLEO_EPS = 1e-8


def centred_targets(scores: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Softmax of centred teacher scores [n, K]: DINO's first way to balance the prototypes."""
    return F.softmax((scores - centre) / temperature, dim=-1)


def moved_centre(centre: Tensor, scores: Tensor, momentum: float) -> Tensor:
    """The centre [K], moved towards the mean of all ranks' teacher scores [n, K].

    Left alone where no rank has a row, since a mean of nothing would be NaN for ever.
    """
    sums = sum_over_ranks(scores.sum(dim=0))
    count = sum_over_ranks(torch.full_like(sums[:1], len(scores)))
    moved = centre.lerp(sums / count.clamp_min(1), 1 - momentum)
    return torch.where(count > 0, moved, centre)


def sinkhorn_targets(scores: Tensor, temperature: float, iterations: int) -> Tensor:
    """Teacher scores [n, K] as assignments that use all prototypes alike (Caron et al. 2020, SwAV).

    In logarithms: exp(score / 0.04) would overflow. Rows of all ranks are one matrix; each of this
    rank's rows sums to 1.
    """
    logs = scores.float() / temperature
    for _ in range(iterations):
        # First the prototypes, over the images of all ranks; then the images, each on its own.
        nothing = torch.full_like(logs.sum(dim=0), -torch.inf)
        largest = max_over_ranks(logs.max(dim=0).values if len(logs) else nothing)
        logs = logs - largest
        logs = logs - sum_over_ranks(logs.exp().sum(dim=0)).log()
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """-sum_k t_k log softmax(s / temperature)_k over the last axis."""
    return -(targets * F.log_softmax(student.float() / temperature, dim=-1)).sum(dim=-1)


def dino_loss(globals_: Tensor, locals_: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over all pairs of a global crop's target and another crop's prediction.

    Args:
        globals_: student scores [2, n, K] of the global crops.
        locals_: student scores [L, n, K] of the local crops; L may be 0.
        targets: [2, n, K] of the teacher, of the same global crops.
        temperature: of the student.

    Returns:
        Scalar: the 2 + 2 L pairs weigh alike, as in DINOv2.
    """
    crossed = cross_entropy(globals_, targets.flip(0), temperature).mean(dim=1).sum()
    # Both targets of an image meet the same local crop: sum them first, the logarithm once.
    locals_terms = cross_entropy(locals_, targets.sum(dim=0), temperature).mean(dim=1).sum()
    return (crossed + locals_terms) / (2 + 2 * len(locals_))


def patch_loss(student: Tensor, targets: Tensor, masks: Tensor, temperature: float) -> Tensor:
    """IBOT's masked-patch cross-entropy: mean over hidden patches of a crop, then over all crops.

    Args:
        student: scores [m, K] of the hidden patches, in the order of ``masks``.
        targets: [m, K] of the teacher, which saw them.
        masks: bool [crops, N].
        temperature: of the student.
    """
    hidden = masks.sum(dim=1, keepdim=True).clamp_min(1)
    weights = (1.0 / hidden).expand(masks.shape)[masks]
    return (cross_entropy(student, targets, temperature) * weights).sum() / len(masks)


def koleo(features: Tensor) -> Tensor:
    """-mean log distance of each unit vector to its nearest neighbour (Sablayrolles et al. 2019).

    Args:
        features: [n, D] of this rank; neighbours are looked for on all ranks.

    Returns:
        Scalar; 0 where the global batch has one image only, which has no neighbour.
    """
    with torch.autocast(features.device.type, enabled=False):
        own = F.normalize(features.float(), dim=-1, eps=KOLEO_EPS)
        everybody = gather_rows(own)
        if len(everybody) < 2:
            return features.sum() * 0.0
        first = world()[0] * len(own)
        with torch.no_grad():
            cosines = own @ everybody.T
            rows = torch.arange(len(own), device=own.device)
            cosines[rows, rows + first] = -2.0
            nearest = cosines.argmax(dim=1)
        distance = F.pairwise_distance(own, everybody[nearest], eps=KOLEO_EPS)
        return -(distance + KOLEO_EPS).log().mean()


def crops_first(views: Tensor) -> Tensor:
    """[n, crops, ...] as [crops * n, ...], the first crop of every image first."""
    return views.transpose(0, 1).flatten(0, 1)


def by_crop(rows: Tensor, crops: int) -> Tensor:
    """[crops * n, K] as [crops, n, K]."""
    return rows.reshape(crops, -1, rows.shape[-1])


def by_image(rows: Tensor, crops: int) -> Tensor:
    """[crops * n, ...] as [n, crops, ...]: what ``crops_first`` takes apart."""
    return rows.reshape(crops, -1, *rows.shape[1:]).transpose(0, 1)
