"""The evaluation grid in this process, without Ray: for tests, and for a machine that has none."""

import torch

from radsweep.evaluate.embedder import embed_locally
from radsweep.evaluate.runner import Failures, Progress, Runner, failures, prepare
from radsweep.specs import Cell, Sweep
from radsweep.store import Store


def run_grid_locally(
    store: Store, sweep: Sweep, cells: tuple[Cell, ...], *, progress: Progress
) -> Failures:
    """``run_grid`` in this process, without Ray: one step after the other, the same numbers."""
    prepared = prepare(store, sweep, cells)
    if prepared is None:
        return []
    grid, corpus = prepared
    embedded = embed_locally(store, corpus, grid.encoders, grid.requests)
    schedule, runner = (
        grid.schedule(embedded.faults),
        Runner(store, sweep, grid, torch.device("cpu")),
    )
    while (step := schedule.next()) is not None:
        schedule.tell(step, *runner.run(step))
        progress(schedule.done, schedule.total)
    return failures(grid, schedule)
