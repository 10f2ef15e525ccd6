"""On every task a blind encoder is at chance, and one that leaks the answer scores 1."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy

from radsweep import parts
from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Request, block_file
from radsweep.evaluate.local import run_grid_locally
from radsweep.evaluate.trial import Bench, Unit, make_probe, make_task, requests_of
from radsweep.evaluate.wanted import wanted
from radsweep.specs import Protocol
from radsweep.store import Store, scores
from radsweep.tasks.base import SPLITS, Examples, Predictions, Task, TaskData
from radsweep.tasks.statements import stated
from tests.evaluate import toy

TASKS = [name for name in parts.names("tasks") if make_task(name).needs != "shared"]
"""Those that ask the encoder alone; ``test_retrieval`` does the same with a text tower."""
PAIRS = [
    (task, probe)
    for task in TASKS
    for kind in (type(make_task(task)),)
    for probe in (*kind.probes, *kind.other_probes)
    if probe not in kind.text_probes
]
"""``test_zero_shot`` and ``test_projected`` have those that ask the text side."""
EXTRA = {
    "few_shot.examples": 16,
    "knn.neighbours": 20,
    "linear_mean.strengths": 9,
    "linear_pooled.strengths": 9,
    "report.learning_rate": 1e-2,
    "report.max_tokens": 64,
    "report.steps": 200,
    "report.token_side": 2,
    "segment.steps": 100,
    "segment_image.steps": 30,
    "segment_image.width": 16,
    "segment_linear.steps": 30,
    "segment_upernet.steps": 100,
    "segment_upernet.width": 16,
}
"""A setting of each probe that only answers when it is asked; and steps with which each probe would
be far beyond chance on films that show something (it was seen to be)."""
PATCH = 8


def _constant(task: Task, data: TaskData) -> Predictions:
    """The best that can be answered without looking: one answer for all."""
    targets = data.test.targets
    if task.needs == "pooled":
        return np.zeros_like(targets)
    if task.needs == "dense":
        return np.broadcast_to(np.asarray(targets).any(axis=0), np.shape(targets)).astype(np.uint8)
    return [max(targets, key=lambda text: len(stated(text).values()))] * len(data.test)


def test_a_random_encoder_of_x_rays_that_show_nothing_is_no_better_than_one_answer_for_all(
    tmp_path: Path,
) -> None:
    store = Store(os.fspath(tmp_path))
    toy.write_corpus(store, blank=True)
    base = toy.protocol(*TASKS)
    protocol = dataclasses.replace(base, settings={**dict(base.settings), **EXTRA})
    sweep = dataclasses.replace(toy.sweep(), protocol=protocol)
    cells = sweep.cells()[:1]
    toy.write_cell(store, cells[0], seed=0)
    assert run_grid_locally(store, sweep, cells, progress=lambda done, total: None) == []
    corpus = Corpus.open(store, toy.CORPUS)
    rows = wanted(store, sweep, cells)
    # The control that sees the x-rays too: these show it nothing either.
    assert [(row.unit.task, row.unit.probe) for row in rows] == PAIRS
    for row in rows:
        task = make_task(row.unit.task)
        data = task.data(corpus, protocol)
        weights = np.ones((1, len(data.test)), np.uint16)
        blind = next(
            m.values[0]
            for m in task.measure(data, _constant(task, data), weights)
            if m.metric == task.headline and m.label == "macro"
        )
        headline = scores.read(store, [row.score]).filter(pl.col("headline")).row(0, named=True)
        assert headline["ci_low"] <= blind + 0.02, (row.name, headline, blind)
        assert headline["value"] < blind + 0.12, (row.name, headline, blind)


def _leaking(examples: Examples, needs: str, side: int) -> dict[str, np.ndarray]:
    """Features that say the targets."""
    targets = examples.targets
    if needs == "dense":
        masks = np.asarray(targets)
        n, classes, height, width = masks.shape
        cells = masks.reshape(n, classes, height // PATCH, PATCH, width // PATCH, PATCH)
        level = cells.transpose(0, 1, 3, 5, 2, 4).reshape(n, -1, height // PATCH, width // PATCH)
        vectors = np.zeros((n, 4), np.float32)
        maps = {f"map{i}": level.astype(np.float16) for i in range(4)}
        return {"pooled": vectors, "mean": vectors, **maps}
    if needs == "tokens":
        names = sorted({name for text in targets for name in stated(text)})
        said = [[stated(text).get(name, 0) for name in names] for text in targets]
        vectors = np.array(said, np.float32)
        tokens = np.repeat(vectors[:, None], side**2, axis=1).astype(np.float16)
        return {"pooled": vectors, "mean": vectors, "tokens": tokens}
    vectors = np.nan_to_num(np.asarray(targets)).astype(np.float32)
    return {"pooled": vectors, "mean": vectors}


def _leaked_score(store: Store, task_name: str, probe_name: str, protocol: Protocol) -> float:
    corpus = Corpus.open(store, toy.CORPUS)
    task, probe = make_task(task_name), make_probe(probe_name, protocol)
    data = task.data(corpus, protocol)
    encoder = Encoder(cell="leak", digest="1" * 64, recipe=toy.RECIPE)
    requests: dict[str, Request] = requests_of(data, task, probe)
    for split in SPLITS:
        features = _leaking(data.split(split), task.needs, probe.token_side)
        key = requests[split].key(encoder, "toy")
        store.write_bytes(block_file(key, 0), safetensors.numpy.save(features))
    bench = Bench(store, protocol, toy.CORPUS, "toy", {task_name: data}, toy.CPU)
    choice = {name: each.first for name, each in probe.space().items()}
    rows = bench.finish(Unit(encoder=encoder, task=task_name, probe=probe_name), choice)
    return float(rows.filter(pl.col("headline"))["value"].item())


@pytest.mark.parametrize(("task", "probe"), PAIRS, ids=lambda name: str(name))
def test_an_encoder_that_leaks_the_answer_scores_1(tmp_path: Path, task: str, probe: str) -> None:
    store = Store(os.fspath(tmp_path))
    toy.write_corpus(store)
    settings = {
        "segment.steps": 150,
        "segment_image.steps": 150,
        "segment_linear.steps": 150,
        "segment_upernet.steps": 150,
        "report.steps": 150,
        "report.learning_rate": 1e-2,
        "report.token_side": 2,
        "report.max_tokens": 64,
    }
    base = toy.protocol()
    protocol = dataclasses.replace(base, settings={**dict(base.settings), **settings})
    assert _leaked_score(store, task, probe, protocol) > 0.99
