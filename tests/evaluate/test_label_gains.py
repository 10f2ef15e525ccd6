"""The gain of each label over the open weights, from stored predictions."""

import numpy as np
import pytest

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.label_gains import label_gains
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import wanted
from radsweep.laws.compare import holm
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.store.scores import LABEL_GAINS
from radsweep.tasks.base import resample_seed
from radsweep.tasks.resample import patient_weights
from tests.evaluate import toy

CELLS = toy.sweep().cells()
LABEL = "effusion"


def test_a_gain_is_the_paired_difference_that_an_obvious_loop_finds(scored: Store) -> None:
    sweep, protocol = toy.sweep(), toy.protocol()
    found = label_gains(scored, sweep, CELLS)
    assert found.schema == LABEL_GAINS
    corpus = Corpus.open(scored, toy.CORPUS)
    task = make_task("findings")
    data = task.data(corpus, protocol)
    seed = resample_seed(protocol, "findings")
    weights = patient_weights(data.test.patients, protocol.bootstraps, seed)
    values = []
    for cell in CELLS:
        (row,) = [r for r in wanted(scored, sweep, [cell]) if r.unit.task == "findings"]
        table = scored.read_table(predictions_file(row.trial))
        for one in task.measure(data, task.predicted(data, table), weights):
            if (one.metric, one.label) == (task.headline, LABEL):
                values.append(one.values)
    start, trained = values
    row = found.filter(task="findings", label=LABEL).row(0, named=True)
    assert row["gain"] == pytest.approx(trained[0] - start[0])
    draws = trained[1:] - start[1:]
    low, high = np.quantile(draws[np.isfinite(draws)], (0.025, 0.975))
    assert row["ci_low"] <= low + 1e-9 and row["ci_high"] >= high - 1e-9
    assert (row["paradigm"], row["seeds"]) == ("clip", 1)
    assert row["images"] == CELLS[1].subset.images


def test_labels_of_a_task_are_corrected_together(scored: Store) -> None:
    found = label_gains(scored, toy.sweep(), CELLS)
    assert set(found["task"]) >= {"findings", "lines_tubes", "lines_tubes_seg"}
    assert not {"macro", "micro"} & set(found["label"])
    for part in found.partition_by("task"):
        known = part.drop_nulls("p")
        assert known["p_holm"].to_list() == pytest.approx(list(holm(known["p"].to_list())))


def test_without_the_open_weights_or_scores_there_is_no_gain(scored: Store) -> None:
    assert label_gains(scored, toy.sweep(), CELLS[1:]).is_empty()
    assert label_gains(scored, toy.sweep(), CELLS[:1]).is_empty()
