import dataclasses
import json
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import false_discovery_control, norm
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.clinical import clinical_scores
from radsweep.evaluate.compare import differences, left_out_labels, paired_differences
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import wanted
from radsweep.laws.compare import holm
from radsweep.store import Store, scores
from radsweep.store.layout import predictions_file
from radsweep.store.scores import SCHEMA
from radsweep.sweep.load import load_sweep
from radsweep.tasks.base import Measurement
from radsweep.tasks.clinical import find_metric
from radsweep.tasks.resample import interval, shared_people
from tests.evaluate import toy
from tests.evaluate.conftest import fresh

CELLS = toy.sweep().cells()


@pytest.mark.parametrize("task", toy.protocol().tasks)
def test_stored_predictions_give_the_stored_scores_again(scored: Store, task: str) -> None:
    corpus = Corpus.open(scored, toy.CORPUS)
    made = make_task(task)
    data = made.data(corpus, toy.protocol())
    row = next(each for each in wanted(scored, toy.sweep(), CELLS) if each.unit.task == task)
    table = scored.read_table(predictions_file(row.trial))
    weights = np.ones((1, len(data.test)), np.uint16)
    again = made.measure(
        data, made.predicted(data, table.sample(fraction=1.0, shuffle=True)), weights
    )
    written = scores.read(scored, [row.score])
    assert len(again) == written.height
    for one in again:
        value = written.filter(metric=one.metric, label=one.label)["value"].item()
        assert np.isnan(one.values[0]) if value is None else one.values[0] == pytest.approx(value)


def test_a_difference_is_that_of_the_scores_with_an_interval_around_it(scored: Store) -> None:
    sweep = toy.sweep()
    found = paired_differences(scored, sweep, CELLS, "lines_tubes_seg")
    assert found.select("cell", "other").rows() == [(CELLS[0].name, CELLS[1].name)]
    row = found.row(0, named=True)
    written = {
        each.cell.name: scores.read(scored, [each.score]).filter("headline").row(0, named=True)
        for each in wanted(scored, sweep, CELLS)
        if each.unit.task == "lines_tubes_seg"
    }
    ours, theirs = (written[cell.name] for cell in CELLS)
    assert row["difference"] == pytest.approx(ours["value"] - theirs["value"])
    assert row["ci_low"] <= row["difference"] <= row["ci_high"]
    draws = np.array(ours["draws"]) - np.array(theirs["draws"])
    # Dice says something of the patients in whose images a class is or was drawn.
    rests_on = []
    for each in (row for row in wanted(scored, sweep, CELLS) if row.unit.task == "lines_tubes_seg"):
        table = scored.read_table(predictions_file(each.trial)).filter(pl.col("dice").is_not_null())
        counts = table.group_by("label").agg(pl.col("patient_id").n_unique())["patient_id"]
        rests_on.append(shared_people(counts.to_list()))
    bounds = interval(draws, min(rests_on))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(bounds, abs=1e-6)
    assert row["p"] == row["p_holm"]
    assert (row["metric"], row["label"], row["probe"]) == ("dice", "macro", "segment")


def test_one_label_and_another_metric_can_be_asked_for_and_an_unknown_one_is_refused(
    scored: Store,
) -> None:
    sweep = toy.sweep()
    one = paired_differences(scored, sweep, CELLS, "findings", metric="auprc", label="nodule")
    assert one.select("metric", "label").row(0) == ("auprc", "nodule")
    with pytest.raises(SpecError, match="has no dice of 'macro'; it has auprc of effusion"):
        paired_differences(scored, sweep, CELLS, "findings", metric="dice")
    with pytest.raises(SpecError, match="does not score the task 'other'"):
        paired_differences(scored, sweep, CELLS, "other")


def test_holm_s_correction_is_the_step_down_by_hand() -> None:
    p = np.array([0.04, 0.001, 0.03, 0.5])
    assert holm(p).tolist() == pytest.approx([0.09, 0.004, 0.09, 0.5])
    many = np.random.default_rng(0).random(30)
    assert (holm(many) >= many).all() and (holm(many) <= np.minimum(1, 30 * many)).all()
    assert (holm(many) >= false_discovery_control(many) - 1e-12).all()
    assert holm(np.array([])).size == 0


