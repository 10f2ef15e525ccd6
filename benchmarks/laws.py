"""Bootstraps of one scaling law: radsweep's batched fit against scipy's curve_fit in a loop.

``python benchmarks/laws.py [--bootstraps N] [--loop N]`` refits each form to N resamples of one
curve, with this package all at once, and with ``scipy.optimize.curve_fit`` one by one, started at
the true law: bounded, as a law's parameters are, and free, which is faster and may end outside the
bounds. ``--loop`` resamples are timed, spread over the run, and their time is scaled up to N.

A row per form: seconds, how many times as long the loops take, the largest share (over the
resamples) by which radsweep's sum of squares lies above that of the bounded loop and by which it
lies below, and how many fits of the bounded and of the free loop fail. One core: OMP_NUM_THREADS=1.
"""

import argparse
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import OptimizeWarning, curve_fit

from radsweep.laws.forms import (
    ANCHORED,
    FORMS,
    LOG_LINEAR,
    POWER_LAW,
    POWER_LAW_WITH_FLOOR,
    FloatArray,
    Form,
)
from radsweep.laws.solver import solve
from radsweep.laws.wide_forms import ALL_FORMS, BROKEN, LOGIT_LINEAR, SHIFTED

FIVE = np.array([3e4, 5e4, 1e5, 1e6, 3.5e6])
NINE = np.geomspace(1e3, 1e7, 9)
START = 0.45
NOISE = 0.005
REPEATS = 5
TRUTH = {
    POWER_LAW: (2.0, 0.2),
    POWER_LAW_WITH_FLOOR: (0.2, 5.0, 0.3),
    LOG_LINEAR: (0.9, 0.03),
    ANCHORED: (0.15, 8e4, 0.4),
    LOGIT_LINEAR: (3.0, 0.3),
    SHIFTED: (0.1, 20.0, 3e4, 0.4),
    BROKEN: (0.9, 0.05, 0.5, 1e5),
}


def bounds(form: Form, images: FloatArray) -> tuple[list[float], list[float]]:
    """The lowest and highest parameters that radsweep allows, for curve_fit."""
    axes = {axis.name: (axis.low, axis.high) for axis in form.axes(images)}
    axes |= {
        name: (0.0, np.inf)
        for name, signed in zip(form.linear, form.non_negative, strict=True)
        if signed
    }
    names = [name for name in form.parameters if name != "start"]
    pairs = [axes.get(name, (-np.inf, np.inf)) for name in names]
    return [low for low, _ in pairs], [high for _, high in pairs]


def loop(
    form: Form, images: FloatArray, errors: FloatArray, *, is_bounded: bool
) -> tuple[float, FloatArray]:
    """Seconds and sums of squares (NaN where a fit fails), starting at the true law."""
    fixed = (START,) if form.is_anchored else ()

    def law(at: FloatArray, *theta: float) -> FloatArray:
        return form(at, np.array([*theta, *fixed]))

    limits = bounds(form, images) if is_bounded else (-np.inf, np.inf)
    misfits = np.full(len(errors), np.nan)
    began = time.perf_counter()
    for i, row in enumerate(errors):
        try:
            theta, _ = curve_fit(law, images, row, p0=TRUTH[form], bounds=limits)
        except RuntimeError:
            continue
        misfits[i] = np.sum((row - law(images, *theta)) ** 2)
    return time.perf_counter() - began, misfits


def measured(form: Form, bootstraps: int, count: int) -> list[str]:
    """One row of the table."""
    images = FIVE if form in FORMS else NINE
    fixed = (START,) if form.is_anchored else ()
    exact = form(images, np.array([*TRUTH[form], *fixed]))
    rng = np.random.default_rng(0)
    errors = exact + rng.normal(0, NOISE, (bootstraps, len(images)))
    start = np.full(bootstraps, START)
    count = min(count, bootstraps)
    ours, spent, found = [], {True: 0.0, False: 0.0}, {True: [], False: []}
    for rows in np.array_split(np.arange(count), REPEATS):
        began = time.perf_counter()
        misfits = solve(form, images, errors, start=start)[1]
        ours.append(time.perf_counter() - began)
        for is_bounded in spent:
            seconds, sums = loop(form, images, errors[rows], is_bounded=is_bounded)
            spent[is_bounded] += seconds * bootstraps / count
            found[is_bounded].append(sums)
    bounded, free = np.concatenate(found[True]), np.concatenate(found[False])
    share = misfits[:count] / bounded - 1
    return [
        *(form.name, str(len(images)), f"{np.median(ours):.3f}"),
        *(f"{spent[True]:.1f}", f"{spent[True] / np.median(ours):.0f}"),
        *(f"{spent[False]:.1f}", f"{spent[False] / np.median(ours):.0f}"),
        *(f"{np.nanmax(share):.0e}", f"{-np.nanmin(share):.0e}"),
        f"{np.isnan(bounded).mean():.1%}, {np.isnan(free).mean():.1%}",
    ]


def main() -> None:
    """Fit, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstraps", type=int, default=4000)
    parser.add_argument("--loop", type=int, default=400)
    given = parser.parse_args()
    warnings.simplefilter("ignore", OptimizeWarning)
    np.seterr(all="ignore")
    table = Table(title=f"{given.bootstraps:,} bootstraps of one curve: radsweep and curve_fit")
    columns = ("law", "scales", "radsweep s", "bounded s", "times", "free s", "times")
    for name in (*columns, "above", "below", "failed"):
        table.add_column(name, justify="left" if name == "law" else "right")
    for form in ALL_FORMS:
        table.add_row(*measured(form, given.bootstraps, given.loop))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
