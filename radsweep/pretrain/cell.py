"""From a cell to its encoder, in this process: weights in, budget spent, weights out; no Ray."""

import copy
import importlib.metadata
import math
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.distributed

from radsweep import parts
from radsweep.corpus.example import Viewer, Views
from radsweep.corpus.manifest import Corpus
from radsweep.corpus.pool import Pool
from radsweep.corpus.reader import Reader
from radsweep.corpus.subset import SubsetIndex, select
from radsweep.errors import BudgetError, CellError, SpecError
from radsweep.keys import canonical, seed_of
from radsweep.models.backbone import resized
from radsweep.models.batch_norm import require_global
from radsweep.models.weights import StartWeights, encoder_digest
from radsweep.paradigms.base import Paradigm
from radsweep.pretrain import checkpoint, shard
from radsweep.pretrain.chips import peak_flops
from radsweep.pretrain.cost import counted_cost
from radsweep.pretrain.flops import forward_flops
from radsweep.pretrain.loop import (
    REPORT_STEPS,
    Progress,
    Ranks,
    Row,
    make_optimiser,
    pretrain,
)
from radsweep.pretrain.neighbours import IMAGES, LEAST_IMAGES, Neighbours, steps_between
from radsweep.pretrain.start import start_weights
from radsweep.specs import Cell, Recipe
from radsweep.store import Store
from radsweep.store.record import CellStore, Record

VERSIONED = ("torch", "torchvision", "timm", "transformers", "ray", "numpy")
STATE_SECONDS = 1.0
"""Least time between two writes of ``state.json``: an object store charges per request."""

LOG_SECONDS = 60.0
"""Least time between two writes of the whole log while a cell runs, for those who watch it."""

MakeBatches = Callable[[SubsetIndex, Viewer, Ranks, int, int | None], Iterable[Views]]
"""(subset, viewer, ranks, first step, steps) -> this rank's batches."""


def build(
    recipe: Recipe,
    start: StartWeights | None,
    reports: Iterable[str],
    seed: int,
    identity: object | None = None,
) -> Paradigm:
    """The recipe's paradigm, its random parts seeded by the recipe and ``seed`` alone.

    Or by ``identity`` and ``seed``: recipes that share a baseline must draw the same one.
    """
    paradigm_class: type[Paradigm] = parts.find("paradigms", recipe.paradigm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("initialise", identity or canonical(recipe), seed) % 2**63)
        return paradigm_class.build(recipe, start, reports)


def fit(
    cell: Cell,
    store: Store,
    ranks: Ranks,
    make_batches: MakeBatches,
    *,
    checkpoint_steps: int,
    report: Callable[[Row], None],
    pool: Pool | None = None,
    images_at_once: int | None = None,
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
    sharded: bool = False,
    keep_every_steps: int | None = None,
    must_leave: Callable[[], bool] = lambda: False,
) -> Record:
    """Pretrain one cell and leave its weights and log in the store (rank 0); gives its record.

    Goes on from the newest checkpoint where there is one. Neither takes the lease nor writes
    ``DONE``: that is the driver's.

    Args:
        cell: what to do.
        store: where the corpus, the starting weights and the cell's folder are.
        ranks: this process among those that train the cell.
        make_batches: the stream, with or without Ray.
        checkpoint_steps: steps between checkpoints.
        report: is given each log row, on every rank.
        pool: see ``loop.pretrain``.
        images_at_once: see ``loop.pretrain``.
        activation_checkpointing: see ``loop.pretrain``. What is computed anew is not counted.
        compile_blocks: see ``loop.pretrain``.
        sharded: whether ranks share weights and moments, see ``shard``.
        keep_every_steps: checkpoints at multiples of it stay, beside the newest; a multiple of
            ``checkpoint_steps``.
        must_leave: see ``loop.pretrain``.

    Raises CellError where the cell ends without an encoder that may be scored; its log is in the
    store all the same; SpecError where several ranks cannot train the encoder as one would, and
    from ``require_alike`` and ``shard.check``; StoreError, or what else it was, where a
    checkpoint could not be written; PreemptedError where it must leave.
    """
    corner = CellStore(store, cell.name)
    corpus = Corpus.open(store, cell.subset.corpus)
    subset = select(corpus, cell.subset)
    start = start_weights(store, cell.recipe.start_from)
    shared = cell.identity if cell.is_baseline else None
    paradigm = build(cell.recipe, start, subset.reports(), cell.seed, shared)
    if ranks.size > 1:
        require_global(paradigm)
    if sharded and not cell.is_baseline:
        shard.check(
            paradigm,
            ranks.size,
            images_at_once=images_at_once,
            activation_checkpointing=activation_checkpointing,
            compile_blocks=compile_blocks,
        )
    start_digest = encoder_digest(paradigm.encoder.state_dict())
    progress, per_image = Progress(), 0.0
    if not cell.is_baseline:
        per_image = counted_cost(cell.recipe, store, lambda: paradigm).flops_per_image
        progress = _spend(
            cell,
            corner,
            paradigm,
            ranks,
            lambda first, steps: make_batches(subset, paradigm.viewer(), ranks, first, steps),
            _watcher(cell, store, subset, paradigm, ranks, per_image),
            per_image=per_image,
            checkpoint_steps=checkpoint_steps,
            report=report,
            pool=pool,
            images_at_once=images_at_once,
            activation_checkpointing=activation_checkpointing,
            compile_blocks=compile_blocks,
            sharded=sharded,
            keep_every_steps=keep_every_steps,
            must_leave=must_leave,
        )
    if ranks.rank == 0:
        _save_weights(corner, paradigm.cpu())
        _save_log(corner, progress)
    images_seen = progress.step * cell.budget.batch_size
    on_gpu = ranks.device.type == "cuda"
    return Record(
        cell=cell.name,
        key=cell.key,
        images=subset.images,
        patients=subset.patients,
        subset_digest=subset.digest,
        images_seen=images_seen,
        steps=progress.step,
        epochs=images_seen / subset.images if subset.images else 0.0,
        flops_per_image=per_image,
        flops=per_image * images_seen,
        seconds=progress.seconds,
        gpu_seconds=progress.worker_seconds if on_gpu else 0.0,
        workers=progress.workers or ranks.size,
        device=_device_name(ranks),
        encoder_digest=encoder_digest(paradigm.encoder.state_dict()),
        start_digest=start_digest,
        final_losses={
            name: value
            for name, value in (progress.rows[-1].items() if progress.rows else ())
            if name.startswith("loss") and value is not None
        },
        versions={name: importlib.metadata.version(name) for name in VERSIONED},
    )


