"""The evaluation grid of a sweep: Ray Tune over every encoder, task and probe setting.

What a step measures is ``trial``'s matter, what comes next is ``search``'s and how many go together
is ``batches``'; this file carries steps from one to the other over a cluster. ``local`` does the
same in one process, with the same numbers.
"""

import tempfile
import time
from dataclasses import asdict
from typing import Any, final

import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from radsweep.errors import RadsweepError
from radsweep.evaluate.batches import Batches, Outcome
from radsweep.evaluate.embed import embed
from radsweep.evaluate.runner import Failures, Progress, Runner, failures, prepare
from radsweep.evaluate.search import Step
from radsweep.evaluate.wanted import Grid, unscored, wanted
from radsweep.specs import Cell, Sweep
from radsweep.store import Store

TRIALS_PER_RUN = 5_000
"""Of Ray Tune, which keeps some 30 KiB of each while a run lasts and sees through all of them at
every step; then a new run goes on."""


def pending_units(store: Store, sweep: Sweep, cells: tuple[Cell, ...]) -> list[str]:
    """Names of what the finished ``cells`` have no scores of yet; empty without a protocol."""
    return [row.name for row in unscored(store, wanted(store, sweep, cells))]


def places(cpus: float, gpus: float, *, taken_cpus: float = 0.0, taken_gpus: float = 0.0) -> int:
    """Trials that fit side by side on the connected cluster as it is now; 0 where none does.

    Args:
        cpus: of one trial.
        gpus: of one trial; 0 runs on CPU.
        taken_cpus: of the cluster, that are others'.
        taken_gpus: the same of GPUs.
    """
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    fit = [(have.get("CPU", 1.0) - taken_cpus) / cpus]
    fit += [(have.get("GPU", 0.0) - taken_gpus) / gpus] if gpus else []
    return max(0, int(min(fit)))


def run_grid(
    store: Store,
    sweep: Sweep,
    cells: tuple[Cell, ...],
    *,
    cpus: float,
    gpus: float,
    at_once: int,
    progress: Progress,
) -> Failures:
    """Score every finished cell that has no scores yet; gives what failed and why.

    Needs a connected Ray. Score rows are in the store as soon as their trial ends.

    Args:
        store: what was trained, and where scores go.
        sweep: names the tasks and how they are evaluated.
        cells: those that are not finished are left out.
        cpus: of one trial.
        gpus: of one trial; a fraction packs several on one.
        at_once: trials side by side at most, see ``places``.
        progress: is told how far it is.

    Raises SpecError where the corpus has too little for a task.
    """
    prepared = prepare(store, sweep, cells)
    if prepared is None:
        return []
    grid, corpus = prepared
    embedded = embed(
        store, corpus, grid.encoders, grid.requests, cpus=cpus, gpus=gpus, at_once=at_once
    )
    schedule = grid.schedule(embedded.faults)
    kinds = [(unit.task, unit.probe) for unit in grid.units]
    batches = Batches(schedule, kinds, at_once)
    # Once for all runs: Ray Tune keeps what it was given as long as the driver lives.
    trainable = tune.with_resources(
        tune.with_parameters(_GridTrial, parts=(store, sweep, grid, gpus, max(1, int(cpus)))),
        {"cpu": cpus, "gpu": gpus} if gpus else {"cpu": cpus},
    )
    while not schedule.is_done:
        searcher = _GridSearcher(batches, progress)
        _tune(trainable, searcher, at_once)
        searcher.check_over()
    return failures(grid, schedule)


def _tune(trainable: type[tune.Trainable], searcher: Searcher, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=at_once,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="grid",
                verbose=0,
                # Left alone, Tune saves every trial at its end, to a folder that other machines
                # lack.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


class _GridTrial(tune.Trainable):
    """A batch of steps, in a process that is kept for the next and with it what was read."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], parts: tuple[Store, Sweep, Grid, float, int]
    ) -> None:
        """Tune's word for a constructor; ``parts`` comes from the object store."""
        store, sweep, grid, gpus, threads = parts
        torch.set_num_threads(threads)
        self._runner = Runner(store, sweep, grid, torch.device("cuda" if gpus else "cpu"))
        self._steps = _steps_of(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next batch."""
        self._steps = _steps_of(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run it; a fault is an outcome, so that the process lives on."""
        outcomes = []
        for step in self._steps:
            began = time.perf_counter()
            score, error = self._runner.run(step)
            outcomes.append((score, error, time.perf_counter() - began))
        return {"outcomes": outcomes, "done": True}


def _steps_of(config: dict[str, Any]) -> list[Step]:
    return [Step(**step) for step in config["steps"]]


def _tell_nobody(done: int, total: int) -> None:
    """The progress of a pickled searcher."""


@final
class _GridSearcher(Searcher):
    """Lets Tune ask what to run, and passes on how it went."""

    def __init__(self, batches: Batches, progress: Progress) -> None:
        super().__init__()
        self._batches = batches
        self._progress = progress
        self._left = TRIALS_PER_RUN
        self._running: dict[str, tuple[Step, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the caller's progress: Tune pickles its searcher, and a terminal cannot be.

        Tune's copy is never run.
        """
        return {**self.__dict__, "_progress": _tell_nobody}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next batch as Tune's config; None makes Tune ask again later."""
        if self._batches.schedule.is_done or not self._left:
            return str(Searcher.FINISHED)
        batch = self._batches.next()
        if not batch:
            return None
        self._left -= 1
        self._running[trial_id] = batch
        return {"steps": [asdict(step) for step in batch]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on scores and faults; a process that died leaves neither, of any of its steps."""
        batch = self._running.pop(trial_id)
        if result is None or error:
            died = "its process died (out of memory, or its machine was lost)"
            outcomes = [Outcome(score=None, error=died, seconds=None)] * len(batch)
        else:
            outcomes = [
                Outcome(score=score, error=fault, seconds=seconds)
                for score, fault, seconds in result["outcomes"]
            ]
        self._batches.tell(batch, outcomes)
        self._progress(self._batches.schedule.done, self._batches.schedule.total)

    def check_over(self) -> None:
        """Raise RadsweepError where Tune ended before its trials did: they would never be told."""
        if self._running:
            raise RadsweepError(
                f"Ray Tune ended while {len(self._running)} trials were under way, as at an "
                "interrupt; what is finished is kept: run it again"
            )

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is finished is in the store, where a new grid begins."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as nothing is saved."""
