"""The simulator against what can be worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from radsweep.errors import SpecError
from radsweep.sweep.plan import Machine
from radsweep.sweep.simulate import Fleet, Job, simulate

MACHINE = Machine(name="toy", devices=4, tflops=1.0, utilisation=0.5, usd_per_hour=8.0)
HOUR_FLOPS = 0.5e12 * 3600
FLEET = Fleet(
    machine=MACHINE,
    groups=2,
    machines_per_group=1,
    start_s=0.0,
    cell_start_s=0.0,
    losses_per_hour=0.0,
    notice_s=0.0,
    checkpoint_interval_s=600.0,
    write_bytes_per_s=1e9,
)
JOB = Job(flops=4 * HOUR_FLOPS, images_seen=1_000_000, checkpoint_bytes=0)
"""One hour of one group."""


def fleet(**changes: object) -> Fleet:
    return dataclasses.replace(FLEET, **changes)  # type: ignore[arg-type]


def job(**changes: object) -> Job:
    return dataclasses.replace(JOB, **changes)  # type: ignore[arg-type]


def test_without_losses_and_overhead_time_and_cost_are_exact() -> None:
    seen = simulate((JOB,) * 3, FLEET, seed=0)
    # Two groups: the third cell waits for one of them.
    assert seen.wall_hours == pytest.approx(2.0)
    assert seen.device_hours == seen.useful_hours == pytest.approx(12.0)
    assert seen.usd == pytest.approx(3 * 8.0)
    assert (seen.losses, seen.lost_hours) == (0, 0.0)
    assert seen.overhead_hours == pytest.approx(0.0)


def test_machines_start_once_and_cells_each_time_and_every_save_takes_its_time() -> None:
    slow = fleet(groups=1, start_s=300.0, cell_start_s=30.0)
    # An hour has five saves within it, of ten seconds each; at its end is the encoder.
    seen = simulate((job(checkpoint_bytes=10_000_000_000),) * 2, slow, seed=0)
    assert seen.wall_hours * 3600 == pytest.approx(300 + 2 * (30 + 3600 + 5 * 10))
    assert seen.overhead_hours * 3600 / 4 == pytest.approx(300 + 2 * (30 + 50))


def test_groups_that_no_cell_needs_are_not_paid_for() -> None:
    few, many = (simulate((JOB,), fleet(groups=n), seed=0) for n in (1, 64))
    assert few.usd == many.usd == pytest.approx(8.0)


def test_a_wider_group_is_faster_by_its_width_less_its_communication() -> None:
    wide = fleet(machines_per_group=4, slowdown_per_doubling=0.02)
    # Sixteen devices are four doublings.
    expected = 1.0 / 4 / 0.98**4 * 0.98**2
    narrow = simulate((JOB,), fleet(slowdown_per_doubling=0.02), seed=0)
    assert simulate((JOB,), wide, seed=0).wall_hours / narrow.wall_hours == pytest.approx(expected)


def test_a_stream_that_is_too_slow_sets_the_time() -> None:
    # Two groups share 200 images a second.
    starved = fleet(images_per_s_limit=200.0)
    seen = simulate((JOB,), starved, seed=0)
    assert seen.wall_hours * 3600 == pytest.approx(1_000_000 / 100)


@pytest.mark.parametrize("losses_per_hour", [0.5, 3.0])
def test_waste_of_plain_kills_is_youngs_and_dalys(losses_per_hour: float) -> None:
    lossy = fleet(groups=1, losses_per_hour=losses_per_hour, checkpoint_interval_s=900.0)
    times = np.array([simulate((JOB,) * 20, lossy, seed=seed).wall_hours for seed in range(100)])
    rate = losses_per_hour
    expected = 20 * 4 * (math.exp(rate * 0.25) - 1) / rate
    # Four standard errors: one failure in 16,000 draws of all seeds, and the seeds are fixed.
    assert abs(times.mean() - expected) < 4 * times.std() / 10
    assert times.std() > 0


def test_what_is_paid_is_useful_lost_or_overhead_and_nothing_else() -> None:
    lossy = fleet(losses_per_hour=2.0, start_s=200.0, cell_start_s=20.0, write_bytes_per_s=1e8)
    seen = simulate((job(checkpoint_bytes=1_000_000_000),) * 10, lossy, seed=5)
    assert seen.losses > 5 and seen.lost_hours > 0
    assert seen.useful_hours == pytest.approx(40.0)
    parts = seen.useful_hours + seen.lost_hours + seen.overhead_hours
    assert parts == pytest.approx(seen.device_hours)
    assert seen.efficiency < 1


def test_a_notice_that_a_checkpoint_fits_in_saves_the_work() -> None:
    killed = fleet(losses_per_hour=2.0, checkpoint_interval_s=1800.0)
    told = dataclasses.replace(killed, notice_s=120.0)
    jobs = (job(checkpoint_bytes=10_000_000_000),) * 20
    lost = simulate(jobs, killed, seed=1).lost_hours
    assert lost > 5
    assert simulate(jobs, told, seed=1).lost_hours == 0
    # A checkpoint that takes three minutes does not fit in two.
    slow = dataclasses.replace(told, write_bytes_per_s=10_000_000_000 / 180)
    assert simulate(jobs, slow, seed=1).lost_hours > 1


def test_a_loss_at_a_known_time_costs_a_start_and_what_was_trained_since_the_checkpoint() -> None:
    slow = fleet(groups=1, start_s=300.0, cell_start_s=30.0)
    # Of the second cell: a checkpoint after 600 s, lost 200 s later, and nobody gave notice.
    seen = simulate((JOB,) * 3, slow, seed=0, known_s=(math.inf, 30.0 + 800.0))
    assert seen.wall_hours * 3600 == pytest.approx(300 + 3 * 3630 + 300 + 30 + 200)
    assert (seen.losses, seen.lost_hours * 3600 / 4) == (1, pytest.approx(200.0))


def test_the_same_seed_is_the_same_week_and_another_is_not() -> None:
    lossy = fleet(losses_per_hour=1.0)
    first, again, other = (simulate((JOB,) * 5, lossy, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_fleet_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="groups is 0"):
        fleet(groups=0)
