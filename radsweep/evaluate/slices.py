"""Does a score hold for everybody? Every metric within each slice of test, from stored predictions.

A slice is the test images of one view, projection, sex or age band. Its images keep the
resamples that they have in the whole, so that two slices, or a slice and the whole, pair. No Ray,
nothing is trained, no encoder runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.evaluate.trial import make_task
from radsweep.evaluate.wanted import Wanted, predicted, scored_corpus, wanted
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.store.scores import SLICES
from radsweep.tasks.base import (
    MACRO,
    MIN_PATIENTS,
    Examples,
    Measurement,
    Predictions,
    TaskData,
    resample_seed,
)
from radsweep.tasks.resample import patient_weights

COLUMNS = {
    "view": "view",
    "projection": "projection",
    "sex": "sex",
    "age": "age_years",
}
"""Kind of slice -> column of the manifest; a corpus need not have all of them."""

AGE_BANDS = (18, 40, 60, 80)
"""Years at which an age band begins; the first is of children."""

UNKNOWN = "unknown"
"""The slice of images of which it is not known."""


def slice_scores(store: Store, sweep: Sweep, cells: tuple[Cell, ...], by: str) -> pl.DataFrame:
    """All metrics of all scored cells within each slice; ``SLICES``.

    A label with fewer than ``MIN_PATIENTS`` patients with it, or without it, in a slice has no
    number there but a reason, and neither has a mean over labels that it is one of.

    Args:
        store: with the predictions.
        sweep: whose protocol and corpus were used.
        cells: those that are asked for; unfinished and unscored ones are left out.
        by: a key of ``COLUMNS``.

    Raises:
        SpecError: there is no such kind of slice, or the corpus does not know it of any image.
    """
    protocol = sweep.protocol
    if by not in COLUMNS:
        raise SpecError(f"no slices by {by!r}; known: {', '.join(COLUMNS)}")
    if protocol is None:
        return SLICES.to_frame()
    corpus = Corpus.open(store, scored_corpus(sweep, protocol))
    of_row = {by: slice_names(corpus, by)}
    return _sliced(store, sweep, corpus, cells, of_row, headline_alone=False)


def _sliced(
    store: Store,
    sweep: Sweep,
    corpus: Corpus,
    cells: tuple[Cell, ...],
    of_row: Mapping[str, NDArray[np.str_]],
    *,
    headline_alone: bool,
) -> pl.DataFrame:
    """``SLICES`` for each kind of slice, whose names by manifest row ``of_row`` has."""
    protocol = sweep.protocol
    assert protocol is not None
    found = []
    by_task: dict[str, list[Wanted]] = {}
    for row in predicted(store, wanted(store, sweep, cells)):
        by_task.setdefault(row.unit.task, []).append(row)
    for task, rows in by_task.items():
        made = make_task(task)
        measure = made.measure_headline if headline_alone else made.measure
        data = made.data(corpus, protocol)
        weights = patient_weights(
            data.test.patients, protocol.bootstraps, resample_seed(protocol, task)
        )
        for row in rows:
            predictions = made.predicted(data, store.read_table(predictions_file(row.trial)))
            for by, names in of_row.items():
                of_image = names[data.test.rows]
                for name in np.unique(of_image):
                    inside = np.flatnonzero(of_image == name)
                    part = replace(data, test=_examples(data.test, inside))
                    measured = measure(part, _taken(predictions, inside), weights[:, inside])
                    shared = {"probe": row.unit.probe, "cell": row.cell.name}
                    shared |= {"task": task, "by": by, "slice": str(name)}
                    found += [
                        shared
                        | each
                        | {"headline": (each["metric"], each["label"]) == (made.headline, MACRO)}
                        for each in _rows(measured, part)
                    ]
    return pl.DataFrame(found, schema=SLICES)


def known_slices(corpus: Corpus) -> tuple[str, ...]:
    """The kinds of slice that the corpus knows of at least one image."""
    manifest = corpus.manifest
    return tuple(
        kind
        for kind, name in COLUMNS.items()
        if name in manifest.columns and manifest[name].null_count() < len(manifest)
    )


def headline_slices(store: Store, sweep: Sweep, cells: tuple[Cell, ...]) -> pl.DataFrame:
    """Each task's headline number within every kind of slice that the corpus knows; ``SLICES``.

    Args as for ``slice_scores``; kinds of which test holds one slice only say nothing and are left
    out.
    """
    protocol = sweep.protocol
    if protocol is None:
        return SLICES.to_frame()
    corpus = Corpus.open(store, scored_corpus(sweep, protocol))
    of_row = {by: slice_names(corpus, by) for by in known_slices(corpus)}
    table = _sliced(store, sweep, corpus, cells, of_row, headline_alone=True).filter("headline")
    return table.filter(pl.col("slice").n_unique().over("by") > 1)


def slice_names(corpus: Corpus, by: str) -> NDArray[np.str_]:
    """Of each manifest row, the slice that it is in; ``unknown`` where the corpus does not know.

    Raises SpecError where it knows of no image.
    """
    known = known_slices(corpus)
    if by not in known:
        raise SpecError(
            f"corpus {corpus.name} does not say the {by} of any image; it can be sliced by "
            + (", ".join(known) or "nothing")
        )
    values = corpus.manifest[COLUMNS[by]]
    if by == "age":
        starts = (0, *AGE_BANDS)
        names = [f"{low}-{high - 1}" for low, high in pairwise(starts)] + [f"{AGE_BANDS[-1]}+"]
        bands = np.searchsorted(AGE_BANDS, values.fill_null(0).to_numpy(), side="right")
        found = np.array(names)[bands]
        return np.where(values.is_null().to_numpy(), UNKNOWN, found)
    return values.fill_null(UNKNOWN).to_numpy().astype(np.str_)


def _examples(whole: Examples, inside: NDArray[np.int64]) -> Examples:
    spacing = whole.pixel_spacing_mm
    return replace(
        whole,
        rows=whole.rows[inside],
        image_ids=[whole.image_ids[i] for i in inside],
        patients=whole.patients[inside],
        targets=_taken(whole.targets, inside),
        pixel_spacing_mm=None if spacing is None else spacing[inside],
    )


def _taken(values: Predictions, inside: NDArray[np.int64]) -> Predictions:
    return [values[i] for i in inside] if isinstance(values, list) else values[inside]


def _rows(measured: Sequence[Measurement], part: TaskData) -> Iterator[dict[str, object]]:
    """One per metric and label, with a value or with a reason."""
    short: dict[str, list[str]] = {}
    for one in measured:
        # What an encoder wrote of a finding that nobody here has must not decide whether it counts.
        has_few = one.positives is not None and one.positives < MIN_PATIENTS
        if one.label != MACRO and (has_few or one.patients < MIN_PATIENTS):
            short.setdefault(one.metric, []).append(one.label)
    for one in measured:
        lacking = short.get(one.metric, [])
        reason = None
        if one.label in lacking:
            rests_on = one.patients if one.positives is None else min(one.patients, one.positives)
            reason = f"rests on {rests_on:g} patients here; at least {MIN_PATIENTS} are needed"
        elif one.label == MACRO and lacking:
            reason = f"too few patients here for {', '.join(lacking)}"
        elif not np.isfinite(one.values[0]):
            reason = "not defined on these images"
        bounds = one.interval() if reason is None else None
        yield {
            "metric": one.metric,
            "label": one.label,
            "value": float(one.values[0]) if reason is None else None,
            "ci_low": bounds[0] if bounds else None,
            "ci_high": bounds[1] if bounds else None,
            "n_test": len(part.test),
            "n_positive": one.positives,
            "reason": reason,
        }
