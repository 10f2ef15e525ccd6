"""Ray around the loop: a cell as a Ray task on one device, or as a Ray Train run on several."""

import gc
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.exceptions import RayError, RayTaskError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from radsweep.corpus.example import Viewer, Views
from radsweep.corpus.pool import Pool
from radsweep.corpus.stream import stream
from radsweep.corpus.subset import SubsetIndex
from radsweep.errors import CellError, PreemptedError, SpecError
from radsweep.keys import seed_of
from radsweep.loggers.base import open_logger
from radsweep.pretrain.cell import fit
from radsweep.pretrain.checkpoint import newest
from radsweep.pretrain.loop import Ranks, Row
from radsweep.pretrain.metrics import CellGauges
from radsweep.pretrain.nodes import HereIsDraining, cpus_left
from radsweep.pretrain.place import Workers, check_share
from radsweep.pretrain.width import Wish, forget, width_now
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record

LOG = logging.getLogger(__name__)

FAR_AHEAD_STEPS = 10_000_000
"""Steps that are planned for a budget in seconds; the stream is lazy, so they cost nothing."""

STAYING = threading.Event()
"""Never set: of a driver that stays until its cells are done."""


def _batches(cell: Cell, store: Store, pool: Pool) -> Any:
    def make(
        subset: SubsetIndex, viewer: Viewer, ranks: Ranks, first_step: int, steps: int | None
    ) -> Iterable[Views]:
        return stream(
            store,
            subset.table,
            viewer,
            seed=seed_of("stream", cell.subset.seed, cell.seed),
            batch_size=cell.budget.batch_size // ranks.size,
            world_size=ranks.size,
            rank=ranks.rank,
            first_step=first_step,
            steps=steps if steps is not None else FAR_AHEAD_STEPS,
            cpus=pool,
            # Each rank asks for itself, and they ask together.
            room=lambda: cpus_left() / ranks.size,
        )

    return make


def _train(cell: Cell, store: Store, workers: Workers) -> dict[str, Any]:
    """One rank of a Ray Train run; a bad end of the cell is an answer, not something to retry."""
    context = ray.train.get_context()
    ranks = Ranks(rank=context.get_world_rank(), size=context.get_world_size(), device=get_device())
    torch.set_num_threads(max(1, int(workers.cpus)))
    watchers = _watchers(cell, workers) if ranks.rank == 0 else nullcontext()
    with watchers as tell, _wider(cell, ranks, workers) as can_be_wider:

        def report(row: Row) -> None:
            # A barrier as well, and Ray's own heartbeat; figures of record go to the store.
            ray.train.report({"spent": row["spent"], "loss": row["loss"]})
            if tell is not None:
                tell(row)

        def must_leave() -> bool:
            # A barrier over the ranks, so that all of them hear the same.
            return ray.train.get_preemption_info() is not None or can_be_wider()

        return _answer(cell, store, ranks, workers, report, must_leave)


def _alone(cell: Cell, store: Store, workers: Workers) -> dict[str, Any]:
    """The whole cell in this process."""
    # A baseline is only loaded, and may be on a node that has no GPU.
    device = torch.device("cuda" if workers.gpus and not cell.is_baseline else "cpu")
    torch.set_num_threads(max(1, int(workers.cpus)))
    ranks = Ranks(device=device)
    is_draining = HereIsDraining()
    if not gc.get_freeze_count():
        # What was imported is there to stay: to look through it for cycles took 0.4 s of each cell.
        gc.freeze()
    with _watchers(cell, workers) as tell, _wider(cell, ranks, workers) as can_be_wider:
        answer = _answer(cell, store, ranks, workers, tell, lambda: is_draining() or can_be_wider())
    # Ray Data leaves references in cycles, and a node with a block that is referred to is not idle.
    gc.collect()
    return answer


def wish_name(cell: Cell) -> str:
    """Of what a cell asks of the cluster to become wider."""
    return f"{cell.name} wider"


