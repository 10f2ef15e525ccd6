"""A batch that does not fit into memory, part by part, and still one batch.

Summed losses of parts are another loss: contrast, Sinkhorn targets, batch normalisation and KoLeo
compare images with all others of the batch. So each part is encoded twice, first without and then
with a graph, and the loss is made once, from the features of all (GradCache, Gao et al. 2021).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
import torch.distributed
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from radsweep.errors import SpecError
from radsweep.paradigms.base import Paradigm

State = tuple[Tensor, Tensor | None]


def backward_in_parts(
    paradigm: Paradigm,
    batch: Mapping[str, Tensor],
    spent: float,
    images_at_once: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, Tensor]:
    """Terms of the whole batch, their gradient added to the parameters'.

    A part is encoded the second time with the random state of the first, so that both passes drop
    the same paths. Loss and gradient are those of ``paradigm.losses`` on the whole batch where
    nothing is dropped at random, and those of one graph over the same parts where something is.

    Args:
        paradigm: in training mode; it must have ``features`` and ``terms``.
        batch: stacked views of this rank, first axis the examples.
        spent: share of the budget spent before this step.
        images_at_once: examples of a part; the last may be smaller.
        autocast: makes the context of a forward pass.

    Raises SpecError for an encoder with batch normalisation, to which a part is a batch.
    """
    if any(isinstance(module, _BatchNorm) for module in paradigm.modules()):
        raise SpecError(
            "images_at_once would change what batch normalisation of this encoder computes; choose "
            "an encoder without it, or more workers"
        )
    rows = len(next(iter(batch.values())))
    parts = [
        {name: value[first : first + images_at_once] for name, value in batch.items()}
        for first in range(0, rows, images_at_once)
    ]
    device = next(iter(batch.values())).device
    states, seen = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(device))
            with autocast():
                seen.append(paradigm.features(part))
    cached = [torch.cat(pieces).requires_grad_() for pieces in zip(*seen, strict=True)]
    del seen
    with autocast():
        terms = paradigm.terms(cached, batch, spent)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    after = _random_state(device)
    for index, (part, state) in enumerate(zip(parts, states, strict=True)):
        _set_random_state(state, device)
        with autocast():
            features = paradigm.features(part)
        first = index * images_at_once
        # A feature that no term looks at has no gradient.
        used = [
            (feature, whole.grad[first : first + images_at_once])
            for feature, whole in zip(features, cached, strict=True)
            if whole.grad is not None
        ]
        torch.autograd.backward([one for one, _ in used], [grad for _, grad in used])
    _set_random_state(after, device)
    return terms


@torch.no_grad()
def average_gradients(paradigm: Paradigm, ranks: int) -> None:
    """What DistributedDataParallel does in its hooks, once all parts have added theirs."""
    if ranks == 1:
        return
    gradients = [p.grad for p in paradigm.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= ranks
    first = 0
    for gradient in gradients:
        gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
        first += gradient.numel()


def _random_state(device: torch.device) -> State:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def _set_random_state(state: State, device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
