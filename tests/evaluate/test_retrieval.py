"""Exam retrieval from a cell's own text side: at chance, at 1, and refused where there is none."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import torch
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.embedder import load_encoder
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import block_file
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.shared_space import shared_space
from radsweep.evaluate.texts import not_asked
from radsweep.evaluate.trial import make_probe, make_task, requests_of
from radsweep.evaluate.wanted import wanted
from radsweep.paradigms.clip import Clip
from radsweep.specs import Cell, Sweep
from radsweep.store import Store, scores
from radsweep.store.record import CellStore
from radsweep.tasks.exam_retrieval import DIRECTIONS, wording
from tests.evaluate import toy, worded


def retrieval_sweep() -> Sweep:
    return dataclasses.replace(toy.sweep("exam_retrieval"), recipes=(worded.RECIPE,))


@pytest.fixture
def one(tmp_path: Path) -> tuple[Store, Sweep, Cell, Clip]:
    store, sweep = Store(os.fspath(tmp_path)), retrieval_sweep()
    toy.write_corpus(store, blank=True)
    return store, sweep, sweep.cells()[0], worded.write_cell(store, sweep.cells()[0], seed=0)


def _scores(store: Store, sweep: Sweep, cell: Cell) -> pl.DataFrame:
    assert run_grid_locally(store, sweep, (cell,), progress=lambda done, total: None) == []
    return scores.read(store, [row.score for row in wanted(store, sweep, (cell,))])


def test_the_space_is_the_one_in_which_the_paradigm_contrasts(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, _, cell, paradigm = one
    encoder = Encoder.of(cell, CellStore(store, cell.name).record())
    pixels = torch.randint(0, 255, (3, 1, toy.SIZE, toy.SIZE), dtype=torch.uint8)
    texts = ["No nodule.", "There is a  nodule.", "no NODULE."]
    viewer = paradigm.viewer()
    ids = torch.from_numpy(
        np.stack([viewer.encoder.encode(text, np.random.default_rng(0)) for text in texts])  # type: ignore[attr-defined]
    )
    with torch.inference_mode():
        pooled = load_encoder(store, encoder, toy.CPU)(pixels).numpy()
        image, text = paradigm.features({"image": pixels, "text": ids})
    space = shared_space(store, encoder, pooled, texts, toy.CPU)
    unit = torch.nn.functional.normalize
    np.testing.assert_allclose(space.images, unit(image, dim=1).numpy(), atol=1e-5)
    np.testing.assert_allclose(space.reports, unit(text[:2], dim=1).numpy(), atol=1e-5)
    assert space.report_of.tolist() == [0, 1, 0]


def test_a_random_encoder_finds_reports_no_more_often_than_chance(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, cell, _ = one
    rows = _scores(store, sweep, cell)
    data = make_task("exam_retrieval").data(Corpus.open(store, toy.CORPUS), sweep.protocol)  # type: ignore[arg-type]
    different = len({wording(text) for text in data.test.targets})
    found = rows.filter(label="image_to_report")
    for depth in (1, 5):
        row = found.filter(metric=f"recall_at_{depth}").row(0, named=True)
        assert row["ci_low"] <= depth / different, row
    median = found.filter(metric="median_rank").row(0, named=True)
    assert median["ci_high"] >= (different + 1) / 2 * 0.8
    assert rows.filter("headline").select("metric", "label").row(0) == ("recall_at_5", "macro")


def test_an_encoder_that_leaks_the_report_finds_every_one_and_is_found(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, cell, paradigm = one
    protocol = sweep.protocol
    assert protocol is not None
    encoder = Encoder.of(cell, CellStore(store, cell.name).record())
    task, probe = make_task("exam_retrieval"), make_probe("retrieval", protocol)
    data = task.data(Corpus.open(store, toy.CORPUS), protocol)
    back = np.linalg.pinv(paradigm.image_projection.detach().numpy())
    for split, request in requests_of(data, task, probe).items():
        texts = data.split(split).targets
        width = np.zeros((len(texts), len(back.T)), np.float32)
        space = shared_space(store, encoder, width, texts, toy.CPU)
        vectors = (space.reports[space.report_of] @ back).astype(np.float32)
        blob = safetensors.numpy.save({"pooled": vectors, "mean": vectors})
        store.write_bytes(block_file(request.key(encoder, "toy"), 0), blob)
        store.write_bytes(f"features/{request.key(encoder, 'toy')}/DONE", b"")
    rows = _scores(store, sweep, cell)
    assert set(rows["value"]) == {1.0}
    assert set(rows["label"]) == {*DIRECTIONS, "macro"}


def test_an_encoder_without_texts_is_not_asked_and_the_score_table_says_why(
    one: tuple[Store, Sweep, Cell, Clip], tmp_path: Path
) -> None:
    store, sweep, cell, _ = one
    recipe = dataclasses.replace(sweep.recipes[0], paradigm="dinov2", settings={})
    both = dataclasses.replace(
        sweep,
        recipes=(*sweep.recipes, recipe),
        protocol=toy.protocol("findings", "exam_retrieval"),
    )
    textless = next(cell for cell in both.cells() if cell.recipe.paradigm == "dinov2")
    toy.write_cell(store, textless, seed=1)
    asked = [(row.cell.name, row.unit.task) for row in wanted(store, both, both.cells())]
    assert asked == [
        (cell.name, "findings"),
        (cell.name, "exam_retrieval"),
        (textless.name, "findings"),
    ]
    assert run_grid_locally(store, both, both.cells(), progress=lambda done, total: None) == []
    assert [name for name, _ in not_asked(store, both, both.cells())] == [
        f"{textless.name} / exam_retrieval"
    ]
    file = tmp_path / "both.py"
    file.write_text(
        "import dataclasses\n\nfrom tests.evaluate import test_retrieval, toy\n\n"
        "CLIP = test_retrieval.retrieval_sweep()\n"
        'DINO = dataclasses.replace(CLIP.recipes[0], paradigm="dinov2", settings={})\n'
        "SWEEP = dataclasses.replace(\n"
        "    CLIP,\n    recipes=(*CLIP.recipes, DINO),\n"
        '    protocol=toy.protocol("findings", "exam_retrieval"),\n)\n'
    )
    ran = CliRunner().invoke(app, ["scores", str(file), "--store", store.url])
    assert ran.exit_code == 0, ran.output
    said = " ".join(ran.stdout.split())
    assert f"{textless.name} / exam_retrieval: not asked: dinov2 reads no texts" in said
    assert f"{cell.name} / exam_retrieval: not" not in said


def test_to_ask_an_encoder_without_texts_all_the_same_is_refused(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    recipe = dataclasses.replace(sweep.recipes[0], paradigm="dinov2", settings={})
    encoder = Encoder(cell="c", digest="0" * 64, recipe=recipe)
    with pytest.raises(SpecError, match="learned by dinov2, which reads no texts"):
        shared_space(store, encoder, np.zeros((1, 32), np.float32), ["Normal."], toy.CPU)


def test_two_cells_with_the_same_encoder_and_other_text_towers_are_measured_apart(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    worded.write_cell(store, sweep.cells()[1], seed=0)
    first, second = wanted(store, sweep, sweep.cells())
    assert first.unit.encoder.identity == second.unit.encoder.identity
    assert first.trial != second.trial


def test_stored_ranks_give_the_numbers_again_and_one_report_for_all_is_refused(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    task = make_task("exam_retrieval")
    data = task.data(Corpus.open(store, toy.CORPUS), sweep.protocol)  # type: ignore[arg-type]
    ranks = np.random.default_rng(0).integers(1, 30, (len(data.test), 2)) / 2 + 0.5
    table = task.table(data, ranks)
    assert np.array_equal(task.predicted(data, table.sample(fraction=1.0, shuffle=True)), ranks)
    weights = np.ones((1, len(data.test)), np.uint16)
    found = {(m.metric, m.label): m.values[0] for m in task.measure(data, ranks, weights)}
    assert found["recall_at_5", "image_to_report"] == pytest.approx((ranks[:, 0] <= 5).mean())
    assert found["median_rank", "report_to_image"] == np.median(ranks[:, 1])
    corpus = Corpus.open(store, toy.CORPUS)
    same = dataclasses.replace(
        corpus, manifest=corpus.manifest.with_columns(report=pl.lit("Normal chest."))
    )
    with pytest.raises(SpecError, match="have one wording"):
        task.data(same, sweep.protocol)  # type: ignore[arg-type]