@contextmanager
def _wider(cell: Cell, ranks: Ranks, workers: Workers) -> Iterator[Callable[[], bool]]:
    """Whether there is room for a wider group: a collective, which every rank hears alike."""
    widths = workers.widths(cell.budget.batch_size)
    more = next((width - ranks.size for width in widths if width > ranks.size), None)
    if more is None:
        yield lambda: False
        return
    wish = Wish(wish_name(cell), workers.process, workers.stream_cpus, more, workers.widen_seconds)

    def can_be_wider() -> bool:
        said = torch.tensor(int(ranks.rank == 0 and wish.is_granted()), device=ranks.device)
        if ranks.size > 1:
            torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        return bool(said)

    try:
        yield can_be_wider
    finally:
        wish.give_back()


@contextmanager
def _watchers(cell: Cell, workers: Workers) -> Iterator[Callable[[Row], None]]:
    """Tells log rows to those who watch the cell live; their faults are theirs, and told once."""
    gauges = CellGauges(cell)
    logger = None if workers.log_to is None else open_logger(workers.log_to, cell.name)

    def tell(row: Row) -> None:
        nonlocal logger
        gauges.tell(row)
        try:
            if logger is not None:
                logger.write(row)
        except Exception as fault:
            # Whatever it is: the log of record is in the store, and the cell goes on.
            logger = None
            LOG.warning("%s is told no more of %s: %s", workers.log_to, cell.name, fault)

    try:
        yield tell
    finally:
        try:
            if logger is not None:
                logger.close()
        except Exception as fault:
            LOG.warning("%s was not closed for %s: %s", workers.log_to, cell.name, fault)


def _answer(
    cell: Cell,
    store: Store,
    ranks: Ranks,
    workers: Workers,
    report: Callable[[Row], None],
    must_leave: Callable[[], bool],
) -> dict[str, Any]:
    most = workers.stream_cpus_most
    pool = Pool(least=workers.stream_cpus, most=workers.stream_cpus if most is None else most)
    try:
        record = fit(
            cell,
            store,
            ranks,
            _batches(cell, store, pool),
            checkpoint_steps=workers.checkpoint_steps,
            report=report,
            pool=pool,
            images_at_once=workers.images_at_once,
            activation_checkpointing=workers.activation_checkpointing,
            compile_blocks=workers.compile_blocks,
            sharded=workers.sharded,
            keep_every_steps=workers.keep_every_steps,
            must_leave=must_leave,
        )
    except PreemptedError as fault:
        return {"state": "preempted", "reason": str(fault)}
    except CellError as fault:
        return {"state": fault.state, "reason": str(fault)}
    except SpecError as fault:
        # As wrong the next time: an answer too.
        return {"state": "failed", "reason": str(fault)}
    except torch.OutOfMemoryError as fault:
        reason = _no_room(cell, ranks, workers, fault)
        if ranks.size > 1:
            # The other ranks wait for this one; Ray Train ends them where it raises.
            raise torch.OutOfMemoryError(reason) from fault
        return {"state": "failed", "reason": reason}
    return {"state": "done", "record": asdict(record)}


def _no_room(cell: Cell, ranks: Ranks, workers: Workers, fault: Exception) -> str:
    share = cell.budget.batch_size // ranks.size
    at_once = min(share, workers.images_at_once or share)
    less = f"--images-at-once {at_once // 2}, " if at_once > 1 else ""
    said = str(fault).partition(". ")[0]
    return (
        f"{cell.name}: no memory for {at_once} images at once on {ranks.device} ({said}); give "
        f"{less}more --workers or a larger device"
    )


