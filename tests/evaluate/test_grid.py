import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray
from ray import tune

from radsweep import parts
from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError, StoreError
from radsweep.evaluate import grid
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Request
from radsweep.evaluate.grid import pending_units, run_grid
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.trial import (
    Bench,
    Unit,
    lock_file,
    make_task,
    measures_file,
    trial_key,
)
from radsweep.evaluate.wanted import wanted
from radsweep.specs import Protocol, Sweep
from radsweep.store import Store, scores
from radsweep.store.layout import predictions_file, sweep_file
from radsweep.store.record import CellStore
from radsweep.tasks.base import SPLITS
from radsweep.tasks.ranking import ranking_areas
from tests.evaluate import toy

CELLS = toy.sweep().cells()
Tuner = tune.Tuner


def _ignore(done: int, total: int) -> None:
    pass


def _scores(store: Store, sweep: Sweep) -> pl.DataFrame:
    index = store.read_json(sweep_file(sweep.name, "trials.json"))
    rows = scores.read(store, sorted(key for keys in index.values() for key in keys))
    return rows.filter(pl.col("sweep") == sweep.name).drop("finished_at")


def _encoder(store: Store, number: int) -> Encoder:
    return Encoder.of(CELLS[number], CellStore(store, CELLS[number].name).record())


def test_every_finished_cell_gets_one_headline_with_draws_for_every_task(scored: Store) -> None:
    rows = _scores(scored, toy.sweep())
    headline = rows.filter("headline")
    assert sorted(headline.select("cell", "task").rows()) == sorted(
        (cell.name, task) for cell in CELLS for task in toy.protocol().tasks
    )
    assert headline["label"].unique().to_list() == ["macro"]
    assert headline["draws"].list.len().unique().to_list() == [100]
    assert (headline["ci_low"] <= headline["ci_high"]).all()
    trained = rows.filter(pl.col("cell") == CELLS[1].name).row(0, named=True)
    assert (trained["images"], trained["images_seen"], trained["seed"]) == (8, 32, 0)
    assert trained["start_from"] == "random" and trained["paradigm"] == "clip"


def test_what_the_encoder_can_see_is_found(scored: Store) -> None:
    rows = _scores(scored, toy.sweep()).filter(
        pl.col("metric") == "auroc", pl.col("label") == "macro"
    )
    assert (rows["value"] > 0.95).all()


def test_a_metric_can_be_recomputed_from_the_predictions(scored: Store) -> None:
    sweep = toy.sweep()
    row = next(each for each in wanted(scored, sweep, CELLS) if each.unit.task == "findings")
    table = scored.read_table(predictions_file(row.trial)).filter(pl.col("label") == "nodule")
    values = table["prediction"].to_numpy(), table["target"].to_numpy() == 1
    auroc, _ = ranking_areas(*values, np.ones((1, table.height), np.uint16))
    written = scores.read(scored, [row.score]).filter(
        pl.col("label") == "nodule", pl.col("metric") == "auroc"
    )
    assert written["value"].item() == pytest.approx(auroc[0])
    assert written["n_test"].item() == 60


def test_a_scored_sweep_has_nothing_pending_and_a_second_run_does_nothing(scored: Store) -> None:
    sweep = toy.sweep()
    assert pending_units(scored, sweep, CELLS) == []
    told: list[tuple[int, int]] = []
    assert run_grid_locally(scored, sweep, CELLS, progress=lambda *steps: told.append(steps)) == []
    assert told == []


def test_an_unfinished_cell_and_a_sweep_without_protocol_have_nothing_to_score(
    store: Store,
) -> None:
    sweep = toy.sweep("findings")
    store.delete(CellStore(store, CELLS[1].name).path("DONE"))
    assert pending_units(store, sweep, CELLS) == [f"{CELLS[0].name} / findings"]
    assert pending_units(store, dataclasses.replace(sweep, protocol=None), CELLS) == []


def test_another_sweep_that_shares_cells_gets_its_rows_without_measuring_again(
    scored: Store,
) -> None:
    other = toy.sweep(name="other")
    assert len(pending_units(scored, other, CELLS)) == 8
    assert run_grid_locally(scored, other, CELLS, progress=_ignore) == []
    mine, theirs = _scores(scored, toy.sweep()), _scores(scored, other)
    key = ["cell", "task", "metric", "label"]
    assert mine.drop("sweep").sort(key).equals(theirs.drop("sweep").sort(key))


