"""How many CPUs a stream holds, from what its batches took."""

import math
from dataclasses import replace

import pytest

from radsweep.corpus.pool import HEADROOM, LONG_WAIT, WINDOW_SECONDS, WINDOW_STEPS, Pool, Window

HOUR = 3600.0


def window(made: float, away: float, waited: float) -> Window:
    return Window(made_seconds=made, away_seconds=away, waited_seconds=waited)


def everywhere() -> float:
    return math.inf


def pool_of(least: float, most: float, cpus: float) -> Pool:
    pool = Pool(least=least, most=most)
    assert pool.cpus == least
    pool.cpus = cpus
    return pool


def test_a_trainer_that_waits_gets_the_cpus_that_keep_up_with_it() -> None:
    # Five seconds of making for each second of training, and a quarter more.
    assert pool_of(1, 32, 2).after(window(50, 10, 15), everywhere) == 7
    assert pool_of(1, 6, 2).after(window(50, 10, 15), everywhere) == 6
    # Tasks of half a CPU: as many of them.
    assert pool_of(0.5, 16, 1).after(window(50, 10, 15), everywhere) == 3.5


def test_no_more_is_taken_than_the_cluster_has_left() -> None:
    assert pool_of(1, 32, 2).after(window(50, 10, 15), lambda: 3.7) == 5
    assert pool_of(1, 32, 2).after(window(50, 10, 15), lambda: 0.0) == 2
    assert pool_of(0.5, 16, 1).after(window(50, 10, 15), lambda: 1.2) == 2


def test_all_beyond_the_least_is_given_back_where_others_wait() -> None:
    for seen in (window(50, 10, 15), window(50, 10, 0)):
        assert pool_of(2, 32, 20).after(seen, lambda: -1.0) == 2


def test_a_trainer_that_waits_for_another_reason_gets_no_more() -> None:
    # Nodes that are still to come, or a trainer that has just begun.
    assert pool_of(1, 32, 8).after(window(50, 10, 15), everywhere) == 8


def test_a_short_wait_changes_nothing_and_a_long_one_takes_nothing_away() -> None:
    short = window(50, 10, 0.9 * LONG_WAIT * 10)
    assert pool_of(1, 32, 6).after(short, everywhere) == 6
    assert pool_of(1, 32, 20).after(window(50, 10, 5), everywhere) == 20


def test_cpus_are_given_back_where_clearly_fewer_would_do_and_not_below_the_least() -> None:
    assert pool_of(1, 32, 20).after(window(50, 10, 0), everywhere) == 7
    assert pool_of(1, 32, 8).after(window(50, 10, 0), everywhere) == 8
    assert pool_of(4, 32, 20).after(window(5, 10, 0), everywhere) == 4


def test_a_pool_of_one_size_stays_so() -> None:
    for size in (0.3, 1, 2.5, 7):
        for seen in (window(50, 10, 15), window(1, 10, 0), window(1, 0, 1)):
            assert Pool(least=size, most=size).after(seen, everywhere) == size


@pytest.mark.parametrize("making", [0.4, 3.0, 11.0])
def test_it_settles_at_once_and_stays_while_the_trainers_pace_does(making: float) -> None:
    """A stream of so many CPUs, against a trainer of a second a step."""
    pool = Pool(least=1, most=64)
    sizes = []
    for _ in range(20):
        step = max(1.0, making / pool.cpus)
        pool.cpus = pool.after(window(making, 1.0, step - 1.0), everywhere)
        sizes.append(pool.cpus)
    assert set(sizes[1:]) == {max(1, math.ceil(HEADROOM * making))} if making > 1 else {1}


def test_a_pool_changes_at_the_end_of_a_window_by_all_of_it() -> None:
    pool = Pool(least=1, most=64)
    long = window(8.0, 1.0, 1.0)
    for _ in range(WINDOW_STEPS - 1):
        pool.add(replace(long, away_seconds=WINDOW_SECONDS), everywhere)
    assert pool.cpus == 1
    pool.add(replace(long, waited_seconds=HOUR, made_seconds=HOUR * 3), everywhere)
    assert pool.cpus == math.ceil(
        HEADROOM * (3 * HOUR + 31 * 8) / ((WINDOW_STEPS - 1) * WINDOW_SECONDS + 1)
    )
    # Many short batches: not before the window's seconds are over.
    pool = Pool(least=1, most=16)
    brief = window(0.1, 0.01, 0.01)
    for _ in range(math.ceil(WINDOW_SECONDS / 0.02) - 2):
        pool.add(brief, everywhere)
    assert pool.cpus == 1
    for _ in range(4):
        pool.add(brief, everywhere)
    assert pool.cpus == 13