def run_cell(
    cell: Cell, store: Store, workers: Workers, leaving: threading.Event = STAYING
) -> Record:
    """Pretrain one cell to its end on the connected cluster, from wherever it stands.

    A lost process or machine, a notice and a change of width all begin it again from its newest
    checkpoint, with as many processes as there is room for then.

    Args:
        cell: which.
        store: where its folder is.
        workers: its processes and devices.
        leaving: set as the driver is stopped and disconnects; what Ray raises then is passed on.

    Raises CellError with the cell's end state, Ray's own error where ``max_failures`` restarts
    from one checkpoint were not enough, PreemptedError where the driver leaves, or what
    ``check_share`` raises.
    """
    check_share(cell, workers)
    corner = CellStore(store, cell.name)
    failures, failed_at = 0, None
    while True:
        if leaving.is_set():
            raise PreemptedError(f"{cell.name}: its driver was stopped")
        try:
            answer = _attempt(cell, store, workers, leaving)
        except (WorkerGroupError, ControllerError, RayError):
            if leaving.is_set():
                # It is Ray that is gone: to ask it again would start another.
                raise
            kept = newest(corner)
            failures, failed_at = failures + 1 if kept == failed_at else 1, kept
            if failures > workers.max_failures:
                raise
        else:
            # Ray starts nothing on a node that is about to go, so the next attempt is elsewhere.
            if answer["state"] != "preempted":
                break
    if answer["state"] != "done":
        fault = CellError(answer["reason"])
        fault.state = answer["state"]
        raise fault
    return Record(**answer["record"])


def _attempt(
    cell: Cell, store: Store, workers: Workers, leaving: threading.Event
) -> dict[str, Any]:
    """From the newest checkpoint to the end of the cell, or until its machine is taken away."""
    width, is_elastic = 1, workers.most is not None
    if not cell.is_baseline:
        widths = workers.widths(cell.budget.batch_size)
        width = width_now(widths, workers.process, workers.stream_cpus)
    try:
        return (fit_alone if width == 1 else fit_with_ray_train)(cell, store, workers, width)
    finally:
        if is_elastic and not leaving.is_set():
            forget(wish_name(cell))


def fit_alone(cell: Cell, store: Store, workers: Workers, width: int = 1) -> dict[str, Any]:
    """One attempt as a Ray task: ``state`` and ``record`` or ``reason``; Ray's error if lost."""
    gpus = 0 if cell.is_baseline else workers.gpus
    # A process that had a GPU ends with its cell: it would hold memory beside what comes next.
    task = ray.remote(
        num_cpus=workers.cpus, num_gpus=gpus, max_retries=0, max_calls=1 if gpus else 0
    )(_alone).options(name=cell.name)
    try:
        answer: dict[str, Any] = ray.get(task.remote(cell, store, workers))
    except RayTaskError as raised:
        # What the task raised, without Ray's account of where.
        raise raised.cause if isinstance(raised.cause, Exception) else raised from None
    return answer


def fit_with_ray_train(cell: Cell, store: Store, workers: Workers, width: int) -> dict[str, Any]:
    """The same as a group of ``width`` processes under Ray Train."""
    trainer = TorchTrainer(
        # As its configuration, Ray Train's controller would read them: and import all that trains.
        partial(_train, cell, store, workers),  # type: ignore[arg-type]
        torch_config=TorchConfig(
            backend="nccl" if workers.gpus else "gloo", timeout_s=workers.hung_seconds
        ),
        scaling_config=ScalingConfig(
            num_workers=width, use_gpu=workers.gpus > 0, resources_per_worker=workers.process
        ),
        # Checkpoints are ours, in the store; what Ray Train keeps of its own is a few kilobytes.
        # So are restarts, which it would make at the same width.
        run_config=RunConfig(
            name=cell.name,
            storage_path=os.path.join(store.url, "ray_train"),
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=0, max_preemption_failures=0, controller_failure_limit=0
            ),
        ),
    )
    try:
        answer: dict[str, Any] = trainer.fit().return_value  # type: ignore[attr-defined]
    except PreemptionError as fault:
        # A machine that is taken away is no fault of the cell, however often it happens.
        return {"state": "preempted", "reason": str(fault)}
    except WorkerGroupError as fault:
        # Nor is one that went before its notice was heard.
        if not any(getattr(each, "preempted", False) for each in fault.worker_failures.values()):
            raise
        return {"state": "preempted", "reason": str(fault)}
    except ControllerError as fault:
        if not isinstance(fault.controller_failure, WorkerGroupStartupTimeoutError):
            raise
        # Machines are still on their way, or there are fewer than there were: count again.
        return {"state": "preempted", "reason": str(fault)}
    return answer
