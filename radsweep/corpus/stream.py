"""The stream: batches of a subset by position, from Ray Data tasks, in the planned order."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray._private.state import state as cluster_state
from ray.data import DataContext, ExecutionOptions, ExecutionResources, TaskPoolStrategy
from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
from ray.data._internal.execution import streaming_executor_state
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.metadata_fetcher import InlineMetadataFetcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from radsweep.corpus.batch import batch_positions, make_batch
from radsweep.corpus.example import Viewer, Views
from radsweep.corpus.places import Places
from radsweep.corpus.pool import Pool, Window
from radsweep.corpus.reader import Reader
from radsweep.errors import StreamError
from radsweep.store import Store

TASK_STEPS = 32
"""Batches per Ray task: between two tasks a place stands empty for a tenth of a second. With 32 of
CLIP's batches of 32 two places gave .84 to .98 of what they can, with 16 .79 to .91 of it."""

SEGMENT_STEPS = 2048
"""Batches that are planned at once. The driver holds a few kilobytes for each task, and a budget in
GPU-seconds has no last step; between two segments the trainer waits as at the start."""

PREFETCH_BATCHES = 4
"""Batches fetched to this process ahead of the one in use."""


REST_SECONDS = 0.03
"""Between two looks of Ray Data's executor, and the longest that a look waits; a task runs for
tenths of a second at least, and its place stands empty until its end is seen."""

MADE_SECONDS, MADE_AT = "made seconds", "made at"
"""Beside a batch's views on its way from the task: how long it took, and the node."""


FAR_BEHIND = 4
"""Times the places: no further does the newest task get ahead of the oldest that has not ended. One
may wait for a CPU that somebody else has, and is served where one stays free for a moment."""

STAY_SECONDS = 60.0
"""Ray Data's coordinator forgets after 180 s whom it does not hear of, and gives it no memory."""


@final
class _Sender:
    """Sends a pipeline's tasks to their nodes, as many as the pool has CPUs for."""

    def __init__(self, pool: Pool):
        self.pool = pool
        here = ray.get_runtime_context().get_node_id()
        self.places = Places(here=here, task_cpus=pool.task_cpus, free_cpus=_free_cpus)
        self.operator: Any = None
        """Ray Data's, of the tasks; known when it begins."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Goes to tasks with all that Ray Data hands them, and is not used there."""
        return type(None), ()

    @property
    def running(self) -> set[int]:
        """Numbers of the tasks that have not ended."""
        return {task.task_index() for task in self.operator.get_active_tasks()}

    @property
    def cpus(self) -> float:
        """That tasks may hold or wait for; none while the oldest is far behind."""
        newest, running = self.operator._next_data_task_idx, self.running
        at_once = max(1.0, self.pool.cpus / self.pool.task_cpus)
        is_far = newest - min(running, default=newest) > FAR_BEHIND * at_once
        lost = self.places.lost(running, time.monotonic())
        return 0.0 if is_far else self.pool.cpus + lost * self.pool.task_cpus

    def __call__(self) -> dict[str, Any]:
        """What Ray is told of a new task: its node, or another one where that is full or gone.

        A task that waits for one node is not seen by the autoscaler, so that one for which there is
        no room is sent to none. And none asks for memory, as Ray Data's do for what tasks before it
        gave: nodes may come without a word on theirs, and Ray has a queue for each amount, of which
        none is served first, so that a trainer waits for a task that newer ones have overtaken.
        """
        if self.operator is None:
            # Ray Data asks before it begins, for a check of its own.
            return {}
        number = self.operator._next_data_task_idx
        node = self.places.node_for(number, self.running, time.monotonic())
        strategy = (
            NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
            if node is not None
            else "DEFAULT"
        )
        return {"scheduling_strategy": strategy, "memory": 0}


def _free_cpus() -> dict[str, float]:
    """By node, of those that stay."""
    leaving = cluster_state.get_draining_nodes()
    free = cluster_state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return {node: has.get("CPU", 0.0) for node, has in free.items() if node not in leaving}


