"""Random generators seeded from identity: no patient depends on another or on the worker."""

from typing import TypeVar

import numpy as np

from radsweep.keys import seed_of

Item = TypeVar("Item")


def generator(*parts: str | int) -> np.random.Generator:
    """One independent PCG64 stream for each identity, the same on every machine and process.

    ``parts`` say what the stream is for, e.g. ``("riverside", 0, 17, "anatomy")``; order counts.
    """
    return np.random.default_rng(seed_of("phantom", *parts))


def around(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A normal draw cut at two standard deviations, for lengths that must stay anatomical."""
    return mean + spread * min(2.0, max(-2.0, float(rng.standard_normal())))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform draw as a Python float."""
    return low + (high - low) * float(rng.random())


def happens(rng: np.random.Generator, probability: float) -> bool:
    """A coin with the given probability; always costs exactly one draw."""
    return bool(rng.random() < probability)


def pick(rng: np.random.Generator, items: tuple[Item, ...]) -> Item:
    """One of a non-empty tuple, each as likely."""
    return items[int(rng.integers(len(items)))]


def weighted(rng: np.random.Generator, items: tuple[tuple[Item, float], ...]) -> Item:
    """One of ``(item, weight)`` pairs; the weights need not sum to one."""
    mark = float(rng.random()) * sum(weight for _, weight in items)
    for item, weight in items:
        mark -= weight
        if mark < 0.0:
            return item
    return items[-1][0]
