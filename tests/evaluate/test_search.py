import math
from dataclasses import replace

import pytest

from radsweep.evaluate.search import Schedule, Step
from radsweep.probes.base import Range

RATE = {"learning_rate": Range(low=1e-4, high=1e-1, first=1e-2)}


def _run(schedule: Schedule, score: dict[int, object] | None = None) -> list[Step]:
    """Every step, one after the other; the score of a choice is best at 3e-3."""
    steps = []
    while (step := schedule.next()) is not None:
        steps.append(step)
        distance = abs(math.log(step.choice.get("learning_rate", 1.0) / 3e-3))
        schedule.tell(step, None if step.is_final else -distance, None)
    return steps


def test_every_unit_gets_the_same_trials_and_then_reads_test_once() -> None:
    schedule = Schedule([RATE, RATE, {}], trials=4, seeds=[1, 1, 2])
    steps = _run(schedule)
    assert [step.is_final for step in steps if step.unit == 0] == [False] * 4 + [True]
    assert [step.is_final for step in steps if step.unit == 2] == [True]
    # Scores that agree lead the search the same way: the study's seed is not the encoder's.
    assert [s.choice for s in steps if s.unit == 0] == [s.choice for s in steps if s.unit == 1]
    assert schedule.is_done and schedule.done == schedule.total == 11


def test_the_default_is_tried_first_and_the_best_on_val_reads_test() -> None:
    steps = _run(Schedule([RATE], trials=5, seeds=[3]))
    assert steps[0].choice == {"learning_rate": pytest.approx(1e-2)}
    searched = [step.choice["learning_rate"] for step in steps[:-1]]
    best = min(searched, key=lambda rate: abs(math.log(rate / 3e-3)))
    assert steps[-1].choice == {"learning_rate": best}
    assert all(1e-4 <= rate <= 1e-1 for rate in searched)


def test_a_search_of_one_trial_goes_straight_to_test_with_the_default() -> None:
    steps = _run(Schedule([RATE], trials=1, seeds=[3]))
    assert steps == [Step(unit=0, choice={"learning_rate": 1e-2}, is_final=True)]


def test_one_trial_of_a_unit_runs_at_a_time_and_other_units_go_on() -> None:
    schedule = Schedule([RATE, RATE], trials=2, seeds=[1, 2])
    first, second = schedule.next(), schedule.next()
    assert first is not None and second is not None
    assert (first.unit, second.unit) == (0, 1)
    assert schedule.next() is None and not schedule.is_done
    schedule.tell(first, -1.0, None)
    third = schedule.next()
    assert third is not None and third.unit == 0


def test_a_step_is_tried_again_once_and_then_only_its_unit_fails() -> None:
    schedule = Schedule([{}, {}], trials=1, seeds=[1, 2])
    first = schedule.next()
    assert first is not None
    schedule.tell(first, None, "out of memory")
    again = schedule.next()
    assert again == replace(first, is_retry=True)
    schedule.tell(first, None, "out of memory")
    assert schedule.failures == {0: "out of memory"}
    rest = _run(schedule)
    assert [step.unit for step in rest] == [1]
    assert schedule.is_done and schedule.done == schedule.total


def test_a_setting_that_diverges_is_an_answer_and_only_all_of_them_are_a_failure() -> None:
    schedule = Schedule([RATE, RATE], trials=2, seeds=[1, 1])
    while (step := schedule.next()) is not None:
        diverges = step.unit == 1 or step.choice["learning_rate"] == pytest.approx(1e-2)
        schedule.tell(step, None if step.is_final else math.nan if diverges else 0.5, None)
    assert set(schedule.failures) == {1}
    assert "finite" in schedule.failures[1]


def test_a_step_that_is_put_back_is_the_first_to_be_given_again_and_no_more_are_made() -> None:
    schedule = Schedule([RATE, {}], trials=2, seeds=[1, 2])
    first = schedule.next()
    assert first is not None and schedule.ready == 1
    schedule.put_back(first)
    assert schedule.ready == 2
    steps = _run(schedule)
    assert steps[0] == first
    assert [step.unit for step in steps] == [0, 0, 0, 1]


def test_a_number_more_is_searched_beside_the_rate_and_whole_ones_stay_whole() -> None:
    space = RATE | {"lora_rank": Range(low=2, high=64, first=16, is_whole=True)}
    choices = [step.choice for step in _run(Schedule([space], trials=8, seeds=[3]))[:-1]]
    assert choices[0] == {"learning_rate": pytest.approx(1e-2), "lora_rank": 16}
    ranks = [choice["lora_rank"] for choice in choices]
    assert all(isinstance(rank, int) and 2 <= rank <= 64 for rank in ranks)
    assert len(set(ranks)) > 3
