"""How many steps go into one trial of Ray Tune. No Ray here.

A trial costs Tune tens of milliseconds and its turn, whatever it does, and a linear probe takes no
longer than that. So steps that are known to be short go together, several seconds of them; longer
ones go alone, and so does whatever failed before.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

from radsweep.evaluate.search import Schedule, Step

BATCH_SECONDS = 5.0
"""Work of one trial, where steps are shorter: a hundred times what Tune takes for it."""
LEAST_SECONDS = 0.5
"""Of a batch at the end, where less would be mostly Tune's own time."""
ROUNDS = 2
"""Each place gets at least so many of the batches that what is left is cut into."""


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one step went."""

    score: float | None
    """On val, for a step of the search."""
    error: str | None
    """Why it failed, if it did."""
    seconds: float | None
    """That it took; None where nobody knows, as its process died."""


@final
class Batches:
    """Takes steps from a schedule by the batch and tells it how they went."""

    def __init__(self, schedule: Schedule, kinds: Sequence[Hashable], places: int) -> None:
        """Knows no step's time yet, so that the first of each kind goes alone.

        Args:
            schedule: what is to be done.
            kinds: of each of its units: what takes about the same time, such as a task and a probe.
            places: trials side by side.
        """
        self.schedule = schedule
        self._kinds, self._places = kinds, places
        self._seconds: dict[Hashable, float] = {}

    def next(self) -> tuple[Step, ...]:
        """Steps of different units, to be run one after the other; none while none is ready.

        Batches shrink as less is left (guided self-scheduling, Polychronopoulos and Kuck 1987), so
        that all places end within ``LEAST_SECONDS`` or one long step of each other.
        """
        most = max(1, math.ceil(self.schedule.ready / (ROUNDS * self._places)))
        batch: list[Step] = []
        seconds = 0.0
        while (len(batch) < most or seconds < LEAST_SECONDS) and seconds < BATCH_SECONDS:
            step = self.schedule.next()
            if step is None:
                break
            if batch and not self._is_short(step):
                self.schedule.put_back(step)
                break
            batch.append(step)
            seconds += self._expected(step)
        return tuple(batch)

    def _is_short(self, step: Step) -> bool:
        return not step.is_retry and self._expected(step) < BATCH_SECONDS

    def _expected(self, step: Step) -> float:
        """Seconds, as the last of its kind took; a batch's whole time where that is not known."""
        known = self._seconds.get(self._kind(step), BATCH_SECONDS)
        return BATCH_SECONDS if step.is_retry else known

    def _kind(self, step: Step) -> Hashable:
        return self._kinds[step.unit], step.is_final

    def tell(self, batch: Sequence[Step], outcomes: Sequence[Outcome]) -> None:
        """How the steps of a batch went, one by one."""
        for step, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is None and outcome.seconds is not None:
                self._seconds[self._kind(step)] = outcome.seconds
            self.schedule.tell(step, outcome.score, outcome.error)
