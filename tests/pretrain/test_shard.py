"""Processes that share the weights train as if each had them all, and leave the same files."""

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load as load_safetensors
from torch.optim import AdamW

from radsweep.corpus.example import Viewer, Views
from radsweep.corpus.subset import SubsetIndex
from radsweep.errors import SpecError
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain import cell
from radsweep.pretrain.cell import fit
from radsweep.pretrain.loop import Ranks, make_optimiser
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.test_activation_checkpointing import CASES as ANEW
from tests.paradigms.test_ranks import recipes
from tests.paradigms.tiny import recipe
from tests.pretrain.test_cell import BATCH, batches
from tests.processes import together

STEPS, KEPT_AT = 6, 3
STILL_DAVIT = {
    k: v for k, v in dict(ANEW["davit"].encoder_settings).items() if k != "drop_path_rate"
}
CASES = {
    "clip": recipe("clip", warmup=0.0),
    "sigmoid": recipe("clip", loss="sigmoid", warmup=0.0),
    "batch norm": recipes()["batch norm"],
    "davit": dataclasses.replace(ANEW["davit"], encoder_settings=STILL_DAVIT),
    "dinov2": recipe("dinov2", targets="sinkhorn", head_batch_norm=True, warmup=0.0),
    "clipped by module": recipe("clip", clip_norm=0.05, clip_each_module=True, warmup=0.0),
    "gram": recipe("dinov2", gram_weight=2.0, gram_refresh=0.5, drop_path=0.0, warmup=0.0),
}
FULLY = ("clip", "dinov2")
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # How the first three steps are taken, and how the rest after a loss.
    "copies": ({}, {}),
    "shares": ({"sharded": True}, {"sharded": True}),
    "shares, then copies": ({"sharded": True}, {}),
    "copies, then shares": ({}, {"sharded": True}),
    "shares, activations anew": ({"sharded": True, "activation_checkpointing": True},) * 2,
}


def ways(name: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """All of them for one tower and for two; the others share from first to last."""
    return {way: how for way, how in WAYS.items() if name in FULLY or way in ("copies", "shares")}


def steady(paradigm: Paradigm, made: Recipe) -> AdamW:
    """AdamW makes whole steps of a gradient that is nothing but rounding; this keeps it one."""
    optimiser = make_optimiser(paradigm, made)
    for group in optimiser.param_groups:
        group["eps"] = 1e-3
    return optimiser


class _LostError(Exception):
    """Of a machine that went away."""


def cell_of(made: Recipe) -> Cell:
    budget = Budget(steps=STEPS, batch_size=BATCH)
    return Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget)


def share_of_batches(
    subset: SubsetIndex, viewer: Viewer, ranks: Ranks, first: int, steps: int | None
) -> Iterable[Views]:
    share = BATCH // ranks.size
    for views in batches(subset, viewer, ranks, first, steps):
        own = slice(ranks.rank * share, (ranks.rank + 1) * share)
        yield {name: value[own] for name, value in views.items()}


def until_lost(*given: Any) -> Iterable[Views]:
    for step, views in enumerate(share_of_batches(*given), given[3]):
        if step == KEPT_AT + 1:
            raise _LostError
        yield views


def _rank(rank: int, folder: str) -> None:
    setattr(cell, "make_optimiser", steady)  # noqa: B010
    for name, made in CASES.items():
        for way, (first, second) in ways(name).items():
            store = Store(str(Path(folder) / name / way))
            for source, how in ((until_lost, first), (share_of_batches, second)):
                try:
                    fit(
                        cell_of(made), store, Ranks(rank=rank, size=2), source,
                        checkpoint_steps=KEPT_AT, report=lambda row: None, **how,
                    )  # fmt: skip
                except _LostError:
                    dist.barrier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shards")
    for name in CASES:
        for way in WAYS:
            write_corpus(Store(str(made / name / way)))
    together(_rank, 2, str(made))
    return made


def left_by(folder: Path, name: str, way: str) -> dict[str, torch.Tensor]:
    store = Store(str(folder / name / way))
    corner, found = CellStore(store, cell_of(CASES[name]).name), {}
    for file in ("encoder.safetensors", "paradigm.safetensors"):
        weights = load_safetensors(store.read_bytes(corner.path(file)))
        found |= {f"{file} {key}": value for key, value in weights.items()}
    kept = torch.load(
        Path(folder / name / way / corner.path(f"checkpoints/{KEPT_AT:09d}.pt")), weights_only=True
    )
    found |= {f"kept {key}": value for key, value in kept["paradigm"].items()}
    for number, moments in kept["optimiser"]["state"].items():
        found |= {f"kept {key} of {number}": value for key, value in moments.items()}
    return found


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in CASES for way in ways(name) if way != "copies"]
)
def test_shares_leave_the_files_of_copies(name: str, way: str, folder: Path) -> None:
    found, expected = left_by(folder, name, way), left_by(folder, name, "copies")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        off = (found[key] - value).abs().max()
        assert off <= 1e-5 * value.abs().max() + 1e-6, (key, float(off))


WIDTHS = {"one to two": (1, 2), "two to one": (2, 1), "two to four": (2, 4)}


def _attempts(rank: int, size: int, folder: str) -> None:
    """A group's part in every change of width: to the loss as the first, and on as the second."""
    setattr(cell, "make_optimiser", steady)  # noqa: B010
    for (way, widths), name in itertools.product(WIDTHS.items(), FULLY):
        for width, source in zip(widths, (until_lost, share_of_batches), strict=True):
            kept = Path(folder) / name / way / "cells" / cell_of(CASES[name]).name / "checkpoints"
            if width != size or kept.exists() == (source is until_lost):
                continue
            if size > 1:
                dist.barrier()
            try:
                fit(
                    cell_of(CASES[name]), Store(str(Path(folder) / name / way)),
                    Ranks(rank=rank, size=size), source, checkpoint_steps=KEPT_AT,
                    report=lambda row: None, sharded=size > 1,
                )  # fmt: skip
            except _LostError:
                if size > 1:
                    dist.barrier()


@pytest.mark.slow
def test_shares_go_on_at_another_width(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, way in itertools.product(FULLY, WIDTHS):
        write_corpus(Store(str(tmp_path / name / way)))
    monkeypatch.setattr(cell, "make_optimiser", steady)
    for size in (1, 2, 1, 4):
        if size == 1:
            _attempts(0, size, str(tmp_path))
        else:
            together(_attempts, size, size, str(tmp_path))
    for name, way in itertools.product(FULLY, WIDTHS):
        store = Store(str(tmp_path / name / way))
        log = store.read_table(CellStore(store, cell_of(CASES[name]).name).path("steps.parquet"))
        assert log["workers"][-1] == WIDTHS[way][1]
        found, expected = left_by(tmp_path, name, way), left_by(folder, name, "copies")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            off = (found[key] - value).abs().max()
            assert off <= 1e-5 * value.abs().max() + 1e-6, (name, way, key, float(off))


def test_what_cannot_be_shared_says_so(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_corpus(store)
    for name, size, more, message in (
        ("clip", 1, {}, "give more --workers"),
        ("clip", 2, {"images_at_once": 2}, "neither with --images-at-once"),
        ("clip", 2, {"compile_blocks": True}, "nor with --compile"),
        ("batch norm", 2, {"activation_checkpointing": True}, "of a ResNet do not go"),
    ):
        with pytest.raises(SpecError, match=message):
            fit(
                cell_of(CASES[name]), store, Ranks(size=size), batches, checkpoint_steps=9,
                report=lambda row: None, sharded=True, **more,
            )  # fmt: skip
