"""How a driver treats what goes wrong, without a cluster: the training itself is put in by hand."""

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from ray.exceptions import RayTaskError, WorkerCrashedError
from ray.train.v2.api.exceptions import ControllerError

from radsweep.errors import CellError, CollapsedError, SpecError
from radsweep.evaluate import grid
from radsweep.pretrain import worker
from radsweep.pretrain.loop import Ranks, Row
from radsweep.pretrain.place import Workers, check_share
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore, Record
from radsweep.sweep import run
from tests.dashboards.toy import toy_scores
from tests.evaluate.toy import sweep, write_cell, write_corpus
from tests.sweep.commands import environment
from tests.sweep.identifiers import Searcher, contents


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def drive(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Record]], tuple[str, str | None]]:
    """Drives one cell whose training is the given function."""
    monkeypatch.setattr(run, "HELD_POLL_SECONDS", 0.01)

    def drive_with(train: Callable[[], Record]) -> tuple[str, str | None]:
        monkeypatch.setattr(run, "run_cell", lambda cell, store, workers, leaving: train())
        return run.drive_cell(CELL, store, Workers())

    return drive_with


CELL: Cell = sweep().cells()[-1]


class Task:
    """What ``ray.remote`` makes of a function, as far as ``run_cell`` goes."""

    def options(self, **given: object) -> "Task":
        return self

    def remote(self, *given: object) -> None:
        """Nothing runs."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], None]:
    """Makes Ray answer with these, one per attempt; an exception is raised."""

    def answer_with(answers: list[Any]) -> None:
        def get(task: None) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(worker.ray, "remote", lambda **given: lambda function: Task())
        monkeypatch.setattr(worker.ray, "get", get)

    return answer_with


def test_a_fault_from_a_worker_is_told_without_rays_traceback(
    answers: Callable, store: Store
) -> None:
    fault = SpecError("no weights in [folder]; give another")
    raised = RayTaskError("train", "Traceback: a page of it", fault).as_instanceof_cause()
    answers([raised])
    assert run.drive_cell(CELL, store, Workers()) == ("failed", str(fault))
    assert CellStore(store, CELL.name).state()["reason"] == str(fault)


def test_a_cell_whose_machine_is_taken_away_begins_again_as_often_as_it_takes(
    answers: Callable, store: Store
) -> None:
    left = {"state": "preempted", "reason": "left at step 2"}
    answers([left] * 10 + [{"state": "diverged", "reason": "the loss is inf"}])
    assert run.drive_cell(CELL, store, Workers(max_failures=0)) == ("diverged", "the loss is inf")


def test_losses_from_one_checkpoint_are_counted_and_those_of_one_that_got_further_begin_anew(
    answers: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [None, None, "20.pt", "20.pt", "40.pt", "40.pt", "40.pt"]
    lost = WorkerCrashedError()
    answers([lost] * len(kept))
    monkeypatch.setattr(worker, "newest", lambda corner: kept.pop(0))
    with pytest.raises(WorkerCrashedError):
        worker.run_cell(CELL, store, Workers(max_failures=2))
    assert kept == []


def test_a_group_whose_start_fails_is_begun_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [ControllerError(RuntimeError("a node went")), {"state": "diverged", "reason": "inf"}]

    def attempt(*given: object) -> Any:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(worker, "_attempt", attempt)
    with pytest.raises(CellError, match="inf"):
        worker.run_cell(CELL, store, Workers(count=2))
    assert ends == []


def test_settings_of_workers_that_do_not_go_together_are_refused_at_once() -> None:
    with pytest.raises(SpecError, match="--keep-every-steps 300 is no multiple of"):
        Workers(checkpoint_steps=200, keep_every_steps=300)
    with pytest.raises(SpecError, match="neither with --images-at-once nor with --compile"):
        Workers(count=2, sharded=True, compile_blocks=True)


def test_a_range_of_workers_is_refused_where_rays_client_does_not_know_the_nodes(
    store: Store,
) -> None:
    options = run.RunOptions(
        address="ray://head:10001", workers_for=lambda cell: Workers(count=1, most=2)
    )
    with pytest.raises(SpecError, match=r"--workers 1:2 needs to know each node's room"):
        run.run(sweep("findings"), store, options, Nothing())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at_once", "remedy"),
    [(None, "8 images at once on cpu (full); give --images-at-once 4, more --workers"),
     (3, "3 images at once on cpu (full); give --images-at-once 1, more --workers"),
     (1, "1 images at once on cpu (full); give more --workers or a larger device")],
)  # fmt: skip
def test_a_cell_that_finds_no_memory_says_how_many_images_fit_better(
    at_once: int | None, remedy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def full(*cell: object, **options: object) -> Record:
        given.update(options)
        raise torch.OutOfMemoryError("full. Of 10 GiB, 9 are taken")

    monkeypatch.setattr(worker, "fit", full)
    workers, nothing = Workers(images_at_once=at_once), lambda *_: None
    answer = worker._answer(CELL, store, Ranks(), workers, nothing, lambda: False)
    assert given["images_at_once"] == at_once
    assert answer["state"] == "failed" and remedy in answer["reason"]
    with pytest.raises(torch.OutOfMemoryError, match=r"no memory for .* images at once"):
        worker._answer(CELL, store, Ranks(size=2), workers, nothing, lambda: False)


def test_other_exceptions_are_named_and_a_collapse_keeps_its_state(
    drive: Callable, store: Store
) -> None:
    def no_memory() -> Record:
        raise MemoryError("out of memory\non device 0")

    def collapse() -> Record:
        raise CollapsedError("all alike")

    assert drive(no_memory) == ("failed", "MemoryError: on device 0")
    assert drive(collapse) == ("collapsed", "all alike")
    assert CellStore(store, CELL.name).state()["state"] == "collapsed"


def test_what_earlier_attempts_cost_is_not_forgotten_by_one_that_ends_at_once(
    drive: Callable, store: Store
) -> None:
    corner = CellStore(store, CELL.name)
    corner.set_state("preempted", spent=0.6, seconds=100.0, workers=2.0, loss=1.5)

    def too_wide() -> Record:
        assert corner.state()["spent"] == 0.6
        raise MemoryError("out of memory")

    assert drive(too_wide) == ("failed", "MemoryError: out of memory")
    said = corner.state()
    assert (said["spent"], said["seconds"], said["workers"]) == (0.6, 100.0, 2.0)


@pytest.mark.parametrize("fails", ["write", "close"])
def test_a_logger_that_fails_costs_its_curves_alone(
    fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = list[Row]()

    class Gauges:
        def __init__(self, cell: Cell) -> None:
            self.tell = rows.append

    monkeypatch.setattr(worker, "CellGauges", Gauges)
    told = Workers(log_to=f"tests.loggers.broken=/{fails}")
    with worker._watchers(CELL, told) as tell:
        for step in (10, 20, 30):
            tell({"step": step})
    assert len(rows) == 3
    assert caplog.text.count("nobody there") == 1 and CELL.name in caplog.text


def test_a_driver_that_lost_its_lease_writes_nothing_and_waits_for_the_other(
    drive: Callable, store: Store
) -> None:
    corner = CellStore(store, CELL.name)

    def train_too_long() -> Record:
        # Meanwhile another driver takes the cell over and brings it to its end.
        lease = store.read_json(corner.path("lease.json"))
        store.write_json(corner.path("lease.json"), {**lease, "holder": "another"})
        write_cell(store, CELL, seed=1)
        return corner.record()

    assert drive(train_too_long) == ("done", None)
    assert corner.state()["state"] == "done"
    assert store.read_json(corner.path("lease.json"))["holder"] == "another"


def test_the_lease_of_a_killed_driver_is_taken_over_at_once(store: Store) -> None:
    hold = (
        "import sys, time; from radsweep.store import Store;"
        "from radsweep.store.record import CellStore;"
        f"lease = CellStore(Store({store.url!r}), 'toy').lease(); lease.__enter__();"
        "print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    corner = CellStore(store, "toy")
    with corner.lease() as taken:
        assert taken is None
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with corner.lease() as taken:
        assert taken is not None


def test_a_corpus_too_small_for_a_task_is_found_before_training(store: Store) -> None:
    write_corpus(store)
    run.check_task_data(sweep("findings"), store)
    manifest = store.read_table("corpora/toy@1/manifest.parquet")
    store.write_table(
        "corpora/toy@1/manifest.parquet",
        manifest.filter((pl.col("split") != "test") | pl.col("patient_id").is_in(["test000"])),
    )
    with pytest.raises(SpecError, match="task findings"):
        run.check_task_data(sweep("findings"), store)


def test_what_hangs_on_tunes_searcher_can_be_pickled_and_still_tells() -> None:
    told: list[tuple[int, int]] = []

    class Terminal:
        def grid(self, done: int, total: int) -> None:
            told.append((done, total))

        def __reduce__(self) -> str:
            raise TypeError("a terminal cannot be pickled")

    searcher = grid._GridSearcher(Nothing(), Terminal().grid)  # type: ignore[arg-type]
    pickle.loads(pickle.dumps(searcher))._progress(1, 2)
    assert told == []
    searcher._progress(1, 2)
    assert told == [(1, 2)]


def test_processes_that_cannot_share_a_batch_evenly_are_refused_before_compute(
    store: Store,
) -> None:
    size = CELL.budget.batch_size
    for count in (divisor for divisor in range(1, size + 1) if size % divisor == 0):
        check_share(CELL, Workers(count=count))
    assert size == 8
    said = "a batch of 8 images is not 3 equal shares; give --workers 2 or 4"
    with pytest.raises(SpecError, match=said):
        check_share(CELL, Workers(count=3))
    with pytest.raises(SpecError, match=r"give --workers 8$"):
        check_share(CELL, Workers(count=16))
    options = run.RunOptions(workers_for=lambda cell: Workers(count=3))
    with pytest.raises(SpecError, match=said):
        run.run(sweep("findings"), store, options, Nothing())  # type: ignore[arg-type]
    # Neither is a process started, nor is the cell's budget said to be spent.
    assert run.drive_cell(CELL, store, Workers(count=3))[0] == "failed"
    baseline = sweep().cells()[0]
    assert baseline.is_baseline
    check_share(baseline, Workers(count=3))


class Nothing:
    """A schedule with no steps."""


def test_fits_are_made_again_only_for_other_scores(store: Store) -> None:
    scores = toy_scores(seeds=(0,), draws=20)
    scores = scores.with_columns(pl.col("finished_at").dt.replace_time_zone("UTC"))
    declared = dataclasses.replace(sweep(), protocol=None)
    run.keep_answers(declared, store, scores)
    path = f"sweeps/{sweep().name}.fits.parquet"
    store.write_bytes(path, b"as it was")
    run.keep_answers(declared, store, scores.reverse().reverse())
    assert store.read_bytes(path) == b"as it was"
    run.keep_answers(declared, store, scores.with_columns(pl.col("value") * 0.9))
    assert store.read_table(path).height > 0


def test_the_search_for_identifiers_sees_into_compressed_columns(tmp_path: Path) -> None:
    searcher = Searcher(["Quelanderby", "20190312"])
    file = tmp_path / "table.parquet"
    text = "the report of Quelanderby is long " * 50
    pl.DataFrame({"text": [text], "bits": [b"\x00 20190312 "]}).write_parquet(file)
    assert {one for data in contents(file) for one in searcher.found(data)} == {
        "quelanderby",
        "20190312",
    }
    assert searcher.found(b"MR. QUELANDERBY") == {"quelanderby"}
    assert searcher.found(b"0.20190312") == searcher.found(b"720190312") == set()
    assert searcher.found(b"") == set()