@final
class _Size(ClusterAutoscaler):
    """The pool's CPUs are what the pipeline has, whatever the cluster has.

    Ray Data gives it a share of the CPUs that are there, trainers' included, and asks for more as a
    total of the cluster, in which those that trainers hold count as well: so nothing comes. Here
    all tasks of the pool's size are handed to Ray, and those that find no CPU wait there, where the
    autoscaler sees them and brings what they need. Memory is shared as by Ray Data.
    """

    def __init__(self, rays_own: Any, sender: _Sender):
        self._rays_own, self._sender = rays_own, sender
        self._next = time.monotonic() + STAY_SECONDS

    def try_trigger_scaling(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + STAY_SECONDS
            self._rays_own._send_resource_request([])

    def on_executor_shutdown(self) -> None:
        self._rays_own.on_executor_shutdown()

    def get_total_resources(self) -> ExecutionResources:
        has: ExecutionResources = self._rays_own.get_total_resources()
        return has.copy(cpu=self._sender.cpus)


def _looks(sender: _Sender) -> type[ExecutionCallback]:
    """What the executor does before and between its looks, in its thread of the trainer's process.

    It rests: Ray 2.60 waits for running tasks, but while the trainer is behind and nothing may run
    it looks again at once: that took 0.6 of a core and the interpreter's lock, and slowed training
    on two cores by half.

    It looks often enough: what it waits for is that all running tasks are done, 0.1 s at most; that
    one is done is seen then, and believed at the next look, when a thread has fetched the metadata.
    Until then its place stood empty: 0.25 s of 1.5. So a look waits less, in all of Ray Data in
    this process, and fetches for itself: 0.1 s.

    And its size is the pool's, which may change at any time.
    """

    @final
    class Looks(ExecutionCallback):
        def before_execution_starts(self, executor: Any) -> None:
            streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = REST_SECONDS
            executor._metadata_fetcher = InlineMetadataFetcher()
            sender.operator = list(executor._topology)[-1]
            executor._cluster_autoscaler = _Size(executor._cluster_autoscaler, sender)

        def on_execution_step(self, executor: Any) -> None:
            time.sleep(REST_SECONDS)

    return Looks


@final
@dataclass(frozen=True, kw_only=True)
class _Share:
    """What one rank's batches depend on, and nothing else."""

    store: Store
    viewer: Viewer
    seed: int
    batch_size: int
    world_size: int
    rank: int

    def positions(self, step: int) -> NDArray[np.int64]:
        return batch_positions(step, self.batch_size, self.world_size, self.rank)

    def batch(self, reader: Reader, step: int) -> Views:
        whole = self.batch_size * self.world_size
        return make_batch(self.positions(step), reader, self.viewer, self.seed, whole)


def stream(
    store: Store,
    index: "pa.Table | ray.ObjectRef[pa.Table]",
    viewer: Viewer,
    *,
    seed: int,
    batch_size: int,
    world_size: int,
    rank: int,
    first_step: int,
    steps: int,
    cpus: float | Pool,
    room: Callable[[], float] = lambda: math.inf,
) -> Iterator[Views]:
    """This rank's share of the global batches ``first_step`` to ``steps - 1``, made by Ray Data.

    May be called by a driver, in a Ray task or actor, or in a Ray Train worker; each call runs a
    pipeline of its own beside the caller. The values are those of ``local_stream``.

    Args:
        store: where the pixels are.
        index: the subset's table, or a reference to it in the object store.
        viewer: makes the views of one example; travels to the tasks.
        seed: of order and augmentation.
        batch_size: of this rank's share; the global batch is ``batch_size * world_size``.
        world_size: number of ranks.
        rank: this one.
        first_step: where a resumed run goes on; 0 at first.
        steps: of the whole run, counted from 0; a large number costs nothing.
        cpus: how many CPUs this rank's tasks may hold, beside the trainer's; or the pool that says
            so, from its least on, which is changed in place. What is not free is waited for.
        room: tells a pool how many CPUs the cluster has left or may get.

    Yields:
        Arrays [batch_size, ...] by name, read-only, with ``position`` int64 [batch_size].

    Raises StreamError where a batch is not exactly the planned one, or its pixels are damaged.
    """
    share = _Share(
        store=store,
        viewer=viewer,
        seed=seed,
        batch_size=batch_size,
        world_size=world_size,
        rank=rank,
    )
    reference = index if isinstance(index, ray.ObjectRef) else ray.put(index)
    pool = cpus if isinstance(cpus, Pool) else Pool(least=cpus, most=cpus)
    asked = time.perf_counter()
    for first in range(first_step, steps, SEGMENT_STEPS):
        last = min(steps, first + SEGMENT_STEPS)
        for made_seconds, batch in _segment(share, reference, first, last, pool):
            given = time.perf_counter()
            yield batch
            waited, asked = given - asked, time.perf_counter()
            took = Window(
                made_seconds=made_seconds, away_seconds=asked - given, waited_seconds=waited
            )
            pool.add(took, room)


def local_stream(
    store: Store,
    index: pa.Table,
    viewer: Viewer,
    *,
    seed: int,
    batch_size: int,
    world_size: int,
    rank: int,
    first_step: int,
    steps: int,
) -> Iterator[Views]:
    """The same values as ``stream``, made in this process without Ray."""
    share = _Share(
        store=store,
        viewer=viewer,
        seed=seed,
        batch_size=batch_size,
        world_size=world_size,
        rank=rank,
    )
    reader = Reader(store, index)
    for step in range(first_step, steps):
        yield share.batch(reader, step)


def _segment(
    share: _Share, reference: "ray.ObjectRef[pa.Table]", first: int, last: int, pool: Pool
) -> Iterator[tuple[float, Views]]:
    """Each batch with the seconds that a task took to make it."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    at_once, most = (max(1, int(cpus / pool.task_cpus)) for cpus in (pool.cpus, pool.most))
    tasks = [{"first": one, "last": end} for one, end in task_steps(first, last, at_once)]
    sender = _Sender(pool)
    with DataContext.current(_context(sender)):
        # Not ``ray.data.range`` or ``from_arrow``: their tasks ask for a CPU each, whatever the map
        # asks for, and wait for ever where trainers leave less than one on every node.
        data = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            _steps_of_task(share, reference),
            batch_size=None,
            num_cpus=pool.task_cpus,
            # How many really run is the pool's; as many more may be sent for those of a lost node.
            compute=TaskPoolStrategy(min(2 * most, len(tasks))),
            ray_remote_args_fn=sender,
        )
    rows = data.iter_batches(batch_size=1, prefetch_batches=PREFETCH_BATCHES)
    numbers = {task["first"]: number for number, task in enumerate(tasks)}
    for step, row in zip(range(first, last), rows, strict=True):
        batch = {name: array[0] for name, array in row.items()}
        made_seconds, node = float(batch.pop(MADE_SECONDS)), str(batch.pop(MADE_AT))
        if step in numbers:
            sender.places.ran(numbers[step], node)
        if not np.array_equal(batch["position"], share.positions(step)):
            raise StreamError(
                f"step {step} of rank {share.rank} of {share.world_size} got other images than "
                "planned; this is a fault of radsweep or of Ray Data, not of the data: report it"
            )
        yield made_seconds, batch


def _context(sender: _Sender) -> DataContext:
    """Order kept, patience with nodes that are on their way, and silence.

    Blocks keep Ray's own target of 128 MiB: small batches of a task leave it as one block. Each
    block costs the executor some milliseconds, and that runs in a thread of the trainer's process.
    """
    context = DataContext.get_current().copy()
    context.execution_options = ExecutionOptions(preserve_order=True)
    context.custom_execution_callback_classes = [_looks(sender)]
    # A machine may be hours away, as spot ones are; who is told to wait less is the trainer.
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def task_steps(first: int, last: int, places: int) -> Iterator[tuple[int, int]]:
    """The steps [one, end) of each task of a segment, in order.

    The first are of one step each, then of two, and so on to ``TASK_STEPS``: a task's batches come
    together at its end, and a trainer that has none yet should not wait for so many.

    Args:
        first: step of the segment.
        last: its end, exclusive.
        places: how many tasks run side by side.
    """
    one, made = first, 0
    while one < last:
        end = min(last, one + min(TASK_STEPS, 2 ** (made // places)))
        yield one, end
        one, made = end, made + 1


def _steps_of_task(
    share: _Share, reference: "ray.ObjectRef[pa.Table]"
) -> Callable[[dict[str, NDArray[Any]]], Iterator[dict[str, NDArray[Any]]]]:
    """The function that a task runs: it is given ranges of steps and yields one row per batch."""

    def make(tasks: dict[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        began = time.perf_counter()
        reader = Reader(share.store, ray.get(reference))
        node = np.array([ray.get_runtime_context().get_node_id()])
        for first, last in zip(tasks["first"], tasks["last"], strict=True):
            for step in range(int(first), int(last)):
                row = {name: array[None] for name, array in share.batch(reader, step).items()}
                took = np.array([time.perf_counter() - began])
                yield row | {MADE_SECONDS: took, MADE_AT: node}
                began = time.perf_counter()

    return make
