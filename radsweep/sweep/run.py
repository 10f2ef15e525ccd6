"""Drive a sweep: pretrain what is missing, score what is unscored, fit the laws.

A cell is scored as soon as it is trained where the cluster has room beside those that train still,
and after all of them where it has none.

Any number of drivers may work on one sweep. Who does what is decided in the store by leases, so
that none of them is precious: a killed one loses at most the steps since the last checkpoint of its
cells.
"""

import fnmatch
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from radsweep import __version__
from radsweep.corpus.manifest import Corpus
from radsweep.errors import CellError, LeaseLostError, RadsweepError, SpecError, StoreError
from radsweep.evaluate.grid import pending_units, places, run_grid
from radsweep.evaluate.label_gains import label_gains
from radsweep.evaluate.slices import headline_slices
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import scored_corpus
from radsweep.keys import canonical, canonical_json, key_of
from radsweep.laws.answers import fits_table
from radsweep.pretrain.metrics import count_end
from radsweep.pretrain.nodes import living_nodes, most_resources
from radsweep.pretrain.place import Workers, check_share
from radsweep.pretrain.worker import STAYING, run_cell
from radsweep.specs import Cell, Sweep
from radsweep.store import Store, layout
from radsweep.store.record import CellStore, finished
from radsweep.sweep.cluster import connected
from radsweep.sweep.limits import Ledger, Limits
from radsweep.sweep.plan import check
from radsweep.sweep.results import read_scores
from radsweep.sweep.room import check_room
from radsweep.sweep.similarity import keep_similarity
from radsweep.sweep.starts import missing_start
from radsweep.sweep.watch import watching

HELD_POLL_SECONDS = 2.0
STOPPED = "its driver was stopped"

COST = ("spent", "images_seen", "step", "seconds", "workers", "device")
"""What is kept of a cell that ended badly: what it took."""


class Observer(Protocol):
    """Is told how a run goes; the terminal's progress bars are one."""

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """Pretraining begins with these cells missing, and so many done before."""

    def cell_began(self, cell: Cell) -> None:
        """One cell's turn came; told from a thread of its own, as is its end."""

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """One cell left the queue."""

    def grid(self, done: int, total: int) -> None:
        """So many of the units that are evaluated now are done: there may be several rounds."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    trained: tuple[str, ...]
    """Cells that this run finished."""
    failures: tuple[tuple[str, str], ...]
    """(cell or unit, reason): everything that is still missing because it went wrong."""
    scores: int
    """Score rows that the sweep has now."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


def one_worker(cell: Cell) -> Workers:
    """Where any cell runs unless it is said otherwise: ``Workers`` with its defaults."""
    return Workers()


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how it runs: never part of what it is."""

    address: str | None = None
    """Of a Ray cluster; None starts one on this machine."""
    cpus: int | None = None
    """Of the cluster started here."""
    only: str = "*"
    """Glob over cell names."""
    at_once: int = 1
    """Cells side by side."""
    workers_for: Callable[[Cell], Workers] = one_worker
    """Processes and devices of each cell."""
    trial_cpus: float = 1
    """CPUs of one evaluation trial."""
    trial_gpus: float = 0
    """GPUs of one evaluation trial; a fraction packs several on one."""
    watch_spot: str | None = None
    """The cloud whose spot notices are read on every node (``aws``, ``gcp``, ``azure``)."""
    limits: Limits | None = None
    """What pretraining may take; None lets it take what it needs. Evaluation is not counted."""


def declare(sweep: Sweep, store: Store) -> None:
    """Write down what the sweep is, so that the store can be read without the sweep's file."""
    path = layout.sweep_file(sweep.name)
    said = {"spec": canonical(sweep), "cells": [cell.name for cell in sweep.cells()]}
    if not store.exists(path) or canonical_json(store.read_json(path)) != canonical_json(said):
        store.write_json(path, said)


def keep_answers(sweep: Sweep, store: Store, scores: pl.DataFrame) -> None:
    """Fit the laws of these scores, compare labels and slices, unless this version has done so."""
    made_of = layout.sweep_file(sweep.name, "fits.json")
    facts = scores.select("cell", "task", "probe", "label", "metric", "value", "finished_at")
    key = key_of([__version__, [[str(value) for value in row] for row in facts.iter_rows()]])
    if not store.exists(made_of) or store.read_json(made_of) != {"scores": key}:
        store.write_table(layout.sweep_file(sweep.name, "fits.parquet"), fits_table(scores))
        cells = sweep.cells()
        gains = label_gains(store, sweep, cells)
        store.write_table(layout.sweep_file(sweep.name, "label_gains.parquet"), gains)
        # Every scale within every slice would be more than anybody reads.
        ends = tuple(c for c in cells if c.subset.images in (0, scores["images"].max()))
        slices = headline_slices(store, sweep, ends)
        store.write_table(layout.sweep_file(sweep.name, "slices.parquet"), slices)
        store.write_json(made_of, {"scores": key})


