"""Which labels gain from the hospital's own images? Paired with the open weights, label by label.

From stored predictions, as ``compare``: no Ray, nothing is trained, no encoder runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.compare import p_value
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import Wanted, predicted, scored_corpus, wanted
from radsweep.laws.compare import holm
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.store.scores import LABEL_GAINS, SUMS
from radsweep.tasks.base import Measurement, Task, TaskData, resample_seed
from radsweep.tasks.resample import interval, patient_weights


def label_gains(store: Store, sweep: Sweep, cells: Sequence[Cell]) -> pl.DataFrame:
    """Score at each recipe's largest scored scale less that of its open weights, per label.

    In each task's headline metric and own probe, recomputed from the stored predictions under the
    protocol's resamples, which the two share; the mean over training seeds, whose own variance is
    not in the interval. ``p`` is ``compare``'s, and ``p_holm`` is Holm's (1979) over all labels and
    recipes of a task. A label that is not defined (nobody has it) has no row.

    Args:
        store: with the predictions.
        sweep: whose protocol and corpus were used.
        cells: those that are asked for; unfinished and unscored ones are left out.
    """
    protocol = sweep.protocol
    if protocol is None:
        return LABEL_GAINS.to_frame()
    rows = predicted(store, wanted(store, sweep, cells))
    if not rows:
        return LABEL_GAINS.to_frame()
    corpus = Corpus.open(store, scored_corpus(sweep, protocol))
    found: list[dict[str, Any]] = []
    for name in protocol.tasks:
        task = make_task(name)
        own = [row for row in rows if (row.unit.task, row.unit.probe) == (name, task.probes[0])]
        compared = _compared(own)
        if not compared:
            continue
        data = task.data(corpus, protocol)
        seed = resample_seed(protocol, name)
        weights = patient_weights(data.test.patients, protocol.bootstraps, seed)
        measured: dict[str, dict[str, Measurement]] = {}
        for row in [one for trained, start in compared for one in (*trained, start)]:
            if row.trial not in measured:
                measured[row.trial] = _by_label(store, task, data, weights, row)
        found += _corrected(
            [line for trained, start in compared for line in _gains(trained, start, measured)]
        )
    return pl.DataFrame(found, schema=LABEL_GAINS)


def _compared(rows: Sequence[Wanted]) -> list[tuple[list[Wanted], Wanted]]:
    """Of each recipe, the rows of its largest scale and that of its open weights."""
    found = []
    starts = {row.cell.key: row for row in rows if row.cell.is_baseline}
    by_start: dict[str, list[Wanted]] = {}
    for row in rows:
        if not row.cell.is_baseline and row.cell.baseline.key in starts:
            recipe = f"{row.cell.recipe.paradigm} {row.cell.recipe.start_from}"
            by_start.setdefault(recipe, []).append(row)
    for trained in by_start.values():
        largest = max(row.cell.subset.images for row in trained)
        top = [row for row in trained if row.cell.subset.images == largest]
        found.append((top, starts[top[0].cell.baseline.key]))
    return found


def _by_label(
    store: Store, task: Task, data: TaskData, weights: Any, row: Wanted
) -> dict[str, Measurement]:
    predictions = task.predicted(data, store.read_table(predictions_file(row.trial)))
    return {
        one.label: one
        for one in task.measure_headline(data, predictions, weights)
        if one.label not in SUMS
    }


def _gains(
    trained: Sequence[Wanted], start: Wanted, measured: dict[str, dict[str, Measurement]]
) -> list[dict[str, Any]]:
    before, cell = measured[start.trial], trained[0].cell
    lines = []
    for label, base in before.items():
        after = [measured[row.trial][label] for row in trained if label in measured[row.trial]]
        if not after:
            continue
        apart = np.mean([one.values for one in after], axis=0) - base.values
        bounds = interval(apart[1:], min(one.patients for one in (*after, base)))
        if not np.isfinite(apart[0]) or bounds is None:
            continue
        lines.append(
            {
                **{"task": start.unit.task, "probe": start.unit.probe, "metric": base.metric},
                **{"label": label, "paradigm": cell.recipe.paradigm},
                **{"start_from": cell.recipe.start_from, "images": cell.subset.images},
                **{"seeds": len(after), "n_positive": base.positives, "gain": float(apart[0])},
                **{"ci_low": bounds[0], "ci_high": bounds[1], "p": p_value(apart)},
            }
        )
    return lines


def _corrected(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = iter(holm([line["p"] for line in lines if line["p"] is not None]))
    return [
        {**line, "p_holm": None if line["p"] is None else float(next(corrected))} for line in lines
    ]
