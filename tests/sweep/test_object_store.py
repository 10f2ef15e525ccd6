"""The store's promises, and a sweep, on a real S3 server, which can neither rename nor append."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radsweep.dashboards.page import render
from radsweep.dashboards.pages import book
from radsweep.errors import StoreError
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.dash import load_tables
from radsweep.sweep.results import Kept
from tests.evaluate.toy import sweep as toy_sweep
from tests.evaluate.toy import write_cell
from tests.sweep.commands import environment
from tests.sweep.s3 import MISSING, is_installed, s3_server
from tests.sweep.test_results import write_scores
from tests.sweep.test_resume import (
    encoder_of,
    kill_in_the_middle,
    run,
    trained_cells,
    write_sweep,
)
from tests.sweep.test_submit import free_ports

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not is_installed(), reason=MISSING),
    # aiobotocore's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
RACERS = 6

RACE = """
import sys
from radsweep.store import Store
store, name = Store(sys.argv[1]), sys.argv[2]
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
for claim in range(10):
    if store.create_bytes(f"claims/{claim}", name.encode()):
        sys.stdout.write(f"{claim}\\n")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    (port,) = free_ports(1)
    with s3_server(port) as said:
        yield said


@pytest.fixture
def bucket(server: dict[str, str], request: pytest.FixtureRequest) -> Store:
    name = f"radsweep-{abs(hash(request.node.name)) % 10**8}"
    store = Store(f"s3://{name}/root")
    store._fs.mkdir(name)
    return store


def test_files_are_whole_listed_at_once_and_gone_when_deleted(bucket: Store) -> None:
    bucket.check_writable()
    bucket.write_json("sweeps/a.json", {"a": 1})
    assert bucket.read_json("sweeps/a.json") == {"a": 1}
    bucket.write_json("sweeps/a.json", {"a": 2})
    assert bucket.read_json("sweeps/a.json") == {"a": 2}
    bucket.write_bytes("cells/x/DONE", b"")
    assert bucket.exists("cells/x/DONE") and bucket.exists("cells/x")
    assert bucket.names("cells") == ["x"] and bucket.names("cells/x") == ["DONE"]
    bucket.write_bytes("shard", bytes(range(100)))
    assert bucket.read_ranges([("shard", 3, 5), ("shard", 90, 100)]) == [
        bytes([3, 4]),
        bytes(range(90, 100)),
    ]
    with pytest.raises(StoreError, match="damaged"):
        bucket.read_ranges([("shard", 90, 120)])
    with pytest.raises(StoreError, match="is not in the store"):
        bucket.read_bytes("nowhere")
    bucket.delete("cells/x")
    assert bucket.names("cells") == [] and not bucket.exists("cells/x/DONE")
    bucket.delete("cells/x")


def test_what_others_wrote_since_a_listing_is_read_and_not_taken_for_absent(bucket: Store) -> None:
    bucket.write_bytes("cells/a", b"whole")
    assert bucket.names("cells") == ["a"]
    # As another process would, whose writes this one's listings do not know.
    server = bucket._fs.__class__(skip_instance_cache=True)
    server.pipe_file(bucket.full("cells/b"), b"new")
    assert bucket.read_bytes("cells/b") == b"new"
    assert not bucket.create_bytes("cells/b", b"another's")


def test_a_bucket_that_is_not_there_is_told_before_compute_is_spent(
    server: dict[str, str],
) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        Store("s3://radsweep-nobody-made-it/root").check_writable()


def test_of_processes_that_claim_one_file_exactly_one_gets_it(
    bucket: Store, server: dict[str, str]
) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, bucket.url, f"racer{number}"],
            env=environment(**server),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(lambda racer: racer.communicate("go\n")[0].split(), racers))
    assert sorted(claim for claims in won for claim in claims) == [str(n) for n in range(10)]
    for number, claims in enumerate(won):
        for claim in claims:
            assert bucket.read_bytes(f"claims/{claim}") == f"racer{number}".encode()


def test_a_lease_is_held_by_one_and_free_again_when_left(bucket: Store) -> None:
    corner = CellStore(bucket, "toy")
    with corner.lease() as held:
        assert held is not None
        with CellStore(Store(bucket.url), "toy").lease() as other:
            assert other is None
        corner.check_lease(held)
    with corner.lease() as again:
        assert again is not None


def test_a_dashboard_reads_many_files_of_its_bucket_side_by_side_and_keeps_them(
    bucket: Store, tmp_path: Path
) -> None:
    sweep = dataclasses.replace(toy_sweep(), protocol=None, seeds=(0, 1))
    on_disk = Store(str(tmp_path))
    for cell in sweep.cells():
        write_cell(on_disk, cell, seed=cell.seed)
    trials = {cell.name: [f"{cell.name}-{n}" for n in range(20)] for cell in sweep.cells()}
    write_scores(on_disk, sweep, trials)
    bucket._fs.put(f"{on_disk.full('')}/", f"{bucket.full('')}/", recursive=True)
    kept = Kept()
    first, again = (load_tables(sweep, bucket, kept) for _ in range(2))
    expected = load_tables(sweep, on_disk)
    assert len(first.scores) == 4 * 20 * 3
    for found in (first, again):
        assert found.scores.equals(expected.scores)
        assert found.cells.equals(expected.cells)
    assert render(book(again)) == render(book(first))


# Scores are compared at every change (test_miniature.py), bytes before a release.
@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_from_its_bucket_to_the_same_bytes_as_on_disk(
    bucket: Store, server: dict[str, str], new_store: Callable[[], Store], tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "bucket.py", '(recipe("dinov2"),)', steps=120)
    (cell,) = trained_cells(file)
    on_disk = new_store()
    bucket._fs.put(f"{on_disk.full('')}/", f"{bucket.full('')}/", recursive=True)
    kill_in_the_middle(file, bucket, cell)
    assert not CellStore(bucket, cell.name).is_done
    run(file, bucket, **server)
    run(file, on_disk)
    assert encoder_of(cell, bucket) == encoder_of(cell, on_disk)
    corner = CellStore(bucket, cell.name)
    assert corner.record().steps == 120
    assert bucket.read_table(corner.path("steps.parquet"))["step"].to_list() == list(
        range(10, 130, 10)
    )
    assert [name for name in bucket.names(corner.path("")) if name.endswith(".partial")] == []
    assert "lease.json" not in bucket.names(corner.path(""))
