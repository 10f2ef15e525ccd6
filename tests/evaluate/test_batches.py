from collections.abc import Callable

import pytest

from radsweep.evaluate.batches import BATCH_SECONDS, LEAST_SECONDS, Batches, Outcome
from radsweep.evaluate.search import Schedule, Step
from radsweep.probes.base import Range

RATE = {"learning_rate": Range(low=1e-4, high=1e-1, first=1e-2)}


def _went(seconds: float, error: str | None = None) -> Outcome:
    return Outcome(score=0.5, error=error, seconds=seconds)


def _run(
    batches: Batches, seconds: Callable[[Step], float], places: int
) -> tuple[list[tuple[Step, ...]], list[float]]:
    """Every batch in the order in which it began, and the clock of each place at the end."""
    clock, running, begun = [0.0] * places, dict[int, tuple[Step, ...]](), []
    while not batches.schedule.is_done:
        for place in range(places):
            if place not in running and (batch := batches.next()):
                running[place] = batch
                begun.append(batch)
                clock[place] += sum(seconds(step) for step in batch)
        place = min(running, key=clock.__getitem__)
        batch = running.pop(place)
        batches.tell(batch, [_went(seconds(step)) for step in batch])
    return begun, clock


def test_short_steps_go_together_long_ones_alone_and_each_once() -> None:
    kinds = ["short", "long"] * 100
    batches = Batches(Schedule([{}] * 200, 1, range(200)), kinds, places=2)
    begun, _ = _run(batches, lambda step: 20.0 if step.unit % 2 else 0.1, places=2)
    assert sorted(step.unit for batch in begun for step in batch) == list(range(200))
    assert all(len(batch) == 1 for batch in begun if batch[0].unit % 2)
    assert all(sum(0.1 for _ in batch) <= BATCH_SECONDS + 0.1 for batch in begun)


def test_two_hundred_short_steps_are_a_score_of_trials_and_places_end_together() -> None:
    schedule = Schedule([{}] * 200, 1, range(200))
    begun, clock = _run(Batches(schedule, ["linear"] * 200, 4), lambda step: 0.14, places=4)
    assert len(begun) < 30
    assert max(clock) - min(clock) <= LEAST_SECONDS + 0.14
    assert len(begun[0]) == 1 < len(begun[5])


def test_a_search_goes_on_as_without_batches_since_a_unit_has_one_step_in_a_batch() -> None:
    schedule = Schedule([RATE] * 6, 3, [1] * 6)
    begun, _ = _run(Batches(schedule, ["segment"] * 6, 1), lambda step: 0.01, places=1)
    for batch in begun:
        assert len({step.unit for step in batch}) == len(batch)
    for unit in range(6):
        steps = [step for batch in begun for step in batch if step.unit == unit]
        assert [step.is_final for step in steps] == [False, False, False, True]
    assert schedule.failures == {}


def test_after_a_process_died_its_steps_go_on_one_by_one_and_only_the_culprit_is_reported() -> None:
    batches = Batches(Schedule([{}] * 40, 1, range(40)), ["linear"] * 40, places=1)
    deaths = []
    while not batches.schedule.is_done:
        batch = batches.next()
        if any(step.unit == 7 for step in batch):
            deaths.append(len(batch))
            outcomes = [Outcome(score=None, error="its process died", seconds=None)] * len(batch)
        else:
            outcomes = [_went(0.1)] * len(batch)
        batches.tell(batch, outcomes)
    assert batches.schedule.failures == {7: "its process died"}
    assert deaths[0] > 1 and deaths[1:] == [1]


@pytest.mark.parametrize("seconds", [0.1, 100.0])
def test_nothing_is_ready_while_all_that_is_left_runs(seconds: float) -> None:
    batches = Batches(Schedule([{}], 1, [0]), ["linear"], places=2)
    batch = batches.next()
    assert batches.next() == ()
    batches.tell(batch, [_went(seconds)])
    assert batches.schedule.is_done and batches.next() == ()