def check_task_data(sweep: Sweep, store: Store) -> None:
    """Choose every task's images and targets once, so that a corpus too small for one is found now.

    The corpus card, which ``check`` reads, does not say how many patients have which finding.
    Raises SpecError where a task has too few.
    """
    if sweep.protocol is None:
        return
    corpus = Corpus.open(store, scored_corpus(sweep, sweep.protocol))
    for task in sweep.protocol.tasks:
        make_task(task).data(corpus, sweep.protocol)


def run(sweep: Sweep, store: Store, options: RunOptions, observer: Observer) -> Outcome:
    """Bring the sweep to its end from wherever it stands; does nothing, quickly, if it is there.

    Raises SpecError or StoreError for a fault of the user before compute is spent.
    """
    store.check_writable()
    cells = tuple(cell for cell in sweep.cells() if fnmatch.fnmatch(cell.name, options.only))
    there = set(finished(store, cells))
    missing = tuple(cell for cell in cells if cell not in there)
    for cell in missing:
        check_share(cell, options.workers_for(cell))
        _check_address(options.address, options.workers_for(cell))
    check(sweep, store)
    declare(sweep, store)
    observer.cells(missing, len(cells) - len(missing))
    failures: list[tuple[str, str]] = []
    if missing or pending_units(store, sweep, cells):
        check_task_data(sweep, store)
        with connected(options.address, options.cpus), watching(options.watch_spot):
            if options.address is None and not most_resources():
                _check_room_here(missing, sweep, options)
            failures += _pretrain(missing, sweep, store, options, observer)
            failures += _score(finished(store, cells), sweep, store, options, observer)
    scores = read_scores(sweep, store)
    if scores.height:
        keep_answers(sweep, store, scores)
    failures += _keep_maps(sweep, store)
    failed = {name for name, _ in failures}
    return Outcome(
        trained=tuple(cell.name for cell in missing if cell.name not in failed),
        failures=tuple(failures),
        scores=scores.height,
    )


def _check_address(address: str | None, workers: Workers) -> None:
    if workers.most is not None and address is not None and address.startswith("ray://"):
        raise SpecError(
            f"--workers {workers.count}:{workers.most} needs to know each node's room, which Ray "
            f"does not tell through {address}; run it on the cluster (radsweep submit), or give "
            "one number"
        )


def _check_room_here(missing: tuple[Cell, ...], sweep: Sweep, options: RunOptions) -> None:
    """Of a cluster that does not grow, as one that was started here: see ``room.check_room``."""
    training = [options.workers_for(cell) for cell in missing if not cell.is_baseline]
    trial = {"CPU": options.trial_cpus, "GPU": options.trial_gpus}
    check_room(training, options.at_once, trial if sweep.protocol else {}, living_nodes())


def _keep_maps(sweep: Sweep, store: Store) -> list[tuple[str, str]]:
    """Maps for those who look; whatever they fail of, the numbers stand and the run has its end."""
    try:
        keep_similarity(sweep, store)
    except Exception as fault:
        return [("patch-similarity maps", _in_a_line(fault))]
    return []


def _pretrain(
    missing: tuple[Cell, ...], sweep: Sweep, store: Store, options: RunOptions, observer: Observer
) -> list[tuple[str, str]]:
    limits, ledger = options.limits, None
    if limits is not None:
        ledger = Ledger(sweep, store, limits, options.workers_for)

    telling, leaving = threading.Lock(), threading.Event()

    def drive(cell: Cell) -> tuple[str, str | None]:
        # Asked as its turn comes, and not before: the cells before it have a price by then.
        reason = None if ledger is None else ledger.refuses(cell)
        state = "waiting"
        if reason is None:
            with telling:
                observer.cell_began(cell)
            state, reason = drive_cell(cell, store, options.workers_for(cell), leaving)
        with telling:
            observer.cell_ended(cell, state, reason)
        return state, reason

    failures = []
    with _leavable(ThreadPoolExecutor(max_workers=options.at_once), leaving) as pool:
        futures = {pool.submit(drive, cell): cell for cell in missing}
        left = set(futures)
        while left:
            # By the second: Ctrl-C may reach another thread, and is heard as this one wakes.
            ended, left = wait(left, timeout=1.0, return_when=FIRST_COMPLETED)
            trained = []
            for future in ended:
                cell, (state, reason) = futures[future], future.result()
                if reason is None:
                    trained.append(cell)
                else:
                    failures.append((cell.name, f"{state}: {reason}"))
            if left and trained:
                # What fails here is tried once more when all are trained, and told then.
                training = [options.workers_for(futures[future]) for future in left]
                _score(tuple(trained), sweep, store, options, observer, training)
    return failures


