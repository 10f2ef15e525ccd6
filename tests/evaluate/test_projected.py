"""Labels asked of an encoder's projection: its own vectors, and not asked where there is none."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import torch
from safetensors.torch import load_file, save_file

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.features import block_file
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.shared_space import projected
from radsweep.evaluate.texts import not_asked
from radsweep.evaluate.trial import make_probe, make_task, requests_of
from radsweep.evaluate.wanted import wanted
from radsweep.models.weights import PARADIGM
from radsweep.paradigms.clip import Clip
from radsweep.specs import Cell, Sweep
from radsweep.store import Store, scores
from radsweep.store.record import CellStore
from tests.evaluate import toy, worded
from tests.evaluate.worded import encoder_of

TASKS = ("findings", "lines_tubes")
SETTINGS = {"linear_pooled.strengths": 9, "linear_projected.strengths": 9}


@pytest.fixture
def one(tmp_path: Path) -> tuple[Store, Sweep, Cell, Clip]:
    store = Store(os.fspath(tmp_path))
    toy.write_corpus(store, blank=True)
    protocol = dataclasses.replace(toy.protocol(*TASKS), settings=SETTINGS)
    sweep = dataclasses.replace(toy.sweep(), recipes=(worded.RECIPE,), protocol=protocol)
    return store, sweep, sweep.cells()[0], worded.write_cell(store, sweep.cells()[0], seed=0)


def test_the_vectors_are_those_that_the_paradigm_contrasts(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, _, cell, paradigm = one
    images = torch.randint(0, 256, (5, 1, toy.SIZE, toy.SIZE), dtype=torch.uint8)
    with torch.inference_mode():
        pooled = paradigm.encoder(images)
        text = torch.zeros(5, worded.TOWER["text_length"], dtype=torch.int64)  # type: ignore[call-overload]
        met, _ = paradigm.features({"image": images, "text": text})
    found = projected(store, encoder_of(store, cell), pooled.numpy())
    assert found.dtype == np.float32 and found.shape == (5, worded.TOWER["embed_dim"])
    np.testing.assert_allclose(found, torch.nn.functional.normalize(met, dim=1), atol=1e-6)


def test_one_sweep_reports_pooled_and_projected_and_a_projection_that_drops_the_answer_shows(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    """The pooled vector leaks two labels; what is projected, the first alone."""
    store, sweep, cell, _ = one
    protocol = sweep.protocol
    assert protocol is not None
    file = Path(store.full(CellStore(store, cell.name).path(PARADIGM)))
    side = load_file(file)
    side["image_projection"][1] = 0
    save_file(side, file)
    encoder, corpus = encoder_of(store, cell), Corpus.open(store, toy.CORPUS)
    for name in TASKS:
        task, probe = make_task(name), make_probe("linear_projected", protocol)
        data = task.data(corpus, protocol)
        for split, request in requests_of(data, task, probe).items():
            vectors = np.random.default_rng(7).normal(size=(len(data.split(split)), 32))
            vectors[:, :2] = 20 * np.asarray(data.split(split).targets) - 10
            blob = safetensors.numpy.save(dict.fromkeys(("pooled", "mean"), vectors.astype("f4")))
            store.write_bytes(block_file(request.key(encoder, "toy"), 0), blob)
            store.write_bytes(f"features/{request.key(encoder, 'toy')}/DONE", b"")
        first, second = data.labels
        alone = dataclasses.replace(protocol, tasks=(name,))
        asked = dataclasses.replace(sweep, protocol=alone)
        assert run_grid_locally(store, asked, (cell,), progress=lambda done, total: None) == []
        rows = scores.read(store, [row.score for row in wanted(store, asked, (cell,))])
        area = {
            (row["probe"], row["label"]): row
            for row in rows.filter(pl.col("metric") == "auroc").iter_rows(named=True)
        }
        assert area["linear_pooled", first]["value"] == area["linear_pooled", second]["value"] == 1
        assert area["linear_projected", first]["value"] > 0.99
        lost = area["linear_projected", second]
        assert lost["ci_low"] < 0.5 < lost["ci_high"], lost


def test_an_encoder_without_a_projection_is_not_asked_and_says_so(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    recipe = dataclasses.replace(sweep.recipes[0], paradigm="dinov2", settings={})
    both = dataclasses.replace(sweep, recipes=(*sweep.recipes, recipe))
    textless = next(c for c in both.cells() if c.recipe.paradigm == "dinov2" and c.is_baseline)
    toy.write_cell(store, textless, seed=1)
    rows = wanted(store, both, both.cells())
    probes = {(row.cell.recipe.paradigm, row.unit.probe) for row in rows}
    vectors = [("clip", probe) for probe in ("linear", "linear_pooled", "linear_projected")]
    assert probes == {*vectors, ("dinov2", "linear"), ("dinov2", "linear_pooled")}
    said = dict(not_asked(store, both, both.cells()))
    assert set(said) == {f"{textless.name} / {task} (linear_projected)" for task in TASKS}
    assert all("dinov2 reads no texts" in why and "no projection" in why for why in said.values())
    with pytest.raises(SpecError, match="linear_projected"):
        projected(store, encoder_of(store, textless), np.zeros((1, 32), np.float32))


def test_two_cells_with_one_encoder_and_other_projections_are_asked_apart(
    one: tuple[Store, Sweep, Cell, Clip],
) -> None:
    store, sweep, _, _ = one
    worded.write_cell(store, sweep.cells()[1], seed=0)
    trials: dict[str, set[str]] = {}
    for row in wanted(store, sweep, sweep.cells()):
        trials.setdefault(row.unit.probe, set()).add(row.trial)
    assert {probe: len(keys) for probe, keys in trials.items()} == {
        "linear": 2, "linear_pooled": 2, "linear_projected": 4,
    }  # fmt: skip
