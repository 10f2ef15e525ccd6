"""Scores within slices, against a loop over resamples of the slice's own rows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.corpus.manifest import Corpus, corpus_file
from radsweep.errors import SpecError
from radsweep.evaluate.slices import SLICES, headline_slices, slice_names, slice_scores
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import wanted
from radsweep.store import Store, scores
from radsweep.store.layout import predictions_file
from radsweep.tasks.base import resample_seed
from radsweep.tasks.resample import interval, patient_weights
from tests.evaluate import toy

CELLS = toy.sweep().cells()
BOTH = {"F", "M"}


@pytest.fixture
def sliced(scored: Store) -> Store:
    """The scored store, whose patients have a sex (of three test patients unknown) and an age."""
    path = corpus_file(toy.CORPUS, "manifest.parquet")
    manifest = scored.read_table(path)
    number = pl.col("patient_id").str.extract(r"(\d+)$").cast(pl.Int32)
    sex = pl.when(number < 3).then(None).when(number % 2 == 0).then(pl.lit("F"))
    scored.write_table(
        path,
        manifest.with_columns(
            sex=sex.otherwise(pl.lit("M")), age_years=(number * 3 % 91).cast(pl.Int16)
        ),
    )
    return scored


def test_a_slice_s_numbers_are_those_of_a_loop_over_its_rows(sliced: Store) -> None:
    sweep = toy.sweep()
    found = slice_scores(sliced, sweep, CELLS, "sex")
    assert found.schema == SLICES
    manifest = Corpus.open(sliced, toy.CORPUS).manifest
    row = next(each for each in wanted(sliced, sweep, CELLS) if each.unit.task == "findings")
    data = make_task("findings").data(Corpus.open(sliced, toy.CORPUS), sweep.protocol)  # type: ignore[arg-type]
    weights = patient_weights(data.test.patients, 100, resample_seed(toy.protocol(), "findings"))
    table = sliced.read_table(predictions_file(row.trial)).filter(label="nodule")
    for sex in BOTH:
        inside = manifest.filter(split="test", sex=sex)["image_id"].to_list()
        rows = [i for i, image in enumerate(data.test.image_ids) if image in inside]
        ours = {
            image: (t, p) for image, t, p in table.select("image_id", "target", "prediction").rows()
        }
        pairs = np.array([ours[data.test.image_ids[i]] for i in rows])
        draws = []
        for counts in weights:
            drawn = np.repeat(np.arange(len(rows)), counts[rows])
            draws.append(roc_auc_score(pairs[drawn, 0], pairs[drawn, 1]))
        people = data.test.patients[rows]
        rarer = min(len(set(people[pairs[:, 0] == value])) for value in (0, 1))
        low, high = interval(np.array(draws[1:]), rarer) or (0.0, 0.0)
        got = found.filter(
            cell=row.cell.name, task="findings", slice=sex, metric="auroc", label="nodule"
        ).row(0, named=True)
        assert got["value"] == pytest.approx(draws[0])
        assert (got["ci_low"], got["ci_high"]) == pytest.approx((low, high))
        assert (got["n_test"], got["n_positive"]) == (len(rows), int((pairs[:, 0] == 1).sum()))
        assert got["reason"] is None


def test_a_slice_of_too_few_patients_has_a_reason_and_no_number(sliced: Store) -> None:
    found = slice_scores(sliced, toy.sweep(), CELLS, "sex").filter(slice="unknown")
    assert found["n_test"].unique().to_list() == [6]
    assert found["value"].null_count() == found["ci_low"].null_count() == len(found)
    reasons = found.filter(task="findings")["reason"].to_list()
    assert all("patients" in reason for reason in reasons)
    assert "rests on 3 patients here; at least 5 are needed" in found["reason"].to_list()
    macro = found.filter(task="findings", label="macro", metric="auroc")["reason"]
    assert set(macro) == {"too few patients here for effusion, nodule"}


def test_one_slice_that_is_all_of_test_gives_the_scores_themselves(sliced: Store) -> None:
    sweep = toy.sweep()
    found = slice_scores(sliced, sweep, CELLS, "view")
    assert found["slice"].unique().to_list() == ["frontal"]
    written = scores.read(sliced, [row.score for row in wanted(sliced, sweep, CELLS)])
    keys = ["task", "probe", "cell", "metric", "label"]
    both = found.join(written, on=keys, suffix="_written")
    assert len(both) == len(found) == len(written)
    known = both.filter(pl.col("reason").is_null())
    assert len(known) > len(both) / 2
    for column in ("value", "ci_low", "ci_high", "headline"):
        assert known[column].equals(known[f"{column}_written"].alias(column)), column


def test_age_bands_begin_where_they_say_and_what_is_not_known_is_unknown(sliced: Store) -> None:
    corpus = Corpus.open(sliced, toy.CORPUS)
    ages = [0, 17, 18, 39, 40, 59, 60, 79, 80, 90, None]
    manifest = corpus.manifest.head(len(ages)).with_columns(
        age_years=pl.Series(ages, dtype=pl.Int16)
    )
    names = slice_names(dataclasses.replace(corpus, manifest=manifest), "age")
    bands = ["0-17", "18-39", "40-59", "60-79", "80+"]
    assert names.tolist() == [*(band for band in bands for _ in range(2)), "unknown"]


def test_what_the_corpus_does_not_say_is_refused_with_what_it_does(sliced: Store) -> None:
    with pytest.raises(
        SpecError, match=r"does not say the projection of any image; .* view, sex, age"
    ):
        slice_scores(sliced, toy.sweep(), CELLS, "projection")
    with pytest.raises(SpecError, match="no slices by 'weather'; known: view"):
        slice_scores(sliced, toy.sweep(), CELLS, "weather")


def test_slices_are_asked_for_on_the_command_line(sliced: Store, tmp_path: Path) -> None:
    file = tmp_path / "toy_sweep.py"
    file.write_text("from tests.evaluate.toy import sweep\n\nSWEEP = sweep()\n")
    found = slice_scores(sliced, toy.sweep(), CELLS, "sex")

    def ask(*more: str) -> str:
        arguments = ["scores", str(file), "--store", sliced.url, "--slice", "sex", *more]
        ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    assert json.loads(ask("--json")) == found.to_dicts()
    ask("--to", str(tmp_path / "slices.csv"))
    assert pl.read_csv(tmp_path / "slices.csv")["slice"].to_list() == found["slice"].to_list()
    text = ask()
    assert "headline scores by sex" in text and "too few" in text


def test_headlines_are_measured_alone_as_among_all_metrics(sliced: Store) -> None:
    found = headline_slices(sliced, toy.sweep(), CELLS)
    assert set(found["by"]) == {"sex", "age"}
    order = ["task", "cell", "by", "slice"]
    for by in ("sex", "age"):
        among = slice_scores(sliced, toy.sweep(), CELLS, by).filter("headline").sort(order)
        assert found.filter(by=by).sort(order).equals(among)
