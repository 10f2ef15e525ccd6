"""How many CPUs a stream may hold: as many as keep up with the trainer, by measurement. No Ray."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

WINDOW_SECONDS = 20.0
WINDOW_STEPS = 32
"""A window has so many seconds and batches at least; batches come in bursts, task by task."""

LONG_WAIT = 0.02
"""Share of a window that the trainer may wait for batches."""

HEADROOM = 1.25
"""CPUs for those that would just keep up: between two tasks a place stands empty for a moment."""

MANY_FEWER = 0.75
"""CPUs are given back where this share of them would do, headroom and all."""


@final
@dataclass(frozen=True, kw_only=True)
class Window:
    """What some consecutive batches took."""

    made_seconds: float
    """Of tasks, to make them."""
    away_seconds: float
    """Of the trainer, with them."""
    waited_seconds: float
    """Of the trainer, for them."""

    def __add__(self, other: "Window") -> "Window":
        return Window(
            made_seconds=self.made_seconds + other.made_seconds,
            away_seconds=self.away_seconds + other.away_seconds,
            waited_seconds=self.waited_seconds + other.waited_seconds,
        )


NOTHING = Window(made_seconds=0.0, away_seconds=0.0, waited_seconds=0.0)


@final
@dataclass(kw_only=True)
class Pool:
    """The CPUs of one rank's stream: ``least`` at first, up to ``most`` where batches come late."""

    least: float
    most: float
    cpus: float = field(init=False)
    """Now."""
    _seen: Window = field(init=False, default=NOTHING)
    _steps: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.cpus = self.least

    @property
    def task_cpus(self) -> float:
        """Of each task: one, or less where there is less."""
        return min(1.0, self.least)

    def add(self, batch: Window, room: Callable[[], float]) -> None:
        """One more batch; at the end of a window the pool may change.

        Args:
            batch: what it took.
            room: tells how many CPUs the cluster has left or may get; negative where others wait
                for some, who then get all beyond the least.
        """
        self._seen, self._steps = self._seen + batch, self._steps + 1
        lasted = self._seen.away_seconds + self._seen.waited_seconds
        if self._steps >= WINDOW_STEPS and lasted >= WINDOW_SECONDS:
            self.cpus = self.after(self._seen, room)
            self._seen, self._steps = NOTHING, 0

    def after(self, window: Window, room: Callable[[], float]) -> float:
        """CPUs for the next window.

        A task holds its CPU while it makes batches, and the trainer takes them one after the other:
        so seconds of making for each second of training are the tasks that just keep up.
        """
        if self.least == self.most:
            return self.cpus
        left = room()
        if left < 0:
            return self.least
        lasted = window.away_seconds + window.waited_seconds
        waits = window.waited_seconds > LONG_WAIT * lasted
        tasks = HEADROOM * window.made_seconds / max(window.away_seconds, 1e-9)
        wanted = min(self.most, max(self.least, math.ceil(tasks) * self.task_cpus))
        if waits and wanted > self.cpus:
            more = min(wanted - self.cpus, left)
            return self.cpus + math.floor(more / self.task_cpus + 1e-9) * self.task_cpus
        if not waits and wanted <= MANY_FEWER * self.cpus:
            return wanted
        return self.cpus
