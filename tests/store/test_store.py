import json
import pickle
import threading
from pathlib import Path

import polars as pl
import pytest

from radsweep.errors import LeaseLostError, StoreError
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store, record
from radsweep.store.record import CellStore, Record

MEMORY = "memory://radsweep-tests"


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path))
    found = Store(f"{MEMORY}/{tmp_path.name}")
    return found


def toy_cell(seed: int = 0) -> Cell:
    recipe = Recipe(paradigm="clip", encoder="x", image_size=64, learning_rate=1e-3)
    return Cell(
        recipe=recipe,
        subset=Subset(corpus="toy@1", images=16),
        budget=Budget(steps=2, batch_size=8),
        seed=seed,
    )


def toy_record(cell: Cell) -> Record:
    return Record(
        cell=cell.name, key=cell.key, images=16, patients=4, subset_digest="d", images_seen=16,
        steps=2, epochs=1.0, flops_per_image=1.0, flops=16.0, seconds=1.0, gpu_seconds=0.0,
        workers=1, device="cpu", encoder_digest="e", start_digest="s", final_losses={"loss": 1.0},
    )  # fmt: skip


def test_what_is_written_is_read(store: Store) -> None:
    store.write_json("a/b.json", {"x": [1, 2]})
    table = pl.DataFrame({"n": [1, 2]})
    store.write_table("a/t.parquet", table)
    assert store.read_json("a/b.json") == {"x": [1, 2]}
    assert store.read_table("a/t.parquet").equals(table)
    assert store.names("a") == ["b.json", "t.parquet"]
    assert store.names("nowhere") == []


def test_ranges_of_several_files_come_together(store: Store) -> None:
    store.write_bytes("one", b"0123456789")
    store.write_bytes("two", b"abcdef")
    assert store.read_ranges([("one", 2, 5), ("two", 0, 2)]) == [b"234", b"ab"]
    with pytest.raises(StoreError, match="ends before byte 12"):
        store.read_ranges([("one", 8, 12)])


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create_bytes("claim", b"1")
    assert not store.create_bytes("claim", b"2")
    assert store.read_bytes("claim") == b"1"


def test_a_store_travels_between_processes(store: Store) -> None:
    store.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(str(tmp_path / "file")).check_writable()


def test_a_cell_is_done_only_when_all_is_written(store: Store) -> None:
    cell = toy_cell()
    corner = CellStore(store, cell.name)
    assert corner.state() == {"state": "waiting"}
    with pytest.raises(StoreError, match="not done"):
        corner.record()
    corner.finish(toy_record(cell))
    assert corner.record() == toy_record(cell) or corner.record().cell == cell.name
    assert corner.state()["state"] == "done"


def test_a_folder_with_another_cells_spec_is_refused(store: Store) -> None:
    cell = toy_cell()
    corner = CellStore(store, cell.name)
    corner.declare(cell)
    corner.declare(cell)
    spec = store.read_json(corner.path("spec.json"))
    spec["identity"]["seed"] = 5
    store.write_json(corner.path("spec.json"), spec)
    with pytest.raises(StoreError, match="is not the spec of"):
        corner.declare(cell)


def test_two_drivers_never_hold_one_cell(store: Store) -> None:
    corner = CellStore(store, "toy")
    with corner.lease() as first:
        assert first is not None
        with corner.lease() as second:
            assert second is None
    with corner.lease() as third:
        assert third is not None


def test_a_stale_lease_is_taken_over_and_its_former_holder_finds_out(store: Store) -> None:
    corner = CellStore(store, "toy")
    store.write_json(corner.path("lease.json"), {"holder": "dead", "beat": 0.0})
    corner.set_state("running", spent=0.5)
    assert corner.state()["state"] == "preempted"
    with corner.lease() as holder:
        assert holder is not None
        corner.check_lease(holder)
        assert corner.state()["state"] == "running"
        with pytest.raises(LeaseLostError, match="took toy over"):
            corner.check_lease("dead")


def test_a_lease_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "HEARTBEAT_S", 0.05)
    corner = CellStore(store, "toy")
    with corner.lease() as holder:
        first = store.read_json(corner.path("lease.json"))["beat"]
        waiting = threading.Event()
        for _ in range(100):
            if (
                waiting.wait(0.05)
                or json.loads(store.read_bytes(corner.path("lease.json")))["beat"] > first
            ):
                break
        beat = store.read_json(corner.path("lease.json"))
    assert beat["beat"] > first and beat["holder"] == holder
