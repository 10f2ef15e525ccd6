"""Processes with a share of a batch each are one process with the whole of it: loss, gradient,
state, and what steps of the training loop make of them; and so they are where each takes its share
image by image, or computes activations anew in the backward pass."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from radsweep.paradigms.base import Paradigm
from radsweep.pretrain.accumulate import average_gradients, backward_in_parts
from radsweep.pretrain.flops import flops_per_image
from radsweep.pretrain.loop import Progress, Ranks, make_optimiser, pretrain
from radsweep.specs import Budget, Cell, Recipe, Subset
from tests.paradigms.tiny import batch, build, recipe
from tests.processes import together

COUNT, STEPS, RANKS = 8, 3, (1, 2, pytest.param(4, marks=pytest.mark.slow))
Found = dict[str, Tensor]


def recipes() -> dict[str, Recipe]:
    return {
        "clip": recipe("clip", merge_duplicates=False),
        "clip merged": recipe("clip", merge_duplicates=True),
        "siglip": recipe("clip", loss="sigmoid"),
        "unicl": recipe("unicl"),
        "unicl sigmoid": recipe("unicl", loss="sigmoid"),
        # Its encoder normalises over the batch, which parts of a batch cannot: whole only.
        "batch norm": recipe(
            "clip",
            encoder="resnet10t",
            encoder_settings={"channels": "8,8,16,16", "stem_width": 4, "in_chans": 1},
        ),
        "centering": recipe("dinov2"),
        "gram": recipe("dinov2", gram_weight=2.0, local_crops=0),
        "sinkhorn": recipe("dinov2", targets="sinkhorn"),
        "clipped by module": recipe("dinov2", clip_norm=0.05, clip_each_module=True),
        "sinkhorn and batch norm": recipe(
            "dinov2",
            targets="sinkhorn",
            head_batch_norm=True,
            separate_patch_head=True,
            koleo_weight=0.2,
        ),
    }


def given(name: str, paradigm: Paradigm) -> dict[str, Tensor]:
    whole = batch(paradigm, COUNT)
    if name.startswith("unicl"):
        whole["same"][1] = -1  # one rank has a pair without a text, the other has none
    return whole


def run(made: Recipe, whole: dict[str, Tensor], rank: int, ranks: int, parts: bool) -> Found:
    """One step's terms, monitors, buffers and gradients; with ranks, of this rank's share."""
    paradigm = build(made)
    share = COUNT // ranks
    mine = {k: v[rank * share : (rank + 1) * share] for k, v in whole.items()}
    if parts:
        at_once = 3 if ranks == 1 else 1
        terms = backward_in_parts(paradigm, mine, 0.1, at_once, nullcontext)
        average_gradients(paradigm, ranks)
    else:
        trained = DistributedDataParallel(paradigm) if ranks > 1 else paradigm
        terms = trained(mine, 0.1)
        torch.stack(list(terms.values())).sum().backward()
    found = {f"term {k}": v.detach() for k, v in terms.items()}
    if ranks > 1:
        for value in found.values():
            dist.all_reduce(value)
            value /= ranks
    found["flops"] = torch.tensor(flops_per_image(paradigm, made))
    found |= {f"monitor {k}": torch.tensor(v) for k, v in paradigm.monitors().items()}
    found |= {k: v for k, v in paradigm.named_buffers()}
    return found | {k: p.grad for k, p in paradigm.named_parameters() if p.grad is not None}


def train(made: Recipe, rank: int, ranks: int, **placed: bool) -> Found:
    """All that the loop leaves after ``STEPS`` steps: weights, teacher, centres, moments, log."""
    made = dataclasses.replace(made, warmup=0.0)
    paradigm, share = build(made), COUNT // ranks
    batches = [
        {k: v[rank * share : (rank + 1) * share].numpy() for k, v in one.items()}
        for one in (batch(paradigm, COUNT, seed) for seed in range(STEPS))
    ]
    optimiser, progress = make_optimiser(paradigm, made), Progress()
    for group in optimiser.param_groups:
        # AdamW makes whole steps of a gradient that is nothing but rounding; this keeps it one.
        group["eps"] = 1e-3
    cell = Cell(
        recipe=made, subset=Subset(corpus="toy@1", images=COUNT),
        budget=Budget(steps=STEPS, batch_size=COUNT),
    )  # fmt: skip
    pretrain(
        cell, paradigm, optimiser, batches, steps=STEPS, progress=progress,
        ranks=Ranks(rank=rank, size=ranks), report=lambda row: None, checkpoint=lambda: None,
        checkpoint_steps=10**6, **placed,
    )  # fmt: skip
    assert progress.step == STEPS
    found = {f"state {name}": value for name, value in paradigm.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        found |= {f"{name} of {number}": value for name, value in moments.items()}
    logged = {k: v for k, v in progress.rows[-1].items() if k.startswith(("loss", "monitor"))}
    return found | {f"log {name}": torch.tensor(value) for name, value in logged.items()}


def all_ways(rank: int, ranks: int) -> dict[str, Found]:
    found = {}
    for name, made in recipes().items():
        whole = given(name, build(made))
        found[f"{name} whole"] = run(made, whole, rank, ranks, parts=False)
        if name != "batch norm":
            found[f"{name} parts"] = run(made, whole, rank, ranks, parts=True)
        found[f"{name} steps"] = train(made, rank, ranks)
        anew = train(made, rank, ranks, activation_checkpointing=True)
        found[f"{name} steps with activations computed anew"] = anew
    return found


def _rank(rank: int, ranks: int, folder: str) -> None:
    torch.save(all_ways(rank, ranks), Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module", params=RANKS)
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Found]]:
    count: int = request.param
    if count == 1:
        return [all_ways(0, 1)]
    folder = tmp_path_factory.mktemp("ranks")
    together(_rank, count, count, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Found]:
    return {
        name: run(made, given(name, build(made)), 0, 1, parts=False)
        for name, made in recipes().items()
    }


def assert_same(mine: Found, expected: Found) -> None:
    assert mine.keys() == expected.keys()
    for key, value in expected.items():
        # Sums in another order: some parts in a hundred thousand of the largest entry.
        off = (mine[key] - value).abs().max()
        assert off <= 1e-4 * value.abs().max() + 1e-6, (key, float(off))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name in recipes()
        for way in ("whole", "parts")
        if way == "whole" or name != "batch norm"
    ],
)
def test_ranks_and_parts_are_one_batch(
    name: str, way: str, ranks: list[dict[str, Found]], alone: dict[str, Found]
) -> None:
    for found in ranks:
        assert_same(found[f"{name} {way}"], alone[name])


@pytest.fixture(scope="module")
def steps_alone() -> dict[str, Found]:
    return {name: train(made, 0, 1) for name, made in recipes().items()}


@pytest.mark.parametrize("name", recipes())
def test_steps_of_ranks_leave_the_state_of_one_process(
    name: str, ranks: list[dict[str, Found]], steps_alone: dict[str, Found]
) -> None:
    left, start = steps_alone[name], build(recipes()[name]).state_dict()
    moved = [key for key, value in start.items() if not torch.equal(left[f"state {key}"], value)]
    assert len(moved) > len(start) / 2
    for found in ranks:
        assert_same(found[f"{name} steps"], left)
        assert_same(found[f"{name} steps with activations computed anew"], left)
