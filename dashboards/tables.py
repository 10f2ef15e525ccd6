"""The tables that every chart is drawn from, and the analysis that charts and sentences share."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import polars as pl

from radsweep.dashboards.blocks import Films, Note
from radsweep.errors import SpecError
from radsweep.laws.analysis import Analysis, analyse
from radsweep.laws.answers import Answer, answers_from
from radsweep.laws.curves import NEEDED
from radsweep.store.scores import LABEL_GAINS, SLICES

NEEDS = {
    "scores": (*NEEDED, "ci_low", "ci_high", "n_positive", "n_test", "epochs"),
    "cells": (
        *("cell", "paradigm", "images", "seed", "state", "spent", "images_seen", "steps"),
        *("flops", "seconds", "reason", "workers", "device"),
        *("images_per_second", "data_wait", "mfu", "loss"),
    ),
    "steps": ("cell", "spent", "loss"),
}
SWEEP_NEEDS = ("name", "corpus", "spec", "code_version", "card")


@final
@dataclass(frozen=True)
class Tables:
    """One sweep's results at one moment.

    Before the first cell has logged a step, ``steps`` may be empty and without columns.

    Raises:
        SpecError: a table or the sweep's description lacks something that the charts read.
    """

    scores: pl.DataFrame
    """One row per number, with its coordinates, interval and draws."""
    cells: pl.DataFrame
    """One row per cell of the sweep, done or not."""
    steps: pl.DataFrame
    """One row per logged training step."""
    sweep: dict[str, Any]
    """name, corpus, spec, code_version, card, and plan where one was kept (``sweep.plan``)."""
    label_gains: pl.DataFrame = field(default_factory=LABEL_GAINS.to_frame)
    """What ``radsweep.evaluate.label_gains`` found; empty before a run has ended."""
    slices: pl.DataFrame = field(default_factory=SLICES.to_frame)
    """What ``radsweep.evaluate.slices`` found; empty before a run has ended."""
    films: Callable[[], tuple[Films | Note, ...]] = tuple
    """Reads example films: called only where they are shown. Without, there are none."""

    def __post_init__(self) -> None:
        frames = {"scores": self.scores, "cells": self.cells, "steps": self.steps}
        for name, frame in frames.items():
            if name == "steps" and not len(frame):
                continue
            lacking = [column for column in NEEDS[name] if column not in frame.columns]
            if lacking:
                raise SpecError(f"the table '{name}' lacks the columns {', '.join(lacking)}")
        lacking = [key for key in SWEEP_NEEDS if key not in self.sweep]
        if lacking:
            raise SpecError(f"the sweep's description lacks {', '.join(lacking)}")

    @cached_property
    def headline(self) -> pl.DataFrame:
        """The score rows by which tasks are plotted first: few of many."""
        return self.scores.filter("headline")

    @cached_property
    def analyses(self) -> tuple[Analysis, ...]:
        """Every headline curve, analysed once for all sentences and charts."""
        return analyse(self.headline)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """What the scores say, in sentences."""
        return tuple(answers_from(self.analyses))

    def fingerprint(self) -> tuple[int, ...]:
        """Equal for equal tables within one process; the live app redraws only when it moves.

        Of the scores only the values are read (a million rows in a moment): whatever makes a row
        another row makes another value.
        """
        values = self.scores.select("value")
        frames = (values, self.cells, self.steps, self.label_gains, self.slices)
        said = zlib.crc32(json.dumps(self.sweep, sort_keys=True, default=str).encode())
        return (
            said,
            *(part for f in frames for part in (len(f), int(f.hash_rows().sum()) if len(f) else 0)),
        )
