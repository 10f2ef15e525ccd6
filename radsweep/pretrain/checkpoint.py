"""What is kept in the middle of a cell, so that a killed one goes on as if nothing had happened.

A checkpoint is one file: paradigm (weights, teacher, centres), optimiser, random state of every
rank, progress and the log so far. The place in the stream is the step, since the stream is a
function of it.
"""

import io
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed
from torch.optim import Optimizer

from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.loop import Progress
from radsweep.store.record import CellStore

KEPT = 2
"""Newest checkpoints that stay: one, and one more in case the machine died as it was written."""


def random_states(device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Torch's random state of every rank, in rank order. A collective: every rank must call it."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if not torch.distributed.is_initialized():
        return [state]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, state)
    return gathered


def save(
    cell: CellStore,
    paradigm: Paradigm,
    optimiser: Optimizer,
    progress: Progress,
    states: list[dict[str, torch.Tensor]],
) -> None:
    """Write one checkpoint and remove all but the newest ``KEPT``. For rank 0 alone."""
    buffer = io.BytesIO()
    torch.save(
        {
            "paradigm": paradigm.state_dict(),
            "optimiser": optimiser.state_dict(),
            "random_states": states,
            "progress": asdict(progress),
        },
        buffer,
    )
    cell.store.write_bytes(cell.path(f"checkpoints/{progress.step:09d}.pt"), buffer.getvalue())
    for name in cell.store.names(cell.path("checkpoints"))[:-KEPT]:
        cell.store.delete(cell.path(f"checkpoints/{name}"))


def newest(cell: CellStore) -> str | None:
    """The name of the newest checkpoint; None where there is none."""
    names = cell.store.names(cell.path("checkpoints"))
    return names[-1] if names else None


def load(
    cell: CellStore, paradigm: Paradigm, optimiser: Optimizer, device: torch.device, rank: int
) -> Progress:
    """Bring everything back to the newest checkpoint; a fresh ``Progress`` if there is none.

    At another world size than the one that wrote it, the random state of a rank that did not exist
    then is rank 0's: data order is still exact, dropout is not.
    """
    name = newest(cell)
    if name is None:
        return Progress()
    data = cell.store.read_bytes(cell.path(f"checkpoints/{name}"))
    state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    paradigm.load_state_dict(state["paradigm"])
    optimiser.load_state_dict(state["optimiser"])
    states = state["random_states"]
    mine = states[rank] if rank < len(states) else states[0]
    torch.set_rng_state(mine["cpu"].cpu())
    if device.type == "cuda" and "cuda" in mine:
        torch.cuda.set_rng_state(mine["cuda"].cpu(), device)
    return Progress(**state["progress"])