def _of(values: np.ndarray) -> Measurement:
    """Of so many patients that Student's t is the normal."""
    return Measurement(label="all", metric="toy", values=values, positives=None, patients=1e6)


def _draws(generator: np.random.Generator, truths: list[float]) -> dict[str, Measurement]:
    """Scores that share a large noise and have a small one of their own, as estimate and draws."""
    resamples = 200
    shared = generator.normal(size=1 + resamples) * 0.1
    found = {}
    for i, truth in enumerate(truths):
        own = generator.normal(size=1 + resamples) * 0.01
        estimate = truth + shared[0] + own[0]
        found[f"c{i}"] = _of(np.concatenate([[estimate], estimate + shared[1:] + own[1:]]))
    return found


def test_equal_encoders_are_told_apart_in_about_5_of_100_families_of_pairs() -> None:
    generator = np.random.default_rng(1)
    families = 400
    wrong = 0
    for _ in range(families):
        rows = differences(_draws(generator, [0.8] * 4))
        assert len(rows) == len(list(combinations(range(4), 2)))
        wrong += any(row["p_holm"] < 0.05 for row in rows)
    assert wrong / families < 0.08


def test_an_encoder_that_is_better_by_five_standard_errors_is_found_through_the_correction() -> (
    None
):
    rows = differences(_draws(np.random.default_rng(2), [0.8, 0.8, 0.9]))
    apart = {(row["cell"], row["other"]): row for row in rows}
    assert apart["c0", "c2"]["p_holm"] < 0.01 and apart["c0", "c2"]["difference"] < 0
    spread = (apart["c0", "c2"]["ci_high"] - apart["c0", "c2"]["ci_low"]) / (2 * norm.ppf(0.975))
    assert spread == pytest.approx(0.01 * np.sqrt(2), rel=0.3)


def test_two_encoders_that_answer_alike_have_no_p_value() -> None:
    values = np.linspace(0.1, 0.9, 101)
    rows = differences({"a": _of(values), "b": _of(values.copy()), "c": _of(values[::-1].copy())})
    assert rows[0]["difference"] == 0 and rows[0]["p"] is None and rows[0]["p_holm"] is None
    assert rows[1]["p"] is not None and rows[1]["p_holm"] is not None


def test_labels_with_too_few_patients_are_listed_with_the_reason_and_are_in_no_mean(
    tmp_path: Path,
) -> None:
    store = fresh(tmp_path)
    path = "corpora/toy@1/manifest.parquet"
    manifest = store.read_table(path)
    is_rare = (pl.col("split") == "test") & (pl.int_range(pl.len()) % 20 > 0)
    rare = pl.when(is_rare).then(0).otherwise(pl.col("finding_nodule")).cast(pl.Int8)
    store.write_table(path, manifest.with_columns(finding_nodule=rare))
    sweep = toy.sweep("findings")
    assert run_grid_locally(store, sweep, CELLS, progress=lambda done, total: None) == []
    rows = wanted(store, sweep, CELLS)
    found = left_out_labels(store, rows)
    assert found.select("task", "label").rows() == [("findings", "finding_nodule")]
    assert "test patients with it; at least 5 are needed" in found["reason"].item()
    written = scores.read(store, [row.score for row in rows])
    assert set(written["label"]) == {"effusion", "macro"}


def test_a_clinical_metric_is_scored_from_stored_reports_with_the_shared_resamples(
    scored: Store,
) -> None:
    sweep = toy.sweep()
    metric = find_metric("tests.tasks.toy_metric")
    rows, failed = clinical_scores(scored, sweep, CELLS, metric)
    assert failed == []
    assert rows.schema == SCHEMA
    assert rows["cell"].to_list() == [cell.name for cell in CELLS]
    assert rows["metric"].unique().to_list() == ["word_recall"]
    assert (rows["ci_low"] <= rows["value"]).all() and (rows["value"] <= rows["ci_high"]).all()
    assert not rows["headline"].any()
    without = dataclasses.replace(sweep, protocol=toy.protocol("findings"))
    assert clinical_scores(scored, without, CELLS, metric)[0].is_empty()


