"""What to try next: one seeded Optuna study per unit, then one reading of test.

Every encoder gets the same number of trials, and the same first ones: a study's seed is the
protocol's and the task's. No Ray here: a grid asks for the next step, runs it wherever it likes,
and tells how it went.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from radsweep.probes.base import Choice, Range

TRIES = 2
"""Of a step: a machine may be lost once."""


@final
@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to run."""

    unit: int
    choice: Choice
    is_final: bool
    """Read test with this choice, instead of judging it on val."""
    is_retry: bool = False
    """It failed before, or its process died: what shares a process with it may die too."""


@dataclass
class _Progress:
    """Where one unit stands."""

    space: Mapping[str, Range]
    trials: int
    seed: int
    study: optuna.Study | None = None
    """From its first step to its last: those of thousands of units are hundreds of megabytes."""
    begun: int = 0
    finished: int = 0
    tries: int = 0
    again: Step | None = None
    asked: optuna.trial.Trial | None = None
    scored: list[tuple[float, Choice]] = field(default_factory=list)


@final
class Schedule:
    """Hands out steps, unit by unit in their order, and learns from what comes back."""

    def __init__(
        self, spaces: Sequence[Mapping[str, Range]], trials: int, seeds: Sequence[int]
    ) -> None:
        """Begins with nothing done.

        Args:
            spaces: of each unit's probe; empty where there is nothing to search.
            trials: settings that each unit with a space may try.
            seeds: of each unit's study.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._units = [
            _Progress(space=space, trials=_trials(space, trials), seed=seed)
            for space, seed in zip(spaces, seeds, strict=True)
        ]
        self._free = list(range(len(self._units)))
        """A heap of the units that wait for nothing, so that none is looked for among all."""
        self._left = len(self._units)
        self.done = 0
        """Steps that ended; a unit that failed has none left."""
        self.failures: dict[int, str] = {}
        """Unit -> why it has no scores."""
        self.total = sum(unit.trials + 1 for unit in self._units)
        """Steps of all units."""

    @property
    def is_done(self) -> bool:
        """Whether every unit ended, one way or the other."""
        return self._left == 0

    @property
    def ready(self) -> int:
        """Steps that ``next`` would give before one of them ends: one a unit at most."""
        return len(self._free)

    def next(self) -> Step | None:
        """The next step, or None while all that is left waits for a step that is running."""
        if not self._free:
            return None
        number = heapq.heappop(self._free)
        unit = self._units[number]
        return unit.again or self._fresh(number, unit)

    def _fresh(self, number: int, unit: _Progress) -> Step:
        if unit.begun < unit.trials:
            unit.begun += 1
            unit.study = unit.study or _study(unit.space, unit.seed)
            unit.asked = unit.study.ask({name: _scale(r) for name, r in unit.space.items()})
            return Step(unit=number, choice=dict(unit.asked.params), is_final=False)
        return Step(unit=number, choice=_best(unit), is_final=True)

    def put_back(self, step: Step) -> None:
        """A step that ``next`` gave is not run after all: it is the first that is given again."""
        self._units[step.unit].again = step
        heapq.heappush(self._free, step.unit)

    def tell(self, step: Step, score: float | None, error: str | None) -> None:
        """How a step went.

        Args:
            step: as handed out.
            score: on val, for a step of the search.
            error: why it failed, else None; the first failure of a step is tried again.
        """
        unit = self._units[step.unit]
        if error is not None and unit.tries + 1 < TRIES:
            unit.tries += 1
            self.put_back(replace(step, is_retry=True))
            return
        unit.tries, unit.again = 0, None
        if error is not None or step.is_final:
            self._end(step.unit, error)
            return
        self._learn(step, unit, score)
        if unit.begun == unit.trials and not unit.scored:
            self._end(step.unit, "no setting of the search gave a finite score on val")
            return
        unit.finished += 1
        self.done += 1
        heapq.heappush(self._free, step.unit)

    def _learn(self, step: Step, unit: _Progress, score: float | None) -> None:
        assert score is not None and unit.asked is not None and unit.study is not None
        if math.isfinite(score):
            unit.study.tell(unit.asked, score)
            unit.scored.append((score, step.choice))
        else:
            # A learning rate may be too high for one encoder: that is an answer, not a fault.
            unit.study.tell(unit.asked, state=optuna.trial.TrialState.FAIL)

    def give_up(self, unit: int, reason: str) -> None:
        """End a unit before its first step."""
        self._free.remove(unit)
        heapq.heapify(self._free)
        self._end(unit, reason)

    def _end(self, number: int, reason: str | None) -> None:
        unit = self._units[number]
        unit.study = unit.asked = None
        self._left -= 1
        self.done += unit.trials + 1 - unit.finished
        if reason is not None:
            self.failures[number] = reason


def _trials(space: Mapping[str, Range], trials: int) -> int:
    # With one trial there is nothing to choose from: the default goes straight to test.
    return trials if space and trials > 1 else 0


def _scale(r: Range) -> FloatDistribution | IntDistribution:
    if r.is_whole:
        return IntDistribution(int(r.low), int(r.high), log=True)
    return FloatDistribution(r.low, r.high, log=True)


def _study(space: Mapping[str, Range], seed: int) -> optuna.Study:
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({name: each.first for name, each in space.items()})
    return study


def _best(unit: _Progress) -> Choice:
    """The earliest choice with the best score; the defaults where nothing was searched."""
    if not unit.scored:
        return {name: each.first for name, each in unit.space.items()}
    return max(unit.scored, key=lambda pair: pair[0])[1]
