"""Several drivers on one store, nodes that come and go, SIGKILL at random: nothing differs."""

from pathlib import Path

import pytest

from benchmarks.chaos import cluster, prepare, run, scores_of
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

KILLS = 6


def test_a_sweep_whose_drivers_and_workers_and_nodes_are_killed_scores_what_an_undisturbed_one_does(
    little_corpus: Path, tmp_path: Path
) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found in /proc, which this system lacks")
    file, calm, wild = prepare(tmp_path, steps=120, corpus=little_corpus)
    with cluster() as head:
        peace = run(file, calm, head, drivers=1, kills=0, every=1.0, seed=0)
        chaos = run(file, wild, head, drivers=2, kills=KILLS, every=5.0, seed=0)
    assert peace.gave_up == 0, peace.last_words
    assert min(chaos.drivers_killed, chaos.workers_killed, chaos.nodes_killed) >= 1, chaos
    assert chaos.most_nodes >= 3
    expected = scores_of(file, calm)
    assert expected.height > 0
    assert scores_of(file, wild).equals(expected)
    sweep = load_sweep(str(file))
    assert len(sweep.cells()) == 6
    for cell in sweep.cells():
        in_peace, in_chaos = (CellStore(store, cell.name).record() for store in (calm, wild))
        assert in_chaos.encoder_digest == in_peace.encoder_digest
        assert in_chaos.steps == in_peace.steps
        # Nobody holds it any more.
        assert "lease.json" not in wild.names(f"cells/{cell.name}")
