"""Clinical metrics of reports as plug-ins: found by name, run on stored texts, never required.

They need weights and packages that this one does not install; ``radgraph_f1`` and ``chexbert_f1``
wrap the published ones where they are. A metric of your own is a module that ends in
``METRIC = Class`` and is named by its dotted name. Nothing is fetched here; what a wrapped package
fetches is its own matter, so run it where that is allowed.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from radsweep.errors import RadsweepError, SpecError
from radsweep.parts import did_you_mean
from radsweep.tasks.base import Measurement
from radsweep.tasks.resample import divided, people, weighted_means, weighted_sums

ALL = "all"
"""The label of a metric of whole texts."""


class UnmeasuredError(RadsweepError):
    """A metric has no number of these reports, and says why and what to do."""


class ReportMetric(ABC):
    """Abstract; each is final. What it says of a pair of texts must not hang on other pairs."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Packages that must be importable, by the names that they are imported by."""

    @abstractmethod
    def statistics(self, references: list[str], candidates: list[str]) -> NDArray[np.float64]:
        """[n, k] of n true and n written reports: what ``summary`` needs of each pair.

        NaN throughout a row for a pair that could not be judged. Raises UnmeasuredError where so
        many could not that there is no number.
        """

    @abstractmethod
    def summary(
        self, statistics: NDArray[np.float64], weights: NDArray[np.uint16]
    ) -> dict[str, NDArray[np.float64]]:
        """Numbers [resamples] by name from statistics [n, k] and how often each pair counts."""


@final
class RadGraphF1(ReportMetric):
    """Mean F1 of entities and whether they have a relation (Delbrouck et al. 2022, ``partial``)."""

    name: ClassVar[str] = "radgraph_f1"
    needs: ClassVar[tuple[str, ...]] = ("radgraph",)

    def statistics(self, references: list[str], candidates: list[str]) -> NDArray[np.float64]:
        """[n, 1] rewards; 0 where a text is empty."""
        package: Any = importlib.import_module("radgraph")
        rewards = package.F1RadGraph(reward_level="partial")(refs=references, hyps=candidates)[1]
        return np.array(rewards, dtype=np.float64)[:, None]

    def summary(
        self, statistics: NDArray[np.float64], weights: NDArray[np.uint16]
    ) -> dict[str, NDArray[np.float64]]:
        """Means."""
        return {self.name: weighted_means(weights, statistics)[:, 0]}


@final
class ChexbertF1(ReportMetric):
    """Micro F1 of CheXbert's 14 labels (Smit et al. 2020), present or uncertain as positive."""

    name: ClassVar[str] = "chexbert_f1"
    needs: ClassVar[tuple[str, ...]] = ("f1chexbert",)

    def statistics(self, references: list[str], candidates: list[str]) -> NDArray[np.float64]:
        """[n, 3] hits, false alarms and misses over the labels of each pair."""
        package: Any = importlib.import_module("f1chexbert")
        labeller = package.F1CheXbert()
        true, written = (
            np.array([labeller.get_label(text) for text in texts], dtype=np.float64)
            for texts in (references, candidates)
        )
        outcomes = (true * written, (1 - true) * written, true * (1 - written))
        return np.stack([each.sum(axis=1) for each in outcomes], axis=1)

    def summary(
        self, statistics: NDArray[np.float64], weights: NDArray[np.uint16]
    ) -> dict[str, NDArray[np.float64]]:
        """F1 of the sums; NaN where no label is there or written."""
        hits, false, missed = weighted_sums(weights, statistics).T
        return {self.name: divided(2 * hits, 2 * hits + false + missed)}


KNOWN: dict[str, type[ReportMetric]] = {kind.name: kind for kind in (RadGraphF1, ChexbertF1)}
"""Those that come with radsweep, by name."""


def find_metric(name: str) -> ReportMetric:
    """A metric by its name, or by the dotted name of its module.

    Raises SpecError where there is none, or where a package that it needs is not installed.
    """
    kind = KNOWN.get(name) or _of_module(name)
    lacking = [package for package in kind.needs if importlib.util.find_spec(package) is None]
    if lacking:
        raise SpecError(
            f"report metric {name} needs the package {', '.join(lacking)}, which is not installed "
            f"here: `pip install {' '.join(lacking)}` (the extra `reports`), best in an "
            "environment of its own, since it brings its own versions and fetches its weights; all "
            "else is scored without it"
        )
    return kind()


def _of_module(name: str) -> type[ReportMetric]:
    if "." not in name:
        raise SpecError(f"no report metric named {name!r}; {did_you_mean(name, list(KNOWN))}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as fault:
        raise SpecError(f"report metric {name}: {fault}; is its package installed?") from fault
    kind = vars(module).get("METRIC")
    if not isinstance(kind, type) or not issubclass(kind, ReportMetric):
        raise SpecError(f"{name} has no METRIC = <class of ReportMetric>; add it at its end")
    return kind


def measure_reports(
    metric: ReportMetric,
    references: list[str],
    candidates: list[str],
    patients: NDArray[np.str_],
    weights: NDArray[np.uint16],
) -> tuple[list[Measurement], int]:
    """What the metric says of n written reports under every resample, and how many it judged.

    Args:
        metric: of ``find_metric``.
        references: n true reports.
        candidates: n written ones.
        patients: [n] of whom they are.
        weights: [resamples, n].

    Raises UnmeasuredError as ``ReportMetric.statistics`` does.
    """
    statistics = metric.statistics(references, candidates)
    if statistics.ndim != 2 or len(statistics) != len(references):
        raise SpecError(
            f"report metric {metric.name} gave statistics of shape {statistics.shape} for "
            f"{len(references)} reports; it must give one row for each"
        )
    judged = np.any(~np.isnan(statistics), axis=1)
    rows = [
        Measurement(
            label=ALL,
            metric=name,
            values=values,
            positives=None,
            patients=people(patients, judged),
        )
        for name, values in metric.summary(statistics, weights).items()
    ]
    return rows, int(judged.sum())