def _spend(
    cell: Cell,
    corner: CellStore,
    paradigm: Paradigm,
    ranks: Ranks,
    batches_from: Callable[[int, int | None], Iterable[Views]],
    watch: Callable[[Paradigm], Neighbours | None],
    *,
    per_image: float,
    checkpoint_steps: int,
    report: Callable[[Row], None],
    pool: Pool | None,
    images_at_once: int | None,
    activation_checkpointing: bool,
    compile_blocks: bool,
    sharded: bool,
    keep_every_steps: int | None,
    must_leave: Callable[[], bool],
) -> Progress:
    """Train to the end of the budget, from the newest checkpoint; leave the log however it ends."""
    steps = cell.budget.steps_for(per_image)
    require_alike(cell, _of_all_ranks(_device_name(ranks), ranks))
    hosts = _of_all_ranks(socket.gethostname(), ranks)
    trained = copy.deepcopy(paradigm) if sharded else paradigm
    if sharded:
        # Block by block to the device, which may not have room for all.
        shard.shard(trained, ranks.device)
    trained.to(ranks.device)
    optimiser = make_optimiser(trained, cell.recipe)
    # Every attempt starts from the same random state; a checkpoint then overwrites it.
    torch.manual_seed(seed_of("train", cell.key, ranks.rank) % 2**63)
    neighbours = watch(trained)
    progress = checkpoint.load(corner, trained, optimiser, ranks.device, ranks.rank)
    peak = peak_flops(_device_name(ranks), cell.recipe.precision)
    said_at, logged_at, rows_before = 0.0, time.monotonic(), len(progress.rows)

    def say(row: Row) -> None:
        where: dict[str, float | str] = {
            "workers": progress.workers,
            "device": _device_name(ranks),
        }
        if pool is not None:
            where["stream_cpus_most"] = pool.most
        rank = row["slowest_rank"]
        if rank is not None:
            where["slowest_host"] = hosts[int(rank)]
        # JSON has no word for the loss of a cell that diverged.
        figures = {key: row[key] for key in TOLD}
        known = {key: v for key, v in figures.items() if v is None or math.isfinite(v)}
        corner.set_state("running", **where, **known)

    def tell(row: Row) -> None:
        nonlocal said_at, logged_at
        if ranks.rank == 0 and time.monotonic() - said_at > STATE_SECONDS:
            said_at = time.monotonic()
            say(row)
        if ranks.rank == 0 and time.monotonic() - logged_at > LOG_SECONDS:
            logged_at = time.monotonic()
            _save_log(corner, progress)
        report(row)

    with checkpoint.Checkpoints(corner, keep_every_steps) as checkpoints:

        def keep() -> None:
            state = checkpoint.gather(trained, optimiser, ranks.device, ranks.rank)
            if ranks.rank == 0:
                checkpoints.save(state, progress)

        try:
            pretrain(
                cell,
                trained,
                optimiser,
                batches_from(progress.step, steps),
                steps=steps,
                progress=progress,
                ranks=ranks,
                report=tell,
                checkpoint=keep,
                checkpoint_steps=checkpoint_steps,
                neighbours=neighbours,
                peak_images_per_second=None if peak is None else peak * ranks.size / per_image,
                pool=pool,
                images_at_once=images_at_once,
                activation_checkpointing=activation_checkpointing,
                compile_blocks=compile_blocks,
                must_leave=must_leave,
            )
            audit(cell, per_image, progress)
        except CellError:
            # Why a cell was lost is to be seen in its curves, and how far it had come.
            if ranks.rank == 0:
                _save_log(corner, progress)
                # Of this attempt: an earlier one may have had other ranks.
                if len(progress.rows) > rows_before:
                    say(progress.rows[-1])
            raise
    if sharded:
        paradigm.load_state_dict(shard.whole(trained.state_dict()))
    return progress


