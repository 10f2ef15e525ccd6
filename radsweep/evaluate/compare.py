"""Is one encoder better than another? Paired differences, from stored predictions.

Every encoder of a sweep answered the same images, so that a difference is taken within each
resample of patients: what makes a test set hard makes it hard for both. No Ray, nothing is trained,
no encoder runs.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.trial import lock_file, make_task
from radsweep.evaluate.wanted import Wanted, predicted, scored_corpus, wanted
from radsweep.laws.compare import holm
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.tasks.base import MACRO, Measurement, Predictions, Task, TaskData, resample_seed
from radsweep.tasks.resample import interval, patient_weights

DIFFERENCES = pl.Schema(
    {
        "task": pl.String(),
        "probe": pl.String(),
        "metric": pl.String(),
        "label": pl.String(),
        "cell": pl.String(),
        "other": pl.String(),
        "difference": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "p": pl.Float64(),
        "p_holm": pl.Float64(),
    }
)
"""Of ``paired_differences``."""

LEFT_OUT = pl.Schema({"task": pl.String(), "label": pl.String(), "reason": pl.String()})
"""Of ``left_out_labels``."""


def paired_differences(
    store: Store,
    sweep: Sweep,
    cells: tuple[Cell, ...],
    task: str,
    *,
    metric: str | None = None,
    label: str = MACRO,
) -> pl.DataFrame:
    """Every pair of finished cells, probe by probe: ``difference`` is of ``cell`` less ``other``.

    The metric is recomputed from the stored predictions under the protocol's resamples. The
    interval is ``interval``'s, of the differences. ``p`` is two-sided, of the
    difference over its standard error by bootstrap (Efron and Tibshirani 1993, section 12.2), so
    that it can be small enough to survive a correction, as a count of resamples cannot; null where
    the difference does not vary. ``p_holm`` is Holm's (1979) over all pairs of that probe.

    Args:
        store: with the predictions.
        sweep: whose protocol and corpus were used.
        cells: those that are compared; unfinished and unscored ones are left out.
        task: of the protocol.
        metric: None takes the task's headline.
        label: one of the task's labels or ``macro``.

    Raises:
        SpecError: the protocol has no such task, or the task no such metric and label.
    """
    protocol = sweep.protocol
    if protocol is None or task not in protocol.tasks:
        raise SpecError(f"sweep {sweep.name} does not score the task {task!r}")
    made = make_task(task)
    data = made.data(Corpus.open(store, scored_corpus(sweep, protocol)), protocol)
    weights = patient_weights(
        data.test.patients, protocol.bootstraps, resample_seed(protocol, task)
    )
    scored: dict[str, list[Wanted]] = {}
    for row in predicted(store, wanted(store, sweep, cells)):
        if row.unit.task == task:
            scored.setdefault(row.unit.probe, []).append(row)
    found = []
    for probe, rows in scored.items():
        measured = {}
        for row in rows:
            predictions = made.predicted(data, store.read_table(predictions_file(row.trial)))
            measured[row.cell.name] = _measured(
                made, data, predictions, weights, (metric or made.headline, label)
            )
        shared: dict[str, str | float | None] = {
            "task": task,
            "probe": probe,
            "metric": metric or made.headline,
            "label": label,
        }
        found += [shared | difference for difference in differences(measured)]
    return pl.DataFrame(found, schema=DIFFERENCES)


def _measured(
    task: Task,
    data: TaskData,
    predictions: Predictions,
    weights: NDArray[np.uint16],
    wanted_metric: tuple[str, str],
) -> Measurement:
    measured = {(m.metric, m.label): m for m in task.measure(data, predictions, weights)}
    if wanted_metric not in measured:
        raise SpecError(
            f"task {task.name} has no {wanted_metric[0]} of {wanted_metric[1]!r}; it has "
            + ", ".join(f"{metric} of {label}" for metric, label in sorted(measured))
        )
    return measured[wanted_metric]


def differences(measured: dict[str, Measurement]) -> list[dict[str, str | float | None]]:
    """Rows ``cell``, ``other``, ``difference``, ``ci_low``, ``ci_high``, ``p``, ``p_holm``.

    Args:
        measured: cell -> one metric of one label, under the same resamples for all.
    """
    rows: list[dict[str, str | float | None]] = []
    for cell, other in combinations(measured, 2):
        one, two = measured[cell], measured[other]
        apart = one.values - two.values
        bounds = interval(apart[1:], min(one.patients, two.patients))
        rows.append(
            {
                "cell": cell,
                "other": other,
                "difference": float(apart[0]) if np.isfinite(apart[0]) else None,
                "ci_low": bounds[0] if bounds else None,
                "ci_high": bounds[1] if bounds else None,
                "p": p_value(apart),
            }
        )
    corrected = iter(holm([float(row["p"]) for row in rows if row["p"] is not None]))
    for row in rows:
        row["p_holm"] = None if row["p"] is None else float(next(corrected))
    return rows


def p_value(apart: NDArray[np.float64]) -> float | None:
    """Two-sided p of a paired difference, as ``paired_differences`` says; None without variation.

    Args:
        apart: [1 + resamples], the first of the data as they are.
    """
    draws = apart[1:][np.isfinite(apart[1:])]
    spread = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
    # Two encoders that answer alike leave differences of rounding alone.
    if not np.isfinite(apart[0]) or spread < 1e-12:
        return None
    return float(2 * norm.sf(abs(apart[0]) / spread))


def left_out_labels(store: Store, rows: Sequence[Wanted]) -> pl.DataFrame:
    """Labels that were not scored and why, such as too few patients, as the locks of ``rows`` say.

    One row per task and label; they are no part of any macro mean.
    """
    reasons = {}
    for row in rows:
        if store.exists(lock_file(row.trial)):
            for label, reason in store.read_json(lock_file(row.trial))["left_out"].items():
                reasons[row.unit.task, label] = reason
    return pl.DataFrame(
        [(task, label, reason) for (task, label), reason in reasons.items()],
        schema=LEFT_OUT,
        orient="row",
    )
