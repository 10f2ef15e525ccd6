"""What is kept in the middle of a cell, so that a killed one goes on as if nothing had happened.

A checkpoint is one file: paradigm (weights, teacher, centres), optimiser, random state of every
rank, progress and the log so far. The place in the stream is the step, since the stream is a
function of it.
"""

import io
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed
from torch.optim import Optimizer

from radsweep.errors import PreemptedError, StoreError
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.loop import Progress
from radsweep.pretrain.shard import like, whole
from radsweep.store.record import CellStore

KEPT = 2
"""Newest checkpoints that stay: one, and one more in case the machine died as it was written."""


def gather(
    paradigm: Paradigm, optimiser: Optimizer, device: torch.device, rank: int
) -> dict[str, Any]:
    """All that a resume needs beside progress, for rank 0. A collective: all ranks call it."""
    return {
        "paradigm": whole(paradigm.state_dict(), is_kept=rank == 0),
        "optimiser": whole(optimiser.state_dict(), is_kept=rank == 0),
        "random_states": _random_states(device),
    }


def _random_states(device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Torch's random state of every rank, in rank order."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if not torch.distributed.is_initialized():
        return [state]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, state)
    return gathered


class Checkpoints:
    """Writes a cell's checkpoints while it trains on: one at a time, for rank 0 alone.

    The next one, and the end of the ``with`` block, wait for the one on its way. So a process that
    dies loses the steps of one interval, and of a second one at most where the store takes so long.
    """

    def __init__(self, cell: CellStore, keep_every_steps: int | None = None) -> None:
        """Keeps the newest ``KEPT``, and each that is at a multiple of these steps."""
        self._cell, self._every = cell, keep_every_steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._on_its_way: Future[None] | None = None

    def save(self, state: dict[str, Any], progress: Progress) -> None:
        """Copy all state, as ``gather`` has it now, and begin to write it.

        Raises what kept the one before from being written.
        """
        self.wait()
        buffer = io.BytesIO()
        torch.save(state | {"progress": asdict(progress)}, buffer)
        self._on_its_way = self._thread.submit(self._write, progress.step, buffer.getvalue())

    def wait(self) -> None:
        """Until the one on its way is in the store; raises what kept it out."""
        if self._on_its_way is not None:
            written, self._on_its_way = self._on_its_way, None
            written.result()

    def _write(self, step: int, data: bytes) -> None:
        store, folder = self._cell.store, self._cell.path("checkpoints")
        store.write_bytes(f"{folder}/{step:09d}.pt", data)
        for name in store.names(folder)[:-KEPT]:
            if self._every is None or int(name.removesuffix(".pt")) % self._every:
                store.delete(f"{folder}/{name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait; who leaves to go on elsewhere must know that a checkpoint was kept."""
        try:
            if fault is None or isinstance(fault, PreemptedError):
                self.wait()
        finally:
            self._thread.shutdown()


def newest(cell: CellStore) -> str | None:
    """The name of the newest checkpoint; None where there is none."""
    names = cell.store.names(cell.path("checkpoints"))
    return names[-1] if names else None


def load(
    cell: CellStore, paradigm: Paradigm, optimiser: Optimizer, device: torch.device, rank: int
) -> Progress:
    """Bring everything back to the newest checkpoint; a fresh ``Progress`` if there is none.

    A collective: what rank 0 finds counts, since one may come in from a process that was lost.

    At another world size than the one that wrote it, the random state of a rank that did not exist
    then is rank 0's: data order is still exact, dropout is not.
    """
    found = [newest(cell)]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(found)
    (name,) = found
    if name is None:
        return Progress()
    data = cell.store.read_bytes(cell.path(f"checkpoints/{name}"))
    # On the CPU: a device may have room for a share of it only.
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if "worker_seconds" not in state["progress"]:
        raise StoreError(
            f"{cell.path('checkpoints')} was written by an older radsweep, and does not say what "
            "was spent; delete it and run again"
        )
    own = paradigm.state_dict()
    weights = {n: like(tensor, own[n]) for n, tensor in state["paradigm"].items() if n in own}
    paradigm.load_state_dict(state["paradigm"] | weights)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for number, moments in state["optimiser"]["state"].items():
        moments |= {name: like(moment, parameters[number]) for name, moment in moments.items()}
    optimiser.load_state_dict(state["optimiser"])
    states = state["random_states"]
    mine = states[rank] if rank < len(states) else states[0]
    torch.set_rng_state(mine["cpu"])
    if device.type == "cuda" and "cuda" in mine:
        torch.cuda.set_rng_state(mine["cuda"], device)
    return Progress(**state["progress"])
