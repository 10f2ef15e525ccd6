"""Two processes with half a batch each are one process with the whole of it: loss, gradient,
state."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from radsweep.paradigms.base import Paradigm
from radsweep.specs import Recipe
from tests.paradigms.tiny import batch, build, recipe

COUNT, RANKS = 8, 2


def recipes() -> dict[str, Recipe]:
    return {
        "clip": recipe("clip", merge_duplicates=False),
        "unicl": recipe("unicl"),
        "centering": recipe("dinov2"),
        "sinkhorn": recipe(
            "dinov2",
            targets="sinkhorn",
            head_batch_norm=True,
            separate_patch_head=True,
            koleo_weight=0.2,
        ),
    }


def given(name: str, paradigm: Paradigm) -> dict[str, Tensor]:
    whole = batch(paradigm, COUNT)
    if name == "unicl":
        whole["same"][1] = -1  # one rank has a pair without a text, the other has none
    return whole


def run(name: str, made: Recipe, rank: int, ranks: int) -> dict[str, Tensor]:
    """One step's terms, monitors, buffers and gradients; with ranks, of this rank's share."""
    paradigm = build(made)
    share = COUNT // ranks
    mine = {k: v[rank * share : (rank + 1) * share] for k, v in given(name, paradigm).items()}
    trained = DistributedDataParallel(paradigm) if ranks > 1 else paradigm
    terms = trained(mine, 0.1)
    torch.stack(list(terms.values())).sum().backward()
    found = {f"term {k}": v.detach() for k, v in terms.items()}
    if ranks > 1:
        for value in found.values():
            dist.all_reduce(value)
            value /= ranks
    found |= {f"monitor {k}": torch.tensor(v) for k, v in paradigm.monitors().items()}
    found |= {k: v for k, v in paradigm.named_buffers()}
    return found | {k: p.grad for k, p in paradigm.named_parameters() if p.grad is not None}


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    found = {name: run(name, made, rank, RANKS) for name, made in recipes().items()}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, str(folder)), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("name", recipes())
def test_two_ranks_are_one_batch(name: str, ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    alone = run(name, recipes()[name], 0, 1)
    for mine in (found[name] for found in ranks):
        assert mine.keys() == alone.keys()
        for key, value in alone.items():
            if key.startswith("monitor excess_loss"):
                continue  # a rank's own share of it
            # Sums in another order: some parts in a hundred thousand of the largest entry.
            off = (mine[key] - value).abs().max()
            assert off <= 1e-4 * value.abs().max() + 1e-6, (key, float(off))