def test_two_cells_with_the_same_weights_share_one_measurement(store: Store) -> None:
    toy.write_cell(store, CELLS[1], seed=0)
    sweep = toy.sweep("findings")
    rows = wanted(store, sweep, CELLS)
    assert rows[0].trial == rows[1].trial and rows[0].score != rows[1].score
    assert run_grid_locally(store, sweep, CELLS, progress=_ignore) == []
    assert len([name for name in store.names("predictions") if "test-read" in name]) == 1
    found = _scores(store, sweep)
    assert sorted(found["cell"].unique()) == sorted(cell.name for cell in CELLS)


def test_a_trial_s_key_hangs_on_what_it_measures_and_on_nothing_else(store: Store) -> None:
    base = toy.protocol()
    unit = Unit(encoder=_encoder(store, 0), task="findings", probe="linear")

    def key(unit: Unit = unit, digest: str = "d", **changes: object) -> str:
        return trial_key(unit, dataclasses.replace(base, **changes), "toy@1", digest)  # type: ignore[arg-type]

    same = [
        key(),
        key(tasks=("findings",)),
        key(settings={**dict(base.settings), "segment.steps": 9}),
    ]
    assert len(set(same)) == 1
    segment = dataclasses.replace(unit, task="lines_tubes_seg", probe="segment")
    changed = [
        key(seed=1),
        key(train_images=10),
        key(test_images=10),
        key(bootstraps=200),
        key(search_trials=3),
        key(settings={"linear.vectors": "mean"}),
        key(digest="other"),
        key(dataclasses.replace(unit, encoder=_encoder(store, 1))),
        key(dataclasses.replace(unit, task="lines_tubes")),
        key(segment),
        key(segment, settings={"segment.steps": 9}),
    ]
    assert len({*same, *changed}) == 12


def test_a_golden_trial_key_does_not_move_by_accident() -> None:
    encoder = Encoder(cell="c", digest="0" * 64, recipe=toy.RECIPE)
    unit = Unit(encoder=encoder, task="findings", probe="linear")
    assert (parts.version("tasks", "findings"), parts.version("probes", "linear")) == (3, 2)
    assert trial_key(unit, Protocol(tasks=("findings",)), "toy@1", "digest") == GOLDEN


GOLDEN = "51e8ef77ab7827f9"


def _bench(store: Store) -> tuple[Bench, Unit]:
    protocol = toy.protocol()
    corpus = Corpus.open(store, toy.CORPUS)
    data = {"lines_tubes_seg": make_task("lines_tubes_seg").data(corpus, protocol)}
    bench = Bench(store, protocol, corpus.name, "toy", data, toy.CPU)
    return bench, Unit(encoder=_encoder(store, 0), task="lines_tubes_seg", probe="segment")


def test_test_is_read_once_and_never_again_with_another_choice(scored: Store) -> None:
    bench, unit = _bench(scored)
    lock = scored.read_json(lock_file(bench.key(unit)))
    before = scored.read_table(measures_file(bench.key(unit))).drop("finished_at")
    with pytest.raises(StoreError, match="may not be read again"):
        bench.finish(unit, {"learning_rate": 0.123})
    # A trial that was killed between its lock and its rows says the same when it is repeated.
    again = bench.finish(unit, lock["choice"]).drop("finished_at")
    assert again.equals(before)


def test_a_search_step_touches_neither_the_lock_nor_the_test_features(scored: Store) -> None:
    bench, unit = _bench(scored)
    key = bench.key(unit)
    scored.delete(lock_file(key))
    data = make_task(unit.task).data(Corpus.open(scored, toy.CORPUS), toy.protocol())
    scored.delete(f"features/{Request.of(data.test, 'dense', 0).key(unit.encoder, 'toy')}")
    assert np.isfinite(bench.run_search_step(unit, {"learning_rate": 1e-3}))
    assert not scored.exists(lock_file(key))


def test_the_probe_that_the_search_left_and_the_one_trained_anew_score_the_same(
    scored: Store,
) -> None:
    bench, unit = _bench(scored)
    key = bench.key(unit)
    before = scored.read_table(measures_file(key)).drop("finished_at")
    choice = scored.read_json(lock_file(key))["choice"]
    bench.run_search_step(unit, choice)
    assert bench.finish(unit, choice).drop("finished_at").equals(before)


def test_a_task_that_fails_is_reported_and_the_others_are_scored(store: Store) -> None:
    sweep = toy.sweep("findings", "reports")
    settings = {**dict(sweep.protocol.settings), "report.language_model": "/nowhere"}  # type: ignore[union-attr]
    broken = dataclasses.replace(
        sweep,
        protocol=dataclasses.replace(sweep.protocol, settings=settings),  # type: ignore[type-var]
    )
    told: list[tuple[int, int]] = []
    failed = run_grid_locally(store, broken, CELLS, progress=lambda *steps: told.append(steps))
    assert [name for name, _ in failed] == [f"{cell.name} / reports" for cell in CELLS]
    assert all("config.json" in reason for _, reason in failed)
    assert set(_scores(store, broken)["task"]) == {"findings"}
    assert told[-1][0] == told[-1][1]


