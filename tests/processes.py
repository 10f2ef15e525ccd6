"""Processes that train together, forked from one that has imported what they need: seconds less."""

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing

FORKED = multiprocessing.get_context("forkserver")
# Whoever asks for the first such process in a session asks for all.
FORKED.set_forkserver_preload(
    ["pytest", "tests.paradigms.tiny", "tests.evaluate.toy", "radsweep.pretrain.cell", __name__]
)


def _member(
    rank: int,
    work: Callable[..., None],
    size: int,
    environment: dict[str, str],
    given: tuple[object, ...],
) -> None:
    # Not that of the test which was the first to ask for processes.
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    work(rank, *given)
    dist.destroy_process_group()


def together(work: Callable[..., None], size: int, *given: object) -> None:
    """Call ``work(rank, *given)`` in each of ``size`` processes of one group; wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.multiprocessing.start_processes(
        _member, (work, size, environment, given), nprocs=size, start_method="forkserver"
    )
