"""A whole cell through an S3 server whose answers go wrong now and then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_scores
from tests.sweep.flaky import flaky_proxy
from tests.sweep.s3 import MISSING, is_installed
from tests.sweep.test_flaky_object_store import server
from tests.sweep.test_resume import encoder_of, run, trained_cells, write_sweep

__all__ = ["server"]

# Two minutes on two cores, so that it is run before a release and not at every change.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not is_installed(), reason=MISSING),
    # aiobotocore's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_a_cell_is_trained_and_scored_through_a_store_whose_answers_go_wrong_as_without_them(
    server: tuple[int, int, dict[str, str]], new_store: Callable[[], Store], tmp_path: Path
) -> None:
    target, port, _ = server
    file = write_sweep(tmp_path / "flaky.py", '(recipe("dinov2"),)', steps=60)
    scored = 'Protocol(tasks=("findings",), search_trials=1, bootstraps=100)'
    text = file.read_text().replace("protocol=None", f"protocol={scored}")
    file.write_text(text.replace("import Budget,", "import Budget, Protocol,"))
    calm, bucket = new_store(), Store("s3://bucket/root")
    with flaky_proxy(port, target, every=10**9):
        bucket._fs.put(f"{calm.full('')}/", f"{bucket.full('')}/", recursive=True)
    run(file, calm)
    with flaky_proxy(port, target, every=7) as proxy:
        run(file, bucket)
    assert min(proxy.faults[kind] for kind in ("refused", "broken", "silent")) > 10
    with flaky_proxy(port, target, every=10**9):
        (cell,) = trained_cells(file)
        assert encoder_of(cell, bucket) == encoder_of(cell, calm)
        steps = bucket.read_table(CellStore(bucket, cell.name).path("steps.parquet"))
        assert list(steps["step"]) == list(range(10, 70, 10))
        # Nobody holds it any more, and every figure but the time is the same.
        assert "lease.json" not in bucket.names(f"cells/{cell.name}")
        found, expected = (
            read_scores(load_sweep(str(file)), store).drop("finished_at")
            for store in (bucket, calm)
        )
        assert expected.height > 0 and found.equals(expected)
