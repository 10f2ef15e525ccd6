"""Find the charts: every module of this folder that is not machinery is one chart.

A chart is one file with a docstring (the question it answers), ``TITLE``, ``PAGE``, ``points`` and
``figure``. A new chart is a new file and no edit elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import final

import plotly.graph_objects as go
import polars as pl

from radsweep import dashboards
from radsweep.dashboards.tables import Tables
from radsweep.errors import SpecError

PAGES = ("overview", "compare", "labels", "forecast", "runs", "images", "provenance")
MACHINERY = frozenset(
    {
        *("app", "blocks", "charts", "logs", "page", "pages", "progress", "provenance", "slider"),
        *("style", "tables"),
    }
)
CONTENTS = ("TITLE", "PAGE", "points", "figure")


@final
@dataclass(frozen=True)
class Chart:
    """One chart, as its module gives it."""

    name: str
    title: str
    page: str
    question: str
    """The module's docstring."""
    points: Callable[[Tables], pl.DataFrame]
    """What is drawn, as a table; empty where there is nothing to draw."""
    figure: Callable[[pl.DataFrame], go.Figure]
    """The drawing of non-empty points; decides nothing."""


def read(module: ModuleType) -> Chart:
    """The chart that a module holds.

    Raises:
        SpecError: the module lacks one of the four names or its docstring, or names no known page.
    """
    contents, name = vars(module), module.__name__.rsplit(".", 1)[-1]
    lacking = [wanted for wanted in CONTENTS if wanted not in contents]
    if lacking or not module.__doc__:
        missing = ", ".join([*lacking, *([] if module.__doc__ else ["a docstring"])])
        raise SpecError(f"the chart {name}.py lacks {missing}")
    if contents["PAGE"] not in PAGES:
        raise SpecError(
            f"the chart {name}.py wants the page '{contents['PAGE']}'; pages are {', '.join(PAGES)}"
        )
    return Chart(
        name=name,
        title=contents["TITLE"],
        page=contents["PAGE"],
        question=" ".join(module.__doc__.split()),
        points=contents["points"],
        figure=contents["figure"],
    )


def charts() -> tuple[Chart, ...]:
    """Every chart of the folder, by page and then by file name."""
    names = sorted(m.name for m in pkgutil.iter_modules(dashboards.__path__))
    modules = [
        importlib.import_module(f"{dashboards.__name__}.{name}")
        for name in names
        if name not in MACHINERY
    ]
    return tuple(sorted((read(m) for m in modules), key=lambda c: (PAGES.index(c.page), c.name)))