def test_a_cell_without_its_weights_is_reported_for_every_task_and_the_other_is_scored(
    store: Store,
) -> None:
    sweep = toy.sweep("findings", "lines_tubes")
    store.delete(CellStore(store, CELLS[0].name).path("encoder.safetensors"))
    failed = run_grid_locally(store, sweep, CELLS, progress=_ignore)
    assert [name for name, _ in failed] == [
        f"{CELLS[0].name} / findings",
        f"{CELLS[0].name} / lines_tubes",
    ]
    assert _scores(store, sweep)["cell"].unique().to_list() == [CELLS[1].name]


@pytest.mark.parametrize(
    "task", [name for name in parts.names("tasks") if name != "exam_retrieval"]
)
def test_patients_never_cross_splits_and_a_perfect_answer_scores_1(store: Store, task: str) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    made = make_task(task)
    type(made).check(corpus.card)
    data = made.data(corpus, toy.protocol())
    people = [set(data.split(split).patients) for split in SPLITS]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    weights = np.ones((1, len(data.test)), np.uint16)
    answer = data.test.targets
    perfect = made.measure(data, answer, weights)
    headline = [m for m in perfect if m.metric == made.headline and m.label == "macro"]
    assert [m.values[0] for m in headline] == [1.0]
    distances = {m.metric for m in perfect if m.metric.endswith(("_pixels", "_mm"))}
    assert {m.values[0] for m in perfect if m.metric not in distances} == {1.0}
    assert {m.values[0] for m in perfect if m.metric in distances} <= {0.0}
    assert set(data.labels) <= {m.label for m in perfect}
    table = made.table(data, answer)
    assert table["image_id"].n_unique() == len(data.test)
    assert {"image_id", "patient_id", "label", "target", "prediction"} <= set(table.columns)


def test_a_cap_takes_whole_patients_and_the_same_ones_for_every_task(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    capped = dataclasses.replace(toy.protocol(), train_images=41, test_images=25)
    data = [make_task(task).data(corpus, capped) for task in ("findings", "lines_tubes_seg")]
    assert [len(each.train) for each in data] == [40, 40]
    assert [len(each.test) for each in data] == [24, 24]
    assert data[0].test.image_ids == data[1].test.image_ids
    other = dataclasses.replace(capped, seed=1)
    assert make_task("findings").data(corpus, other).test.image_ids != data[0].test.image_ids


def test_a_corpus_that_lacks_what_a_task_needs_is_refused_with_a_remedy(tmp_path: Path) -> None:
    store = Store(os.fspath(tmp_path))
    toy.write_corpus(store, masks=False, reports=False)
    corpus = Corpus.open(store, toy.CORPUS)
    for task, what in (("lines_tubes_seg", "needs masks"), ("reports", "needs reports")):
        made = make_task(task)
        with pytest.raises(SpecError, match=f"task {task} {what}; corpus toy@1 has none"):
            type(made).check(corpus.card)
        with pytest.raises(SpecError, match=what):
            made.data(corpus, toy.protocol())
    with pytest.raises(SpecError, match=r"needs finding_\* labels"):
        type(make_task("findings")).check(corpus.card | {"label_columns": ["tube_ett"]})
    rare = dataclasses.replace(toy.protocol(), test_images=6)
    with pytest.raises(SpecError, match="5 patients with it"):
        make_task("findings").data(corpus, rare)


@pytest.mark.cluster
# Ray's own: it writes to settings that it deprecates.
@pytest.mark.filterwarnings("ignore")
def test_the_grid_on_ray_gives_the_numbers_of_the_local_one_in_several_runs_of_tune(
    scored: Store, tmp_path: Path, no_tokens: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    monkeypatch.setattr(grid, "TRIALS_PER_RUN", 5)
    runs: list[object] = []
    monkeypatch.setattr(tune, "Tuner", lambda *a, **k: runs.append(a) or Tuner(*a, **k))
    store = Store(os.fspath(tmp_path / "ray"))
    shutil.copytree(scored.full(""), store.full(""))
    for folder in ("features", "scores", "predictions"):
        store.delete(folder)
    told: list[tuple[int, int]] = []
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        failed = run_grid(
            store,
            toy.sweep(),
            CELLS,
            cpus=1,
            gpus=0,
            at_once=2,
            progress=lambda *s: told.append(s),
        )
    finally:
        ray.shutdown()
    assert failed == []
    assert told[-1] == (16, 16)
    assert len(runs) > 1
    assert _scores(store, toy.sweep()).equals(_scores(scored, toy.sweep()))
