"""Runs the steps of a grid in one process and publishes what they measure. No Ray here."""

from collections.abc import Callable
from typing import final

import torch

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.search import Schedule, Step
from radsweep.evaluate.trial import Bench
from radsweep.evaluate.wanted import (
    Grid,
    make_grid,
    measured,
    publish,
    unscored,
    wanted,
    write_index,
)
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.together import together

Progress = Callable[[int, int], None]
"""Is told (steps done, steps in all)."""

Failures = list[tuple[str, str]]
"""(cell / task, why it has no scores)."""


def prepare(store: Store, sweep: Sweep, cells: tuple[Cell, ...]) -> tuple[Grid, Corpus] | None:
    """What is left to measure and its images, or None. What was measured becomes score rows.

    Raises SpecError where the corpus has too little for a task.
    """
    rows = wanted(store, sweep, cells)
    write_index(store, sweep, rows)
    left = unscored(store, rows)
    there = measured(store, left)
    together(lambda row: publish(store, sweep, row), there)
    trials = {row.trial for row in there}
    lacking = [row for row in left if row.trial not in trials]
    return make_grid(store, sweep, lacking) if lacking else None


def failures(grid: Grid, schedule: Schedule) -> Failures:
    """What has no scores after all, and why; every cell that shares the weights is named."""
    return [
        (row.name, reason)
        for number, reason in sorted(schedule.failures.items())
        for row in grid.rows[number]
    ]


@final
class Runner:
    """Runs steps in one process."""

    def __init__(self, store: Store, sweep: Sweep, grid: Grid, device: torch.device) -> None:
        self._store, self._sweep, self._grid = store, sweep, grid
        self._bench = Bench(
            store, grid.protocol, grid.corpus, grid.corpus_digest, grid.data, device
        )

    def run(self, step: Step) -> tuple[float | None, str | None]:
        """The score on val, for a step of the search, and why it failed, if it did."""
        unit = self._grid.units[step.unit]
        try:
            if not step.is_final:
                return self._bench.run_search_step(unit, step.choice), None
            self._bench.finish(unit, step.choice)
            for row in self._grid.rows[step.unit]:
                publish(self._store, self._sweep, row)
        except Exception as fault:
            # One encoder's fault, whatever it is, must not take the others' scores: it is reported.
            return None, f"{type(fault).__name__}: {fault}"
        return None, None