def test_a_probe_is_added_by_naming_one_of_its_settings_and_moves_no_other_score(
    scored: Store, tmp_path: Path
) -> None:
    sweep = toy.sweep()
    more = {**dict(toy.protocol().settings), "knn.neighbours": 5, "segment_image.steps": 20}
    wider = dataclasses.replace(sweep, protocol=dataclasses.replace(toy.protocol(), settings=more))
    before = {row.score for row in wanted(scored, sweep, CELLS)}
    rows = wanted(scored, wider, CELLS)
    assert before <= {row.score for row in rows}
    added = [row for row in rows if row.score not in before]
    assert {(row.unit.task, row.unit.probe) for row in added} == {
        ("findings", "knn"),
        ("lines_tubes", "knn"),
        ("lines_tubes_seg", "segment_image"),
    }
    assert added[0].name == f"{CELLS[0].name} / findings (knn)"
    assert run_grid_locally(scored, wider, CELLS, progress=lambda done, total: None) == []
    assert scores.read(scored, [added[0].score]).filter("headline")["value"].item() > 0.8
    assert os.path.isdir(scored.full("features"))


def test_one_sweep_shows_pooled_mean_and_both_vectors_side_by_side(tmp_path: Path) -> None:
    store = fresh(tmp_path)
    toy.write_corpus(store, blank=True)  # Scores by chance, so that no two are equal.
    file = tmp_path / "toy_sweep.py"
    settings = {"linear_mean.strengths": 9, "linear_pooled.strengths": 9}
    file.write_text(
        "import dataclasses\nfrom tests.evaluate.toy import protocol, sweep\n"
        'ASKED = protocol("findings", "lines_tubes")\n'
        f"ASKED = dataclasses.replace(ASKED, settings={settings})\n"
        "SWEEP = dataclasses.replace(sweep(), protocol=ASKED)\n"
    )
    sweep = load_sweep(str(file))
    assert run_grid_locally(store, sweep, CELLS, progress=lambda done, total: None) == []
    rows = scores.read(store, [row.score for row in wanted(store, sweep, CELLS[1:])])
    found = rows.filter("headline").sort("task", "probe")
    probes = ["linear", "linear_mean", "linear_pooled"]
    assert found.select("task", "probe").rows() == [
        (task, probe) for task in ("findings", "lines_tubes") for probe in probes
    ]
    assert found["value"].n_unique() == 6
    asked = ["scores", str(file), "--store", store.url]
    text = CliRunner().invoke(app, asked, catch_exceptions=False).stdout
    lines = [line.split() for line in text.splitlines()]
    said = [number for line in lines if line[:2] == ["clip", "8"] for number in line[2:]]
    assert said == [f"{value:.3f}" for value in found["value"]]


def test_differences_are_asked_for_on_the_command_line(scored: Store, tmp_path: Path) -> None:
    file = tmp_path / "toy_sweep.py"
    file.write_text("from tests.evaluate.toy import sweep\n\nSWEEP = sweep()\n")
    found = paired_differences(scored, toy.sweep(), CELLS, "findings")

    def ask(*more: str) -> str:
        arguments = ["compare", str(file), "--store", scored.url, *more]
        ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    assert json.loads(ask("--json")) == found.to_dicts()
    assert json.loads(ask("--json", "--only", "nothing*")) == []
    ask("--to", str(tmp_path / "pairs.csv"))
    assert pl.read_csv(tmp_path / "pairs.csv")["cell"].to_list() == found["cell"].to_list()
    assert f"{found['difference'][0]:+.3f}" in ask()


def test_a_report_metric_is_asked_for_on_the_command_line(scored: Store, tmp_path: Path) -> None:
    file = tmp_path / "toy_sweep.py"
    file.write_text("from tests.evaluate.toy import sweep\n\nSWEEP = sweep()\n")
    arguments = ["scores", str(file), "--store", scored.url]
    asked = [*arguments, "--report-metric", "tests.tasks.toy_metric"]
    ran = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
    made = find_metric("tests.tasks.toy_metric")
    wanted_rows, _ = clinical_scores(scored, toy.sweep(), CELLS, made)
    metric = wanted_rows["metric"][0]
    found = [row["value"] for row in json.loads(ran.stdout) if row["metric"] == metric]
    assert found == wanted_rows["value"].to_list() != []
    text = CliRunner().invoke(app, asked, catch_exceptions=False).stdout
    assert f"stored reports, {metric}" in text and f"{found[0]:.3f}" in text
    plain = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert metric not in {row["metric"] for row in json.loads(plain.stdout)}
