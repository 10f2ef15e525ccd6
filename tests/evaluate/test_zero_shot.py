"""Labels asked in words of a cell's own text side: at chance, at 1, and not asked where there is
none."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import torch
from sklearn.metrics import roc_auc_score

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.features import block_file
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.shared_space import prompt_space
from radsweep.evaluate.texts import not_asked
from radsweep.evaluate.trial import make_probe, make_task, requests_of
from radsweep.evaluate.wanted import wanted
from radsweep.paradigms.clip import Clip
from radsweep.paradigms.prompts import ABSENT, PRESENT, every_prompt
from radsweep.specs import Cell, Protocol, Sweep
from radsweep.store import Store, scores
from tests.evaluate import toy, worded
from tests.evaluate.worded import encoder_of

TASKS = ("findings", "lines_tubes")


def _asking(protocol: Protocol) -> Protocol:
    settings = {**dict(protocol.settings), "zero_shot.templates": 4}
    return dataclasses.replace(protocol, settings=settings)


@pytest.fixture
def one(tmp_path: Path) -> tuple[Store, Sweep, Cell, Clip]:
    store = Store(os.fspath(tmp_path))
    toy.write_corpus(store, blank=True)
    sweep = dataclasses.replace(
        toy.sweep(), recipes=(worded.RECIPE,), protocol=_asking(toy.protocol(*TASKS))
    )
    return store, sweep, sweep.cells()[0], worded.write_cell(store, sweep.cells()[0], seed=0)


def test_a_protocol_that_does_not_name_it_asks_what_it_always_did_under_the_same_keys(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, asking, cell, _ = one
    silent = dataclasses.replace(asking, protocol=toy.protocol(*TASKS))
    before = {(row.unit.task, row.unit.probe): row.trial for row in wanted(store, silent, (cell,))}
    after = {(row.unit.task, row.unit.probe): row.trial for row in wanted(store, asking, (cell,))}
    assert set(before) == {(task, "linear") for task in TASKS}
    assert set(after) - set(before) == {(task, "zero_shot") for task in TASKS}
    assert {pair: after[pair] for pair in before} == before


def test_the_logit_is_the_towers_own_contrast_of_there_and_not_there(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, _, cell, paradigm = one
    pooled = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    space = prompt_space(store, encoder_of(store, cell), pooled, ("effusion", "nodule"), toy.CPU)
    viewer = paradigm.viewer()
    unit = torch.nn.functional.normalize
    with torch.inference_mode():
        image = unit(torch.from_numpy(pooled) @ paradigm.image_projection, dim=1)
        for found, state in ((space.present, PRESENT), (space.absent, ABSENT)):
            for vectors, label in zip(found, ("effusion", "nodule"), strict=True):
                for vector, said in zip(vectors, every_prompt(label, state), strict=True):
                    ids = viewer.encoder.encode(said, np.random.default_rng(0))  # type: ignore[attr-defined]
                    text = paradigm.text(torch.from_numpy(ids)[None]) @ paradigm.text_projection
                    np.testing.assert_allclose(vector, unit(text, dim=1)[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(space.images, image.numpy(), atol=1e-5)
    assert space.scale == pytest.approx(float(paradigm.logit_scale.detach().exp()))


def test_a_random_encoder_of_x_rays_that_show_nothing_is_at_chance(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, cell, _ = one
    assert run_grid_locally(store, sweep, (cell,), progress=lambda done, total: None) == []
    rows = scores.read(store, [row.score for row in wanted(store, sweep, (cell,))])
    asked = rows.filter(pl.col("probe") == "zero_shot", pl.col("metric") == "auroc")
    assert set(asked["label"]) == {"effusion", "nodule", "cvc", "ett", "macro"}
    for row in asked.iter_rows(named=True):
        assert row["ci_low"] < 0.5 < row["ci_high"], row
    # The stored predictions and targets give the number again, by another hand.
    one_trial = next(r for r in wanted(store, sweep, (cell,)) if r.unit.probe == "zero_shot")
    table = store.read_table(f"predictions/{one_trial.trial}.parquet").filter(label="effusion")
    again = roc_auc_score(table["target"], table["prediction"])
    assert asked.filter(label="effusion")["value"].item() == pytest.approx(again)


@pytest.mark.parametrize("task_name", TASKS)
def test_an_encoder_whose_images_lie_on_what_is_true_of_them_scores_1(
    one: tuple[Store, Sweep, Cell, Clip], task_name: str
) -> None:
    store, sweep, cell, paradigm = one
    protocol = sweep.protocol
    assert protocol is not None
    encoder = encoder_of(store, cell)
    task, probe = make_task(task_name), make_probe("zero_shot", protocol)
    data = task.data(Corpus.open(store, toy.CORPUS), protocol)
    nobody = np.zeros((1, 32), np.float32)
    space = prompt_space(store, encoder, nobody, data.labels, toy.CPU)
    means = [
        one.mean(axis=1) / np.linalg.norm(one.mean(axis=1), axis=1, keepdims=True)
        for one in (space.present, space.absent)
    ]
    # A vector whose dot with each label's direction is its sign: the least-norm solution.
    solve = np.linalg.pinv(means[0] - means[1])
    back = np.linalg.pinv(paradigm.image_projection.detach().numpy())
    for split, request in requests_of(data, task, probe).items():
        signs = np.where(np.asarray(data.split(split).targets) == 1, 1.0, -1.0)
        vectors = (signs @ solve.T @ back).astype(np.float32)
        blob = safetensors.numpy.save({"pooled": vectors, "mean": vectors})
        store.write_bytes(block_file(request.key(encoder, "toy"), 0), blob)
        store.write_bytes(f"features/{request.key(encoder, 'toy')}/DONE", b"")
    alone = dataclasses.replace(sweep, protocol=dataclasses.replace(protocol, tasks=(task_name,)))
    assert run_grid_locally(store, alone, (cell,), progress=lambda done, total: None) == []
    rows = scores.read(store, [row.score for row in wanted(store, alone, (cell,))])
    asked = rows.filter(pl.col("probe") == "zero_shot")
    assert set(asked["value"]) == {1.0}


def test_it_is_not_asked_of_an_encoder_without_texts_and_says_so(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    recipe = dataclasses.replace(sweep.recipes[0], paradigm="dinov2", settings={})
    textless = dataclasses.replace(sweep, recipes=(recipe,))
    cell = textless.cells()[0]
    toy.write_cell(store, cell, seed=1)
    asked = {(row.unit.task, row.unit.probe) for row in wanted(store, textless, (cell,))}
    assert asked == {(task, "linear") for task in TASKS}
    said = dict(not_asked(store, textless, (cell,)))
    assert set(said) == {f"{cell.name} / {task} (zero_shot)" for task in TASKS}
    assert all("dinov2 reads no texts" in reason for reason in said.values())
    with pytest.raises(SpecError, match="zero_shot are for clip"):
        prompt_space(
            store,
            encoder_of(store, cell),
            np.zeros((1, 32), np.float32),
            ("nodule",),
            toy.CPU,
        )


def test_two_cells_with_one_encoder_and_other_text_towers_are_asked_apart(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    worded.write_cell(store, sweep.cells()[1], seed=0)
    trials = [r.trial for r in wanted(store, sweep, sweep.cells()) if r.unit.probe == "zero_shot"]
    assert len(set(trials)) == len(trials) == 4
