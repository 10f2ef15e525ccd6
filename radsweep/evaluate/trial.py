"""One encoder, one task, one probe: search on val, then read test once. No Ray here.

A trial is named by what it measures (weights, preprocessing, task, probe, protocol, images), so
that two cells with the same weights, or two sweeps that share a cell, share the measurement.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from radsweep import parts
from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.reader import Reader
from radsweep.errors import StoreError
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Request, load_features
from radsweep.evaluate.score_rows import measured_rows
from radsweep.evaluate.texts import asks_text_side
from radsweep.keys import key_of, seed_of
from radsweep.probes.base import Choice, Fitted, FrozenFeatures, Labelled, Probe
from radsweep.specs import Protocol
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.tasks.base import SPLITS, Task, TaskData, resample_seed
from radsweep.tasks.resample import patient_weights

KEY_LENGTH = 16


@final
@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is measured at once."""

    encoder: Encoder
    task: str
    """A module of ``radsweep.tasks``, or a dotted module name."""
    probe: str
    """The same of ``radsweep.probes``."""


def trial_key(unit: Unit, protocol: Protocol, corpus: str, corpus_digest: str) -> str:
    """Of all that can change the measurement: not other tasks, nor other probes' settings.

    Where the text side answers too, of the cell: the encoder's identity says nothing of it.
    """
    beside = {"cell": unit.encoder.cell} if asks_text_side(unit.task, unit.probe) else {}
    return key_of(
        {
            "encoder": unit.encoder.identity | beside,
            "task": [unit.task, parts.version("tasks", unit.task)],
            "probe": [unit.probe, parts.version("probes", unit.probe)],
            "settings": protocol.probe_settings(unit.probe),
            "corpus": [corpus, corpus_digest],
            "train_images": protocol.train_images,
            "test_images": protocol.test_images,
            "search_trials": protocol.search_trials,
            "bootstraps": protocol.bootstraps,
            "seed": protocol.seed,
        },
        length=KEY_LENGTH,
    )


def score_key(sweep: str, cell: str, trial: str) -> str:
    """Of the score rows of one cell in one sweep: they name the cell, a trial does not."""
    return key_of([sweep, cell, trial], length=KEY_LENGTH)


def measures_file(trial: str) -> str:
    """The measured rows of a trial, repeated by the score rows of every cell with its weights."""
    return predictions_file(f"{trial}.measures")


def lock_file(trial: str) -> str:
    """Says that test was read, and with which choice."""
    return f"predictions/{trial}.test-read.json"


def make_task(name: str) -> Task:
    """An instance of a task."""
    task: Task = parts.find("tasks", name)()
    return task


def make_probe(name: str, protocol: Protocol) -> Probe:
    """A probe under the protocol's settings."""
    kind: type[Probe] = parts.find("probes", name)
    return kind.build(protocol.probe_settings(name))


def probe_seed(protocol: Protocol, task: str, probe: str) -> int:
    """Seeds a probe's weights and batches: not the encoder's, so that differences pair."""
    return seed_of("probe", protocol.seed, task, probe)


def requests_of(data: TaskData, task: Task, probe: Probe) -> dict[str, Request]:
    """What each split asks of every encoder."""
    # Vectors in a space shared with texts are made of pooled ones when they are asked for.
    needs = "pooled" if task.needs == "shared" else task.needs
    return {name: Request.of(data.split(name), needs, probe.token_side) for name in SPLITS}


