"""Read the score table into curves: one task, metric and paradigm over its scales and seeds.

The only place where laws touch the table's columns. What is unusable (a missing number) is left out
with a sentence that says so; what is ambiguous (two cells in one place) is refused.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import polars as pl

from radsweep.errors import SpecError
from radsweep.laws.forms import FloatArray
from radsweep.laws.words import images_in_words, metric_title, paradigm_title, task_title

NEEDED = (
    *("sweep", "cell", "paradigm", "start_from", "images", "seed", "subset_seed", "stratify_by"),
    *("task", "probe", "label", "metric", "headline", "value", "split", "draws"),
)
# Below this many usable resamples a 2.5 % percentile rests on one or two of them.
FEWEST_DRAWS = 100


@final
@dataclass(frozen=True)
class Scale:
    """The scores of one curve at one scale."""

    images: int
    values: FloatArray
    """[S], one per training (and subset) seed."""
    draws: FloatArray | None
    """[S, D], the same D patient resamples for every encoder; None if any seed lacks them."""

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())


@final
@dataclass(frozen=True)
class Curve:
    """The scores of one paradigm on one task and metric, smallest scale first."""

    sweep: str
    task: str
    probe: str
    metric: str
    label: str
    paradigm: str
    start_from: str
    arm: str
    """The paradigm, with its open weights where one paradigm starts from several."""
    scales: tuple[Scale, ...]
    open_weights: Scale | None
    """The score at 0 in-domain images."""
    left_out: tuple[str, ...]
    """What was unusable, in sentences."""

    @property
    def images(self) -> FloatArray:
        """[n] scales."""
        return np.array([float(scale.images) for scale in self.scales], dtype=np.float64)

    @property
    def values(self) -> FloatArray:
        """[n] scores, mean over seeds."""
        return np.array([scale.value for scale in self.scales])

    @property
    def title(self) -> str:
        """Task (with the probe, where it is not the only one) and metric, to read."""
        probe = f" ({self.probe})" if self.probe else ""
        return f"{task_title(self.task)}{probe}"

    @property
    def arm_title(self) -> str:
        """The arm, to read."""
        return paradigm_title(self.arm)

    @property
    def metric_title(self) -> str:
        """The metric, to read."""
        return metric_title(self.metric)

    @property
    def seed_noise(self) -> SeedNoise | None:
        """How far training again moves a score; None where no scale was trained twice."""
        return seed_noise(
            [scale.values for scale in self.scales], [scale.draws for scale in self.scales]
        )

    def mixed(self, scale: Scale) -> FloatArray | None:
        """[D] draws of the scale's mean score, patients resampled and seeds redrawn, or None.

        The generator comes from what the curve and scale *are*, so a second call, and a second
        machine, gets the same draws. The open weights were trained once and for all: only their
        patients are resampled.
        """
        if scale.draws is None:
            return None
        noise = None if scale.images == 0 else self.seed_noise
        identity = (self.sweep, self.task, self.probe, self.metric, self.label, self.arm)
        own = _generator((*identity, scale.images))
        return mix_seeds(scale.draws, noise, _generator(identity), own)

    def widened(self, draws: FloatArray, noise: SeedNoise) -> FloatArray:
        """Draws [D, n] of all scales with noise between runs that they lack, as in ``mixed``."""
        identity = (self.sweep, self.task, self.probe, self.metric, self.label, self.arm, "wider")
        columns = [
            mix_seeds(column[None], noise, _generator(identity), _generator((*identity, scale)))
            for column, scale in zip(draws.T, self.images.tolist(), strict=True)
        ]
        return np.stack(columns, axis=1)


@final
@dataclass(frozen=True)
class SeedNoise:
    """The variance between runs of one scale, pooled over a curve's scales."""

    variance: float
    degrees: int
    """Degrees of freedom: runs minus scales, over the scales that were trained more than once."""
    held: float = 0.0
    """The part that draws of the patients hold: what of their noise two encoders do not share."""

    @property
    def training(self) -> float:
        """The variance that is left for training itself, not below 0."""
        return max(self.variance - self.held, 0.0)


