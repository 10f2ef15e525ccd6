"""A clinical metric of the reports that were written, from stored predictions.

Apart from the grid, so that it can run later, elsewhere and in an environment with the metric's own
packages: it needs the store, and neither an encoder nor Ray.
"""

import polars as pl

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.encoders import cell_facts
from radsweep.evaluate.runner import Failures
from radsweep.evaluate.score_rows import measured_rows, with_cell
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import scored_corpus, wanted
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.store.record import CellStore
from radsweep.store.scores import SCHEMA
from radsweep.tasks.base import resample_seed
from radsweep.tasks.clinical import ReportMetric, UnmeasuredError, measure_reports
from radsweep.tasks.resample import patient_weights

REPORTS = "reports"


def clinical_scores(
    store: Store, sweep: Sweep, cells: tuple[Cell, ...], metric: ReportMetric
) -> tuple[pl.DataFrame, Failures]:
    """Rows of the score table for each finished cell whose reports were written, and what failed.

    Empty where the protocol has no task ``reports``. Texts of two cells with the same encoder are
    judged once, and resamples are the other metrics' own, so that differences pair. ``n_test`` is
    how many reports could be judged.

    Args:
        store: with the predictions.
        sweep: whose protocol and corpus were used.
        cells: those that are asked for.
        metric: of ``find_metric``, or ``RadFact``.
    """
    protocol = sweep.protocol
    rows = [row for row in wanted(store, sweep, cells) if row.unit.task == REPORTS]
    if protocol is None or not rows:
        return SCHEMA.to_frame(), []
    task = make_task(REPORTS)
    data = task.data(Corpus.open(store, scored_corpus(sweep, protocol)), protocol)
    weights = patient_weights(
        data.test.patients, protocol.bootstraps, resample_seed(protocol, REPORTS)
    )
    measured: dict[str, pl.DataFrame] = {}
    faults: dict[str, str] = {}
    found: list[pl.DataFrame] = []
    failed: Failures = []
    for row in rows:
        if not store.exists(predictions_file(row.trial)):
            continue
        if row.trial not in measured | faults:
            written = task.predicted(data, store.read_table(predictions_file(row.trial)))
            texts = list(data.test.targets), list(written)
            try:
                numbers, judged = measure_reports(metric, *texts, data.test.patients, weights)
            except UnmeasuredError as fault:
                faults[row.trial] = str(fault)
            else:
                measured[row.trial] = measured_rows(
                    numbers,
                    task=REPORTS,
                    probe=row.unit.probe,
                    headline=task.headline,
                    n_test=judged,
                )
        if row.trial in faults:
            failed.append((row.name, faults[row.trial]))
        else:
            facts = cell_facts(sweep.name, row.cell, CellStore(store, row.cell.name).record())
            found.append(with_cell(measured[row.trial], facts))
    return pl.concat([SCHEMA.to_frame(), *found]), failed
