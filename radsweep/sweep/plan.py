"""Which cells are missing, and what they cost, before a cent is spent.

Needs the store and nothing that computes: no torch, no Ray.
"""

import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from radsweep import parts
from radsweep.corpus.strata import check_columns
from radsweep.errors import SpecError
from radsweep.specs import Cell, Recipe, Sweep
from radsweep.store import Store
from radsweep.store.cost import Cost
from radsweep.store.layout import corpus_folder, sweep_file
from radsweep.store.record import finished
from radsweep.sweep.starts import missing_start, require_one_start

CostOf = Callable[[Recipe], Cost]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One row of the price table."""

    name: str
    devices: int
    tflops: float
    """Dense bf16 peak of one device, in 10^12 operations a second."""
    utilisation: float
    """Share of the peak that training uses."""
    usd_per_hour: float
    """For the whole machine."""
    start_s: float = 0.0
    """From the request for one until Ray runs on it."""
    spot_losses_per_hour: float = 0.0
    """How often a spot one is taken away."""

    def device_hours(self, flops: float) -> float:
        """Hours of one device that this many operations take."""
        return flops / (self.tflops * 1e12 * self.utilisation) / 3600

    def usd(self, device_hours: float) -> float:
        """What they cost when all devices of the machine are kept busy."""
        return device_hours / self.devices * self.usd_per_hour


def read_machine(name: str, prices: Path | None) -> Machine:
    """One machine of the price table (ours, or the user's own file).

    Raises SpecError if it is not there, or the file is not.
    """
    if prices is not None and not prices.is_file():
        raise SpecError(f"there is no price table {prices}; correct --prices, or leave it out")
    text = (prices or resources.files("radsweep.sweep").joinpath("prices.toml")).read_text()
    machines: dict[str, dict[str, Any]] = tomllib.loads(text)["machines"]
    if name not in machines:
        raise SpecError(
            f"no machine {name!r} in the price table; {parts.did_you_mean(name, sorted(machines))}"
        )
    return Machine(name=name, **machines[name])


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One cell: where it stands and what it takes."""

    cell: str
    paradigm: str
    images: int
    seed: int
    state: str
    """``done``, ``missing`` (to be run) or ``blocked`` (cannot be run; see ``reason``)."""
    reason: str | None
    steps: int | None
    images_seen: int | None
    epochs: float | None
    flops: float
    device_hours: float
    usd: float
    weight_bytes: int
    """Kept in the store when done; while it runs, up to two checkpoints of thrice that, roughly."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole grid."""

    sweep: str
    corpus: str
    corpus_images: int
    """Images that pretraining may use."""
    machine: Machine
    cells: tuple[CellPlan, ...]
    warnings: tuple[str, ...]
    """What can be run and will not give what it seems to, such as reports on few of the images."""

    def count(self, state: str) -> int:
        """Cells in a state."""
        return sum(cell.state == state for cell in self.cells)

    def total(self, field: str, state: str = "missing") -> float:
        """Sum of a number over the cells in a state."""
        return float(sum(asdict(cell)[field] for cell in self.cells if cell.state == state))


def check(sweep: Sweep, store: Store) -> dict[str, Any]:
    """Find the user's faults before compute is spent; gives the corpus card.

    Raises SpecError for a corpus that is not there or too small, for a column to stratify by, a
    paradigm or a task that it has nothing for, and for cells that started from different weights
    under one name.
    """
    card = _card(store, sweep.corpus)
    available = card["splits"]["pretrain"]["images"]
    largest = sweep.images[-1]
    if largest > available:
        raise SpecError(
            f"sweep {sweep.name} asks for {largest:,} images and corpus {sweep.corpus} has "
            f"{available:,} for pretraining; lower `images` or ingest more"
        )
    check_columns(sweep.stratify_by, card["label_columns"])
    for paradigm in _paradigms(sweep):
        columns = parts.columns("paradigms", paradigm)
        if columns and _fed(card, paradigm) == 0:
            raise SpecError(
                f"paradigm {paradigm} learns from {_spoken(columns)}, and corpus {sweep.corpus} "
                f"has none for pretraining; take {_pixels_alone()}, or ingest with "
                + " or ".join(FED_BY[column].option for column in columns)
            )
    if sweep.protocol is not None:
        scored_on = sweep.protocol.corpus or sweep.corpus
        for task in sweep.protocol.tasks:
            parts.find("tasks", task).check(_card(store, scored_on))  # type: ignore[attr-defined]
    require_one_start(sweep, store)
    return card


def warnings(sweep: Sweep, card: dict[str, Any]) -> tuple[str, ...]:
    """What the user should know before paying: paradigms for which few of the images have a text.

    Args:
        sweep: one that ``check`` let pass.
        card: the card that it gave.
    """
    images, batch_size = card["splits"]["pretrain"]["images"], sweep.budget.batch_size
    said = []
    for paradigm in _paradigms(sweep):
        columns = parts.columns("paradigms", paradigm)
        fed = _fed(card, paradigm) if columns else images
        if fed < ENOUGH_FED * images:
            # Of labels the card counts each one, and not the images that have any.
            count = f"{fed:,}" if columns == ("report",) else f"the best known is there for {fed:,}"
            in_batch = batch_size * fed / images
            said.append(
                f"paradigm {paradigm} learns from {_spoken(columns)}: {count} of {images:,} images "
                f"for pretraining, about {in_batch:.1f} in a batch of {batch_size}; an image "
                "without teaches it nothing, and a cell ends where a batch has too few"
            )
    return tuple(said)


@dataclass(frozen=True, kw_only=True)
class _Feed:
    """What a paradigm's column is called, and how it gets into a corpus."""

    spoken: str
    option: str


FED_BY = {
    "report": _Feed(spoken="reports", option="--reports"),
    "labels": _Feed(spoken="labels", option="--labels"),
}
"""Everything that a corpus can give a paradigm beside pixels."""

ENOUGH_FED = 0.5
"""Share of the images for pretraining that should have what a paradigm learns from."""


def _paradigms(sweep: Sweep) -> tuple[str, ...]:
    return tuple(dict.fromkeys(recipe.paradigm for recipe in sweep.recipes))


def _spoken(columns: tuple[str, ...]) -> str:
    return " or ".join(FED_BY[column].spoken for column in columns)


def _pixels_alone() -> str:
    """The paradigms that any corpus can feed."""
    return " or ".join(n for n in parts.names("paradigms") if not parts.columns("paradigms", n))


def _fed(card: dict[str, Any], paradigm: str) -> int:
    """Images for pretraining that can teach the paradigm anything, by its best-filled column.

    Raises SpecError for a column that no corpus has.
    """
    pretrain: dict[str, int] = card["splits"]["pretrain"]
    missing: list[int] = [counts["pretrain_missing"] for counts in card["labels"].values()]
    known = pretrain["images"] - min(missing, default=pretrain["images"])
    filled = {"report": pretrain["reports"], "labels": known}
    columns = parts.columns("paradigms", paradigm)
    for column in columns:
        if column not in filled:
            raise SpecError(
                f"paradigm {paradigm} reads {column!r} of a corpus; "
                f"{parts.did_you_mean(column, sorted(filled))}"
            )
    return max(filled[column] for column in columns)


def _card(store: Store, corpus: str) -> dict[str, Any]:
    path = f"{corpus_folder(corpus)}/card.json"
    if not store.exists(path):
        known = store.names("corpora")
        hint = parts.did_you_mean(corpus, known) if known else "the store has none yet"
        raise SpecError(
            f"corpus {corpus} is not in the store {store.url} ({hint}); make it with "
            f"`radsweep ingest SRC --corpus {corpus}`"
        )
    card: dict[str, Any] = store.read_json(path)
    return card


def make_plan(sweep: Sweep, store: Store, machine: Machine, cost_of: CostOf) -> Plan:
    """The grid with states and costs. Raises SpecError as ``check`` does.

    Args:
        sweep: what is wanted.
        store: what is there.
        machine: what it would run on.
        cost_of: counts or recalls what a recipe costs.
    """
    card, cells = check(sweep, store), sweep.cells()
    done = set(finished(store, cells))
    # Once each: there are hundreds of cells of a recipe.
    starts = dict.fromkeys(cell.recipe.start_from for cell in cells if cell not in done)
    reasons = {start: missing_start(start, store) for start in starts}
    costs = {recipe: cost_of(recipe) for recipe in dict.fromkeys(cell.recipe for cell in cells)}
    planned = []
    for cell in cells:
        reason = None if cell in done else reasons[cell.recipe.start_from]
        state = "done" if cell in done else "blocked" if reason else "missing"
        planned.append(_plan_cell(cell, state, reason, machine, costs[cell.recipe]))
    return Plan(
        sweep=sweep.name,
        corpus=sweep.corpus,
        corpus_images=card["splits"]["pretrain"]["images"],
        machine=machine,
        cells=tuple(planned),
        warnings=warnings(sweep, card),
    )


def keep_plan(plan: Plan, store: Store) -> None:
    """Write the plan down, so that what was spent can be held against it; replaces an older one."""
    machine, cells = plan.machine, plan.cells
    said = {
        "machine": machine.name,
        "usd_per_device_hour": machine.usd(1.0),
        "device_hours": sum(cell.device_hours for cell in cells),
        "usd": sum(cell.usd for cell in cells),
        "weights_gigabytes": sum(cell.weight_bytes for cell in cells) / 1e9,
        "cells": {cell.cell: cell.device_hours for cell in cells},
    }
    store.write_json(sweep_file(plan.sweep, "plan.json"), said)


def _plan_cell(
    cell: Cell, state: str, reason: str | None, machine: Machine, cost: Cost
) -> CellPlan:
    steps: int | None = 0
    flops = 0.0
    if not cell.is_baseline:
        per_image = cost.flops_per_image
        steps = cell.budget.steps_for(per_image)
        if steps is not None:
            flops = per_image * steps * cell.budget.batch_size
        else:
            assert cell.budget.gpu_seconds is not None
            flops = cell.budget.gpu_seconds * machine.tflops * 1e12 * machine.utilisation
    images_seen = None if steps is None else steps * cell.budget.batch_size
    epochs = None if images_seen is None or cell.is_baseline else images_seen / cell.subset.images
    hours = machine.device_hours(flops)
    return CellPlan(
        cell=cell.name,
        paradigm=cell.recipe.paradigm,
        images=cell.subset.images,
        seed=cell.seed,
        state=state,
        reason=reason,
        steps=steps,
        images_seen=images_seen,
        epochs=epochs,
        flops=flops,
        device_hours=hours,
        usd=machine.usd(hours),
        weight_bytes=cost.weight_bytes,
    )