def _watcher(
    cell: Cell,
    store: Store,
    subset: SubsetIndex,
    paradigm: Paradigm,
    ranks: Ranks,
    per_image: float,
) -> Callable[[Paradigm], Neighbours | None]:
    """Makes what watches the neighbours of the subset's first images, from starting weights.

    None where these are too few, or the budget has no room for one measurement.
    """
    count, size = min(IMAGES, subset.images), cell.recipe.image_size
    if count < LEAST_IMAGES:
        return lambda trained: None
    forward = forward_flops(paradigm.encoder, size)
    every = steps_between(count, forward, per_image, cell.budget.batch_size, REPORT_STEPS)
    steps = cell.budget.steps_for(per_image)
    if steps is not None and steps < every:
        return lambda trained: None
    share = math.ceil(count / ranks.size)
    rows = (np.arange(share) + ranks.rank * share).clip(max=count - 1)
    pixels = [example.pixels for example in Reader(store, subset.table).examples(rows)]
    images = resized(torch.from_numpy(np.stack(pixels)[:, None]), size)
    return lambda trained: Neighbours(cell, trained, images, count, every)


def require_alike(cell: Cell, devices: Sequence[str]) -> None:
    """Raise SpecError unless all ranks have the same kind of device.

    Shares of a batch are equal, so that each step would wait for the slowest, and a second of one
    kind is no second of another.

    Args:
        cell: whose ranks they are.
        devices: the name of each rank's.
    """
    kinds = Counter(devices)
    if len(kinds) > 1:
        said = ", ".join(f"{count} x {name}" for name, count in kinds.most_common())
        raise SpecError(
            f"{cell.name}: its processes got devices of {len(kinds)} kinds ({said}), and every "
            "step would wait for the slowest; leave one kind in the cluster's GPU pools"
        )


def _of_all_ranks(name: str, ranks: Ranks) -> list[str]:
    names = [name] * ranks.size
    if ranks.size > 1:
        torch.distributed.all_gather_object(names, name)
    return names


def _device_name(ranks: Ranks) -> str:
    return torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu"


TOLD = (
    *("spent", "step", "images_seen", "seconds"),
    *("loss", "images_per_second", "data_wait", "stream_cpus", "mfu"),
    *("slowest_rank", "slowest_times"),
)
"""Figures of a log row that ``state.json`` repeats while the cell runs."""

BUDGET_TOLERANCE = 0.01


def audit(cell: Cell, per_image: float, progress: Progress) -> None:
    """Raise BudgetError unless the cell spent its budget within one percent (one step at least).

    A budget of GPU-seconds ends with the step that crosses it, which may be a slow one: two mean
    steps.
    """
    budget, images_seen = cell.budget, progress.step * cell.budget.batch_size
    seconds = progress.worker_seconds
    for unit, given, spent, one_step in (
        ("images_seen", budget.images_seen, images_seen, budget.batch_size),
        ("steps", budget.steps, progress.step, 1),
        ("flops", budget.flops, per_image * images_seen, per_image * budget.batch_size),
        ("gpu_seconds", budget.gpu_seconds, seconds, 2 * seconds / max(progress.step, 1)),
    ):
        if given is not None and abs(spent - given) > max(BUDGET_TOLERANCE * given, one_step):
            raise BudgetError(
                f"{cell.name} spent {spent:g} {unit} of a budget of {given:g}; run it again"
            )


def _save_weights(corner: CellStore, paradigm: Paradigm) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        paradigm.save(Path(scratch))
        for file in sorted(Path(scratch).iterdir()):
            corner.store.write_bytes(corner.path(file.name), file.read_bytes())


def _save_log(corner: CellStore, progress: Progress) -> None:
    rows = pl.DataFrame(progress.rows, infer_schema_length=None)
    # A figure that is missing everywhere is a column of numbers all the same.
    corner.store.write_table(corner.path("steps.parquet"), rows.cast({pl.Null: pl.Float64}))