def seed_noise(
    values: Sequence[FloatArray], draws: Sequence[FloatArray | None] = ()
) -> SeedNoise | None:
    """Pool the seeds' variance over scales with [S] scores each; None if all have one seed.

    Pooling assumes that training again moves scores alike at every scale: two or three seeds per
    scale say too little by themselves. Scores of two encoders on the same patients also part
    because the patients' noise is not wholly shared; ``held`` is that part, read from the draws
    [S, D] of each scale, which hold it already.
    """
    several = [i for i, scores in enumerate(values) if len(scores) > 1]
    if not several:
        return None
    degrees = sum(len(values[i]) - 1 for i in several)
    squares = sum(float(np.sum((values[i] - values[i].mean()) ** 2)) for i in several)
    held = 0.0
    for i in several:
        known = draws[i] if i < len(draws) else None
        if known is not None:
            usable = known[:, np.isfinite(known).all(axis=0)] - values[i][:, None]
            if usable.shape[1]:
                held += (len(values[i]) - 1) * float(usable.var(axis=0, ddof=1).mean())
    return SeedNoise(squares / degrees, degrees, held / degrees)


def _generator(identity: tuple[object, ...]) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("|".join(map(str, identity)).encode()))


def mix_seeds(
    draws: FloatArray,
    noise: SeedNoise | None,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> FloatArray:
    """Draws [D] of a mean over S training seeds with both layers of noise: patients and seeds.

    Draw i takes patient resample i and adds what makes the noise between runs a Student's t: a
    normal deviate of variance ``noise.variance / S`` over a chi-square that all scales of a curve
    share in draw i, as they share the estimate, less what the resample holds of it. Any sum over
    scales then has the t interval of its degrees of freedom, where resampling two or three seeds
    would be too narrow by far.

    Args:
        draws: [S, D] the score of each seed under D patient resamples.
        noise: of one training run; None leaves the patients alone.
        shared: gives the chi-squares: start it alike for every scale of a curve.
        own: gives the normal deviates.
    """
    plain: FloatArray = draws.mean(axis=0)
    if noise is None or noise.variance == 0:
        return plain
    between = noise.variance * noise.degrees / shared.chisquare(noise.degrees, len(plain))
    deviates = own.normal(0.0, np.sqrt(np.maximum(between - noise.held, 0.0) / len(draws)))
    mixed: FloatArray = plain + deviates
    return mixed


def headline(scores: pl.DataFrame) -> pl.DataFrame:
    """The rows that laws are fitted on: test split, the task's headline metric over all labels."""
    lacking = [name for name in NEEDED if name not in scores.columns]
    if lacking:
        raise SpecError(f"the score table lacks the columns {', '.join(lacking)}")
    return scores.filter(pl.col("headline") & (pl.col("split") == "test"))


def _once(rows: list[dict[str, Any]], place: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows without copies of one another, and a sentence per row that had some."""
    kept: list[dict[str, Any]] = []
    counts: list[int] = []
    for row in rows:
        seed = (row["seed"], row["subset_seed"])
        alike = [i for i, k in enumerate(kept) if (k["seed"], k["subset_seed"]) == seed]
        # As text, where NaN equals itself.
        same = [i for i in alike if repr(kept[i]) == repr(row)]
        if same:
            counts[same[0]] += 1
        else:
            kept.append(row)
            counts.append(1)
    notes = [
        f"{place}: the score of cell {row['cell']} is in the table {count} times and counts once."
        for row, count in zip(kept, counts, strict=True)
        if count > 1
    ]
    return kept, notes


def _scale(images: int, rows: list[dict[str, Any]], place: str) -> tuple[Scale | None, list[str]]:
    usable, left_out = [], []
    for row in rows:
        if row["value"] is None or not np.isfinite(row["value"]):
            left_out.append(f"{place}: the score of cell {row['cell']} is missing and is left out.")
        else:
            usable.append(row)
    usable, copies = _once(usable, place)
    left_out += copies
    taken = [(row["seed"], row["subset_seed"]) for row in usable]
    if len(set(taken)) < len(taken):
        cells = ", ".join(sorted({row["cell"] for row in usable}))
        raise SpecError(
            f"{place}: several scores share one seed (cells {cells}); "
            "filter the table to one recipe per paradigm and one score per cell"
        )
    if not usable:
        return None, left_out
    values = np.array([row["value"] for row in usable], dtype=np.float64)
    if any(row["draws"] is None for row in usable):
        return Scale(images, values, None), left_out
    lengths = {len(row["draws"]) for row in usable}
    if len(lengths) > 1:
        raise SpecError(
            f"{place}: draws of different lengths {sorted(lengths)} cannot be paired; "
            "evaluate these cells again under one protocol"
        )
    return Scale(images, values, np.array([r["draws"] for r in usable], dtype=np.float64)), left_out


def _curve(
    key: tuple[str, ...],
    arm: str,
    probe: str,
    rows: list[dict[str, Any]],
    baseline_rows: list[dict[str, Any]],
) -> Curve:
    sweep, task, _, metric, label, paradigm, start_from = key
    by_images: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_images[row["images"]].append(row)
    left_out: list[str] = []
    scales = []
    named = f"{task_title(task)}, {paradigm_title(arm)}"
    for images in sorted(by_images):
        place = f"{named}, {images_in_words(images)} images"
        scale, notes = _scale(images, by_images[images], place)
        left_out += notes
        if scale is not None:
            scales.append(scale)
    open_weights, notes = _scale(0, baseline_rows, f"{named}, open weights")
    known = [scale.draws for scale in scales if scale.draws is not None]
    if known and all(np.ptp(draws, axis=1).max() == 0 for draws in known):
        # A perfect score never varies; a whole curve of them is no resampling at all.
        scales = [replace(scale, draws=None) for scale in scales]
        notes = [
            *notes,
            f"{named}: every resample of the test patients gives the same score, so its resamples "
            "are left out; evaluate these cells again.",
        ]
    return Curve(
        *(sweep, task, probe, metric, label, paradigm, start_from, arm),
        scales=tuple(scales),
        open_weights=open_weights,
        left_out=tuple(left_out + notes),
    )


def curves(rows: pl.DataFrame) -> list[Curve]:
    """Group score rows (of ``headline``, or any of one split) into curves, sorted by what they are.

    The open weights of a curve are its own paradigm's rows at 0 images, else those of another
    paradigm that starts from the same weights. A curve that has open weights only is not listed.

    Raises:
        SpecError: a column is missing, two cells hold the same paradigm, scale and seed, or one
            sweep's subsets are of two stratifications.
    """
    lacking = [name for name in NEEDED if name not in rows.columns]
    if lacking:
        raise SpecError(f"the score table lacks the columns {', '.join(lacking)}")
    names = ("sweep", "task", "probe", "metric", "label", "paradigm", "start_from")
    trained: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    untouched: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    starts: dict[tuple[str, str], set[str]] = defaultdict(set)
    probes: dict[tuple[str, str], set[str]] = defaultdict(set)
    _check_strata(rows)
    for row in rows.select(NEEDED).sort("images", "seed", "subset_seed").iter_rows(named=True):
        key = tuple(row[name] for name in names)
        (untouched if row["images"] == 0 else trained)[key].append(row)
        starts[row["sweep"], row["paradigm"]].add(row["start_from"])
        probes[row["sweep"], row["task"]].add(row["probe"])
    found = []
    for key in sorted(trained):
        sweep, task, probe, _, _, paradigm, start_from = key
        several = len(starts[sweep, paradigm]) > 1
        arm = f"{paradigm} from {start_from}" if several else paradigm
        same_start = [k for k in sorted(untouched) if k[:5] == key[:5] and k[6] == start_from]
        own = key if key in untouched else next(iter(same_start), key)
        shown_probe = probe if len(probes[sweep, task]) > 1 else ""
        found.append(_curve(key, arm, shown_probe, trained[key], untouched.get(own, [])))
    return found


def _check_strata(rows: pl.DataFrame) -> None:
    trained = rows.filter(pl.col("images") > 0).unique(["sweep", "stratify_by"])
    for (sweep,), found in trained.group_by("sweep"):
        if found.height > 1:
            kinds = " and by ".join(sorted(kind or "nothing" for kind in found["stratify_by"]))
            raise SpecError(
                f"the scores of sweep {sweep} are of subsets stratified by {kinds}, which are no "
                "one curve; filter the table by its column stratify_by"
            )
