"""Under Ray's real autoscaler: nodes come for what cells ask for, and go while the driver lives."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.autoscaled import autoscaled_head
from radsweep.pretrain.place import Workers
from radsweep.pretrain.worker import run_cell
from radsweep.store import Store
from radsweep.sweep.cluster import QUIET, connected
from tests.sweep.commands import environment
from tests.sweep.test_drain import living, wait_until
from tests.sweep.test_resume import trained_cells, write_sweep

# Minutes on two cores, so that it is run before a release and not at every change.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECIPES = '(recipe("clip"), recipe("unicl"))'
STEPS = 400


def test_cells_get_the_nodes_that_they_ask_for_and_none_is_left_though_the_driver_lives_on(
    new_store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found in /proc, which this system lacks")
    for name, value in {**QUIET, **environment(RAY_AUTH_MODE="disabled")}.items():
        monkeypatch.setenv(name, value)
    cells = trained_cells(write_sweep(tmp_path / "grown.py", RECIPES, STEPS))
    store, most, over = new_store(), [0], threading.Event()

    def count() -> None:
        while not over.wait(0.3):
            most[0] = max(most[0], len(living()))

    # One CPU for a trainer and one for its stream, on nodes of one CPU.
    workers = Workers(cpus=1, stream_cpus=1)
    with (
        autoscaled_head(cpus_per_node=1, max_nodes=8, idle_seconds=6) as head,
        connected(head.address),
        ThreadPoolExecutor() as pool,
    ):
        pool.submit(count)
        try:
            for record in pool.map(lambda cell: run_cell(cell, store, workers), cells):
                assert record.steps == STEPS
            wait_until(lambda: len(living()) == 1, "all nodes but the head go")
        finally:
            over.set()
    # Nodes for both, and none too many.
    assert 1 + 2 < most[0] <= 1 + 2 * len(cells)