@final
class Bench:
    """Where trials run: one in a process. Keeps what the next trial may need of the last."""

    def __init__(
        self,
        store: Store,
        protocol: Protocol,
        corpus: str,
        corpus_digest: str,
        data: Mapping[str, TaskData],
        device: torch.device,
    ) -> None:
        """Reads nothing yet.

        Args:
            store: where features are and results go.
            protocol: the same for every encoder.
            corpus: ``name@version`` of the images.
            corpus_digest: of the corpus's manifest.
            data: of every task.
            device: where probes train.
        """
        self._store, self._protocol, self._device = store, protocol, device
        self._corpus, self._corpus_digest = corpus, corpus_digest
        self._data = data
        self._loaded: tuple[str, dict[str, Labelled]] | None = None
        self._best: tuple[str, Choice, Fitted] | None = None

    def key(self, unit: Unit) -> str:
        """The trial's."""
        return trial_key(unit, self._protocol, self._corpus, self._corpus_digest)

    def run_search_step(self, unit: Unit, choice: Choice) -> float:
        """Train with one choice; gives its score on val, higher is better. Test is not touched."""
        fitted = self._fit(unit, choice)
        key = self.key(unit)
        if self._best is None or self._best[0] != key or fitted.val_score > self._best[2].val_score:
            self._best = (key, choice, fitted)
        return fitted.val_score

    def finish(self, unit: Unit, choice: Choice) -> pl.DataFrame:
        """Read test once, with the best choice; writes predictions and rows and gives the rows.

        Raises StoreError where test was read before with another choice.
        """
        key = self.key(unit)
        self._lock(key, unit, choice)
        # The search may have run here and left the very probe; else the same one is trained again.
        if self._best is not None and self._best[:2] == (key, choice):
            fitted = self._best[2]
        else:
            fitted = self._fit(unit, choice)
        task, data = make_task(unit.task), self._data[unit.task]
        test = self._split(unit, "test")
        predictions = fitted.predict(test.features)
        weights = patient_weights(
            data.test.patients, self._protocol.bootstraps, resample_seed(self._protocol, unit.task)
        )
        rows = measured_rows(
            task.measure(data, predictions, weights),
            task=unit.task,
            probe=unit.probe,
            headline=task.headline,
            n_test=len(data.test),
        )
        self._store.write_table(predictions_file(key), task.table(data, predictions))
        self._store.write_table(measures_file(key), rows)
        return rows

    def _fit(self, unit: Unit, choice: Choice) -> Fitted:
        seed = probe_seed(self._protocol, unit.task, unit.probe)
        probe = make_probe(unit.probe, self._protocol)
        return probe.fit(
            self._split(unit, "train"), self._split(unit, "val"), choice, seed, self._device
        )

    def _split(self, unit: Unit, name: str) -> Labelled:
        key = self.key(unit)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, {})
        splits = self._loaded[1]
        if name not in splits:
            data = self._data[unit.task]
            probe = make_probe(unit.probe, self._protocol)
            request = requests_of(data, make_task(unit.task), probe)[name]
            features = load_features(self._store, unit.encoder, request, self._corpus_digest)
            if probe.reads_images:
                features = replace(features, images=self._images(data.split(name).rows))
            if asks_text_side(unit.task, unit.probe):
                features = self._with_text_side(unit, features, data, name)
            splits[name] = Labelled(features=features, targets=data.split(name).targets)
        return splits[name]

    def _with_text_side(
        self, unit: Unit, features: FrozenFeatures, data: TaskData, name: str
    ) -> FrozenFeatures:
        """With the images, reports or prompts of one split in the space that they share."""
        # By name, since no other trial needs timm.
        module = importlib.import_module("radsweep.evaluate.shared_space")
        asked = self._store, unit.encoder, features.pooled
        if make_probe(unit.probe, self._protocol).reads_projection:
            return replace(features, projected=module.projected(*asked))
        if make_task(unit.task).needs == "shared":
            shared = module.shared_space(*asked, data.split(name).targets, self._device)
            return replace(features, shared=shared)
        return replace(features, prompts=module.prompt_space(*asked, data.labels, self._device))

    def _images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The x-rays [n, H, W] of manifest rows."""
        manifest = Corpus.open(self._store, self._corpus).manifest[rows.tolist()]
        examples = Reader(self._store, index_table(manifest)).examples(np.arange(len(rows)))
        return np.stack([example.pixels for example in examples])

    def _lock(self, key: str, unit: Unit, choice: Choice) -> None:
        """Say that test is read now, with what, and which labels had too little to be scored."""
        data = self._data[unit.task]
        said = {
            "choice": choice,
            "task": unit.task,
            "probe": unit.probe,
            "corpus": self._corpus,
            "images": {name: len(data.split(name)) for name in SPLITS},
            "left_out": dict(data.left_out),
        }
        text = json.dumps(said, indent=1, sort_keys=True).encode()
        if self._store.create_bytes(lock_file(key), text):
            return
        # A trial that was killed while it finished repeats the very same reading; no other may.
        before = self._store.read_json(lock_file(key))["choice"]
        if before != choice:
            raise StoreError(
                f"test was read for trial {key} with {before} and may not be read again with "
                f"{choice}; remove the trial's files in predictions/ to measure anew"
            )