@contextmanager
def _leavable(pool: ThreadPoolExecutor, leaving: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work is waited for, unless the run is stopped: by Ctrl-C, or by a job's end.

    Ray ends what the threads then wait for as it is left, and each gives its lease back.
    """
    try:
        yield pool
    except (KeyboardInterrupt, SystemExit):
        leaving.set()
        raise
    finally:
        pool.shutdown(wait=not leaving.is_set(), cancel_futures=leaving.is_set())


def _score(
    cells: tuple[Cell, ...],
    sweep: Sweep,
    store: Store,
    options: RunOptions,
    observer: Observer,
    training: Sequence[Workers] = (),
) -> list[tuple[str, str]]:
    """Evaluate finished cells; beside those in ``training`` only where the cluster has room.

    So neither waits for what the other holds. Returns what failed and why.
    """
    if sweep.protocol is None:
        return []
    side_by_side = min(options.at_once, len(training))
    room = places(
        options.trial_cpus,
        options.trial_gpus,
        taken_cpus=side_by_side * max((one.all_cpus for one in training), default=0.0),
        taken_gpus=side_by_side * max((one.all_gpus for one in training), default=0.0),
    )
    if training and not room:
        return []
    return run_grid(
        store,
        sweep,
        cells,
        cpus=options.trial_cpus,
        gpus=options.trial_gpus,
        at_once=max(1, room),
        progress=observer.grid,
    )


def drive_cell(
    cell: Cell, store: Store, workers: Workers, leaving: threading.Event = STAYING
) -> tuple[str, str | None]:
    """Take the cell, run it, write down how it ended; waits where another driver holds it.

    Once ``leaving`` is set, nothing is taken and nothing written down: a cell that was running
    without a lease is one that somebody else may take.

    Returns its state and, unless it is done, the reason.
    """
    corner = CellStore(store, cell.name)
    while not corner.is_done:
        if leaving.is_set():
            return "preempted", STOPPED
        # A driver that lost its lease neither writes nor gives up: it waits for the one that
        # took it.
        with suppress(LeaseLostError), corner.lease() as holder:
            if holder is not None:
                state, reason = _drive_held(cell, corner, holder, workers, leaving)
                if state != "waiting" and not leaving.is_set():
                    count_end(cell, state)
                return state, reason
        time.sleep(HELD_POLL_SECONDS)
    return "done", None


def _drive_held(
    cell: Cell, corner: CellStore, holder: str, workers: Workers, leaving: threading.Event
) -> tuple[str, str | None]:
    try:
        corner.declare(cell)
        reason = missing_start(cell.recipe.start_from, corner.store)
        if reason is not None:
            return "waiting", reason
        # What earlier attempts cost is not forgotten, should this one end before its first row.
        cost = {name: value for name, value in corner.state().items() if name in COST}
        corner.set_state("running", **{"spent": 0.0, **cost})
        record = run_cell(cell, corner.store, workers, leaving)
        corner.check_lease(holder)
        corner.finish(record)
        return "done", None
    except LeaseLostError:
        raise
    except Exception as fault:
        if leaving.is_set():
            return "preempted", STOPPED
        # Whatever it is (ours, Ray's, out of memory), the cell is reported and the others go on.
        state = fault.state if isinstance(fault, CellError) else "failed"
        reason = str(fault) if isinstance(fault, RadsweepError) else _in_a_line(fault)
        try:
            # How far it came, and in how long, is what it cost.
            told = {name: value for name, value in corner.state().items() if name in COST}
            corner.set_state(state, reason=reason, **told)
        except (OSError, StoreError) as second:
            # The cell is reported all the same; its state in the store is as it was.
            reason += f" (and the store did not take that down: {_in_a_line(second)})"
        return state, reason


def _in_a_line(fault: Exception) -> str:
    # Below what went wrong Ray Data writes advice of its own.
    lines = str(fault).partition("\nFailed to apply UDF transform")[0].strip().splitlines()
    return f"{type(fault).__name__}: {lines[-1] if lines else 'it says no more'}"
