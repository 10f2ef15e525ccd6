"""A sweep on paper: its wall time, cost and waste on machines that start slowly and get lost.

Discrete events on whole worker groups. A group is the machines that train one cell together: it
starts, reads what it needs, trains, keeps a checkpoint every so often, and is lost as a whole when
any one of its machines is, to start again from its last checkpoint elsewhere. Cells wait in the
sweep's order for the next free group; nothing else is shared. No torch, no Ray, no store.

With loss rate r of a group, an interval that takes t seconds (training and saving) takes
(exp(r t) - 1) / r seconds on average when every loss throws it away: the formula of Young 1974 and
Daly 2006 ("A higher order estimate of the optimum checkpoint interval"), which the tests hold the
simulator to.
"""

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from radsweep.errors import SpecError
from radsweep.sweep.plan import Machine

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One cell to be simulated."""

    flops: float
    """Training FLOPs, from the plan."""
    images_seen: int
    checkpoint_bytes: int
    """Everything that a resume needs."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Machines, and what they lose time with."""

    machine: Machine
    groups: int
    """Cells side by side."""
    machines_per_group: int
    start_s: float
    """From the request for a machine until Ray runs on it."""
    cell_start_s: float
    """Until a cell's first step: processes, weights, first batch."""
    losses_per_hour: float
    """Spot losses of ONE machine."""
    notice_s: float
    """Warning before a loss; a checkpoint that fits in it is kept. 0 is a plain kill."""
    checkpoint_interval_s: float
    """Of training between two checkpoints."""
    write_bytes_per_s: float
    """At which one process writes a checkpoint to the store."""
    images_per_s_limit: float = math.inf
    """What the stream and the store deliver to ALL groups together."""
    slowdown_per_doubling: float = 0.0
    """Share of speed lost to communication each time the devices of a group double."""

    def __post_init__(self) -> None:
        positive = {
            "groups": self.groups,
            "machines_per_group": self.machines_per_group,
            "checkpoint_interval_s": self.checkpoint_interval_s,
            "write_bytes_per_s": self.write_bytes_per_s,
            "images_per_s_limit": self.images_per_s_limit,
        }
        for name, value in positive.items():
            if not value > 0:
                raise SpecError(f"{name} is {value:g}; it must be more than 0")

    @property
    def devices(self) -> int:
        """In all."""
        return self.groups * self.machines_per_group * self.machine.devices

    def training_s(self, job: Job) -> float:
        """Of one cell on one group, if nothing is lost and nothing is saved."""
        width = self.machines_per_group * self.machine.devices
        speed = math.pow(1.0 - self.slowdown_per_doubling, math.log2(width))
        computing: float = self.machine.device_hours(job.flops) * HOUR_S / width / speed
        return max(computing, job.images_seen / (self.images_per_s_limit / self.groups))


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a simulated sweep took."""

    wall_hours: float
    device_hours: float
    """Paid for: idle starts, saving and lost work included."""
    useful_hours: float
    """Device-hours of steps that count."""
    lost_hours: float
    """Device-hours of steps that had to be done again."""
    overhead_hours: float
    """Device-hours of starting and saving."""
    losses: int
    usd: float

    @property
    def efficiency(self) -> float:
        """Useful share of what is paid for."""
        return self.useful_hours / self.device_hours


def simulate(
    jobs: tuple[Job, ...], fleet: Fleet, seed: int, known_s: tuple[float, ...] = ()
) -> Outlook:
    """One run of the cells, in order, on the fleet.

    Args:
        jobs: in the order in which they start.
        fleet: on what.
        seed: of the losses; another seed is another week.
        known_s: after how many seconds each of the first attempts at a cell is lost (infinity: not
            at all); those that follow are drawn.
    """
    lost_after = itertools.chain(known_s, _drawn(fleet, np.random.default_rng(seed)))
    # (when the group is free, number); machines of a group that never had a cell are not started.
    free = [(0.0, number) for number in range(fleet.groups)]
    tally = _Tally()
    for job in jobs:
        began, number = heapq.heappop(free)
        is_first = began == 0.0
        ended = _run(job, fleet, began, is_first, lost_after, tally)
        heapq.heappush(free, (ended, number))
    width = fleet.machines_per_group * fleet.machine.devices
    busy_hours = tally.busy_s * width / HOUR_S
    return Outlook(
        wall_hours=max((at for at, _ in free), default=0.0) / HOUR_S,
        device_hours=busy_hours,
        useful_hours=tally.useful_s * width / HOUR_S,
        lost_hours=tally.lost_s * width / HOUR_S,
        overhead_hours=(tally.busy_s - tally.useful_s - tally.lost_s) * width / HOUR_S,
        losses=tally.losses,
        usd=fleet.machine.usd(busy_hours),
    )


def _drawn(fleet: Fleet, generator: np.random.Generator) -> Iterator[float]:
    """Seconds until a group is lost, attempt for attempt; for ever where none is lost."""
    rate = fleet.losses_per_hour * fleet.machines_per_group / HOUR_S
    while True:
        yield generator.exponential(1 / rate) if rate > 0 else math.inf


@dataclass
class _Tally:
    busy_s: float = 0.0
    useful_s: float = 0.0
    lost_s: float = 0.0
    losses: int = 0


def _run(
    job: Job,
    fleet: Fleet,
    began: float,
    needs_machines: bool,
    lost_after: Iterator[float],
    tally: _Tally,
) -> float:
    """One cell from its first machine to its last step; gives when it ends, in seconds."""
    total, kept, now = fleet.training_s(job), 0.0, began
    save_s = job.checkpoint_bytes / fleet.write_bytes_per_s
    while True:
        starting = fleet.cell_start_s + (fleet.start_s if needs_machines else 0.0)
        left = next(lost_after)
        if left < starting:
            tally.losses += 1
            tally.busy_s += left
            now, needs_machines = now + left, True
            continue
        left -= starting
        done, used, lost = _attempt(total - kept, fleet, save_s, left)
        tally.busy_s += starting + used
        tally.useful_s += done
        tally.lost_s += lost
        kept, now = kept + done, now + starting + used
        if kept >= total * (1 - 1e-12):
            return now
        tally.losses += 1
        needs_machines = True


def _attempt(needed: float, fleet: Fleet, save_s: float, left: float) -> tuple[float, float, float]:
    """From the first step until the end, or the loss after ``left`` seconds.

    Returns seconds of training that are kept, seconds that passed, seconds of training lost.
    """
    interval = fleet.checkpoint_interval_s
    saves = max(0, math.ceil(needed / interval) - 1)
    whole = needed + saves * save_s
    if left >= whole:
        return needed, whole, 0.0
    period = interval + save_s
    periods = int(left // period)
    into = left - periods * period
    trained_since = min(into, interval)
    kept = periods * interval
    if fleet.notice_s > 0 and save_s <= fleet.notice_s:
        # At the notice the group stops and saves; what it trained until then is kept.
        noticed = max(0.0, left - fleet.notice_s)
        periods = int(noticed // period)
        kept = periods * interval + min(noticed - periods * period, interval)
        return kept, left, 0.0
    return kept, left, trained_since
