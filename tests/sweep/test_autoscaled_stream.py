"""A stream under Ray's real autoscaler: nodes come for it, and go again while it lives."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import radsweep.corpus.pool
from benchmarks.autoscaled import autoscaled_head
from benchmarks.ray_head import busy_workers, command_line, kill, nodes_of
from radsweep.corpus.pool import Pool
from radsweep.corpus.stream import local_stream, stream
from radsweep.corpus.subset import SubsetIndex, select
from radsweep.specs import Subset
from radsweep.store import Store
from radsweep.sweep.cluster import QUIET, connected
from tests.corpus.conftest import CropViewer, write_toy
from tests.corpus.test_stream import WHOLE, SlowViewer
from tests.sweep.commands import environment
from tests.sweep.test_drain import living, wait_until

pytestmark = [
    # A minute on two cores, so that it is run before a release and not at every change.
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@ray.remote(num_cpus=1)
class Trainer:
    """Takes batches as fast as they come, and sums what is in them."""

    def __init__(self, store: Store, subset: SubsetIndex) -> None:
        self.store, self.subset, self.taken, self.total = store, subset, 0, 0
        # The test sizes it; how it sizes itself is tested elsewhere.
        self.pool, self.is_over = Pool(least=1, most=4), False
        radsweep.corpus.pool.WINDOW_SECONDS = math.inf

    def train(self) -> None:
        viewer, endless = SlowViewer(CropViewer(9)), WHOLE | {"steps": 1_000_000}
        batches = stream(self.store, self.subset.table, viewer, cpus=self.pool, **endless)
        while not self.is_over:
            self.total += sum_of(next(batches))
            self.taken += 1

    def resize(self, cpus: float) -> int:
        self.pool.cpus = cpus
        return self.taken

    def end(self) -> None:
        self.is_over = True

    def saw(self) -> tuple[int, int]:
        return self.taken, self.total


def sum_of(batch: dict[str, Any]) -> int:
    return int(batch["left"].sum(dtype=np.int64) + batch["position"].sum())


@pytest.fixture
def streamed(
    new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, SubsetIndex]:
    """What is streamed, for a cluster that asks for no token."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found in /proc, which this system lacks")
    for name, value in {**QUIET, **environment(RAY_AUTH_MODE="disabled")}.items():
        monkeypatch.setenv(name, value)
    store = new_store()
    corpus = write_toy(store, "streamed@1", images=90, size=24)
    return store, select(corpus, Subset(corpus="streamed@1", images=50))


def test_nodes_come_for_a_stream_that_grows_and_the_last_goes_when_it_shrinks(
    streamed: tuple[Store, SubsetIndex],
) -> None:
    store, subset = streamed
    with (
        autoscaled_head(cpus_per_node=2, max_nodes=5, idle_seconds=4) as head,
        connected(head.address),
    ):
        # Of a node's two CPUs the trainer has one.
        trainer = Trainer.options(max_concurrency=2).remote(store, subset)  # type: ignore[attr-defined]
        done = trainer.train.remote()
        ray.get(trainer.resize.remote(4))
        wait_until(lambda: len(living()) == 1 + 3, "two more nodes come")
        ray.get(trainer.resize.remote(3))
        wait_until(lambda: len(living()) == 1 + 2, "one node goes")
        before = ray.get(trainer.resize.remote(3))
        time.sleep(6)
        assert len(living()) == 1 + 2
        ray.get([trainer.end.remote(), done])
        taken, total = ray.get(trainer.saw.remote())
    assert taken > before
    same = local_stream(store, subset.table, CropViewer(9), **WHOLE | {"steps": taken})
    # Promise 5: whatever came and went.
    assert total == sum(sum_of(batch) for batch in same)


def test_a_stream_whose_only_node_is_gone_is_brought_another(
    streamed: tuple[Store, SubsetIndex],
) -> None:
    store, subset = streamed
    with (
        # Its node is full with the trainer, which could hold the stream's task and never will.
        autoscaled_head(cpus_per_node=2, max_nodes=4, idle_seconds=60) as head,
        connected(head.address),
    ):
        trainer = Trainer.options(num_cpus=2, max_concurrency=2).remote(store, subset)  # type: ignore[attr-defined]
        done = trainer.train.remote()

        def taken() -> int:
            return int(ray.get(trainer.resize.remote(1)))

        wait_until(lambda: taken() > 100, "it trains")
        assert len(living()) == 1 + 2
        home = next(
            raylet
            for number, raylet in busy_workers(head).items()
            if b"Trainer" in command_line(Path(f"/proc/{number}"))
        )
        (victim,) = nodes_of(head) - {home}
        assert kill(victim)
        wait_until(lambda: len(living()) == 1 + 1, "it is gone")
        before = taken()
        wait_until(lambda: taken() > before + 300, "it goes on")
        ray.get([trainer.end.remote(), done])
