"""Bootstraps of one scaling law: radsweep's batched fit against scipy's curve_fit in a loop.

``python benchmarks/laws.py [--bootstraps N] [--loop N]`` refits each form to N resamples of one
five-scale curve, with this package all at once, and with ``scipy.optimize.curve_fit`` one by one
(bounded, as parameters of a law are, and free; ``--loop`` resamples are timed and the time is
scaled up). Beside the seconds stands how far each gets: the median over the resamples of the sum of
squares, as a ratio to radsweep's, and the share of fits that fail. One core: set OMP_NUM_THREADS=1.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import OptimizeWarning, curve_fit

from radsweep.laws.forms import ANCHORED, LOG_LINEAR, POWER_LAW, POWER_LAW_WITH_FLOOR, Form
from radsweep.laws.solver import solve

IMAGES = np.array([3e4, 5e4, 1e5, 1e6, 3.5e6])
START = 0.45
NOISE = 0.005
TRUTH = {
    POWER_LAW: (2.0, 0.2),
    POWER_LAW_WITH_FLOOR: (0.2, 5.0, 0.3),
    LOG_LINEAR: (0.9, 0.03),
    ANCHORED: (0.15, 8e4, 0.4),
}
LOWEST = {
    POWER_LAW: (0.0, 0.01),
    POWER_LAW_WITH_FLOOR: (0.0, 0.0, 0.01),
    LOG_LINEAR: (-np.inf, -np.inf),
    ANCHORED: (0.0, 300.0, 0.01),
}
HIGHEST = {
    POWER_LAW: (np.inf, 1.5),
    POWER_LAW_WITH_FLOOR: (np.inf, np.inf, 1.5),
    LOG_LINEAR: (np.inf, np.inf),
    ANCHORED: (np.inf, 3.5e7, 1.5),
}


def loop(form: Form, errors: np.ndarray, is_bounded: bool) -> tuple[float, np.ndarray]:
    """Seconds and sums of squares (NaN where a fit fails), starting at the true law."""
    fixed = (START,) if form is ANCHORED else ()

    def law(images: np.ndarray, *theta: float) -> np.ndarray:
        return form(images, np.array([*theta, *fixed]))

    bounds = (LOWEST[form], HIGHEST[form]) if is_bounded else (-np.inf, np.inf)
    misfits = np.full(len(errors), np.nan)
    began = time.perf_counter()
    for i, row in enumerate(errors):
        try:
            theta, _ = curve_fit(law, IMAGES, row, p0=TRUTH[form], bounds=bounds)
        except RuntimeError:
            continue
        misfits[i] = np.sum((row - law(IMAGES, *theta)) ** 2)
    return time.perf_counter() - began, misfits


def timed(act: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """The best of three runs in seconds, and the sums of squares."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        misfits = act()[1]
        seconds.append(time.perf_counter() - began)
    return min(seconds), misfits


def main() -> None:
    """Fit, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstraps", type=int, default=4000)
    parser.add_argument("--loop", type=int, default=400)
    given = parser.parse_args()
    warnings.simplefilter("ignore", OptimizeWarning)
    np.seterr(all="ignore")
    table = Table(title=f"{given.bootstraps:,} bootstraps of one curve of {len(IMAGES)} scales")
    for name in ("law", "by", "seconds", "times as long", "sum of squares", "failed"):
        table.add_column(name, justify="left" if name in ("law", "by") else "right")
    rng = np.random.default_rng(0)
    for form, theta in TRUTH.items():
        exact = form(IMAGES, np.array([*theta, *((START,) if form is ANCHORED else ())]))
        errors = exact + rng.normal(0, NOISE, (given.bootstraps, len(IMAGES)))
        start = np.full(len(errors), START)
        ours, misfits = timed(lambda e=errors, s=start, f=form: solve(f, IMAGES, e, start=s))
        table.add_row(form.name, "radsweep", f"{ours:.2f}", "1", "1", "0%")
        count = min(given.loop, len(errors))
        for is_bounded in (True, False):
            seconds, theirs = loop(form, errors[:count], is_bounded)
            seconds *= len(errors) / count
            ratio = np.nanmedian(theirs / misfits[:count])
            table.add_row(
                "",
                f"curve_fit, {'bounded' if is_bounded else 'free'}",
                f"{seconds:.1f}",
                f"{seconds / ours:.0f}",
                f"{ratio:.4f}",
                f"{np.isnan(theirs).mean():.0%}",
            )
        table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
