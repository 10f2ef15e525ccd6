"""A sweep of 15 encoders on 1 to 512 GPUs and 3.5M to 1B images, on paper.

``python benchmarks/growth.py`` prints tables by ``radsweep.sweep.simulate``: more GPUs for one
corpus, more images on a fixed number of GPUs, and as many images for each GPU however many there
are. Every figure that is put in is a flag, so that yours can be: none of the defaults was measured
on a cluster.
"""

import argparse
import dataclasses
import math
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from radsweep.sweep.plan import read_machine
from radsweep.sweep.simulate import Fleet, Job, Outlook, simulate

CELLS = 15
GPUS = (1, 8, 32, 64, 128, 256, 512)
IMAGES = (3_500_000, 10_000_000, 100_000_000, 1_000_000_000)
PER_GPU = IMAGES[0] // 8
"""Images for each GPU of weak scaling: the study's corpus for one machine."""
FEWEST_LOSSES_PER_HOUR = -math.log(0.95) / 720
"""Of one machine: the lowest band of AWS's Spot Instance Advisor, 5% interrupted within a month."""
WEEKS = 20
"""Simulated runs behind each figure."""


@dataclass(frozen=True)
class Mean:
    """Of several weeks."""

    hours: float
    usd: float
    efficiency: float
    lost: float
    """Share of the device-hours that was trained twice."""
    losses: float


def options() -> argparse.Namespace:
    """All that is put in."""
    parser = argparse.ArgumentParser(description=__doc__)
    number = {"type": float}
    parser.add_argument("--machine", default="aws-p5-8xH100", help="a machine of the price table")
    parser.add_argument(
        "--flops-per-image",
        default=6 * 17.6e9,
        help="ViT-B/16 at 224 px: 17.6e9 multiply-adds forward, twice that backward",
        **number,
    )
    parser.add_argument("--passes", default=3.0, help="epochs of the whole corpus", **number)
    parser.add_argument(
        "--checkpoint-bytes", default=1.4e9, help="86M weights: model, two moments", **number
    )
    parser.add_argument("--checkpoint-minutes", default=10.0, **number)
    parser.add_argument("--write-bytes-per-s", default=2e8, **number)
    parser.add_argument(
        "--losses-per-hour", default=0.05, help="of one spot machine; put yours in", **number
    )
    parser.add_argument("--notice-s", default=120.0, help="0: no watcher", **number)
    parser.add_argument("--start-s", help="none: by the price table", **number)
    parser.add_argument("--cell-start-s", default=40.0, **number)
    parser.add_argument("--slowdown-per-doubling", default=0.01, **number)
    parser.add_argument(
        "--stream-images-per-s", default=1800.0, help="decoded beside each GPU", **number
    )
    parser.add_argument(
        "--store-images-per-s",
        default=5500.0,
        help="GETs a second of one S3 prefix (S3 user guide), one image each; 0: local copies",
        **number,
    )
    return parser.parse_args()


def fleet_of(gpus: int, given: argparse.Namespace) -> Fleet:
    """As many cells side by side as there are machines, then wider cells."""
    machine = read_machine(given.machine, None)
    if gpus < machine.devices:
        price = machine.usd_per_hour * gpus / machine.devices
        machine = dataclasses.replace(machine, devices=gpus, usd_per_hour=price)
    machines = gpus // machine.devices
    groups = min(CELLS, machines)
    width = machines // groups
    limit = groups * width * machine.devices * given.stream_images_per_s
    if given.store_images_per_s:
        limit = min(limit, given.store_images_per_s)
    return Fleet(
        machine=machine,
        groups=groups,
        machines_per_group=width,
        start_s=machine.start_s if given.start_s is None else given.start_s,
        cell_start_s=given.cell_start_s,
        losses_per_hour=given.losses_per_hour,
        notice_s=given.notice_s,
        checkpoint_interval_s=60 * given.checkpoint_minutes,
        write_bytes_per_s=given.write_bytes_per_s,
        images_per_s_limit=limit,
        slowdown_per_doubling=given.slowdown_per_doubling,
    )


def simulated(fleet: Fleet, images: int, given: argparse.Namespace) -> Mean:
    """The mean of several weeks."""
    seen = int(images * given.passes)
    job = Job(
        flops=given.flops_per_image * seen,
        images_seen=seen,
        checkpoint_bytes=int(given.checkpoint_bytes),
    )
    weeks: list[Outlook] = [simulate((job,) * CELLS, fleet, seed) for seed in range(WEEKS)]
    # Waiting for images is paid for and is no use: what counts is what the multiplying takes.
    computing = fleet.machine.device_hours(job.flops) * CELLS
    paid = sum(week.device_hours for week in weeks) / WEEKS
    return Mean(
        hours=sum(week.wall_hours for week in weeks) / WEEKS,
        usd=sum(week.usd for week in weeks) / WEEKS,
        efficiency=computing / paid,
        lost=sum(week.lost_hours for week in weeks) / WEEKS / paid,
        losses=sum(week.losses for week in weeks) / WEEKS,
    )


def add(table: Table, name: str, fleet: Fleet, mean: Mean) -> None:
    """One row."""
    width = fleet.machines_per_group * fleet.machine.devices
    table.add_row(
        name,
        f"{fleet.groups} x {width}",
        f"{mean.hours:,.1f}",
        f"{mean.usd:,.0f}",
        f"{mean.efficiency:.0%}",
        f"{mean.lost:.2%}",
        f"{mean.losses:.1f}",
    )


def new_table(title: str, first: str) -> Table:
    """With the columns of both."""
    table = Table(title=title, caption="computing: share of what is paid that multiplies")
    for name in (first, "cells x GPUs", "hours", "USD", "computing", "done twice", "losses"):
        table.add_column(name, justify="right")
    return table


def weak_scaling(given: argparse.Namespace) -> Table:
    """Images, and so the budget of each cell, grow with the GPUs, from one machine on."""
    table = Table(
        title=f"weak scaling: {PER_GPU:,} images for each GPU, from local disks",
        caption="kept: of one machine's speed, by the clock and for what is paid",
    )
    columns = ("GPUs", "images", "cells x GPUs", "hours", "kept: clock", "paid", "done twice")
    for name in columns:
        table.add_column(name, justify="right")
    first: Mean | None = None
    for gpus in GPUS[1:]:
        fleet, images = fleet_of(gpus, given), PER_GPU * gpus
        mean = simulated(fleet, images, given)
        first = first or mean
        table.add_row(
            str(gpus),
            f"{images / 1e6:,.1f}M",
            f"{fleet.groups} x {fleet.machines_per_group * fleet.machine.devices}",
            f"{mean.hours:,.1f}",
            f"{first.hours / mean.hours:.0%}",
            f"{mean.efficiency / first.efficiency:.0%}",
            f"{mean.lost:.2%}",
        )
    return table


def losses(given: argparse.Namespace) -> Table:
    """What spot losses cost, at published rates and at the one that is assumed."""
    table = Table(
        title="spot losses: device-hours trained twice, as many images for each GPU as above",
        caption="no notice: nobody reads it, as without --watch-spot",
    )
    for name in ("lost", "GPUs", "losses", f"{given.notice_s:g} s notice", "no notice"):
        table.add_column(name, justify="right")
    rates = {
        "5% a month": FEWEST_LOSSES_PER_HOUR,
        "by the price table": read_machine(given.machine, None).spot_losses_per_hour,
        f"{given.losses_per_hour:g} an hour": given.losses_per_hour,
    }
    for name, rate in rates.items():
        for gpus in (64, 512):
            fleet = dataclasses.replace(fleet_of(gpus, given), losses_per_hour=rate)
            means = [
                simulated(dataclasses.replace(fleet, notice_s=notice_s), PER_GPU * gpus, given)
                for notice_s in (given.notice_s, 0.0)
            ]
            shares = [f"{mean.lost:.2%}" for mean in means]
            table.add_row(name, str(gpus), f"{means[1].losses:.1f}", *shares)
    return table


def main() -> None:
    """Print the tables, first with images from the store, then from copies on the nodes."""
    given = options()
    console = Console(width=110)
    console.print(
        f"{CELLS} cells, {given.passes:g} passes over the corpus each, {given.flops_per_image:.3g} "
        f"FLOPs per image, {given.machine}; a spot machine is lost {given.losses_per_hour:g} times "
        f"an hour with {given.notice_s:g} s notice, a checkpoint every "
        f"{given.checkpoint_minutes:g} min",
    )
    for said, limit in (("from one prefix", given.store_images_per_s), ("from local disks", 0.0)):
        given.store_images_per_s = limit
        growing = new_table(f"3.5M images {said}, more GPUs", "GPUs")
        for gpus in GPUS:
            fleet = fleet_of(gpus, given)
            add(growing, str(gpus), fleet, simulated(fleet, IMAGES[0], given))
        console.print(growing)
        larger = new_table(f"64 GPUs, more images, {said}", "images")
        for images in IMAGES:
            fleet = fleet_of(64, given)
            add(larger, f"{images / 1e6:,.1f}M", fleet, simulated(fleet, images, given))
        console.print(larger)
    console.print(weak_scaling(given))
    console.print(losses(given))


if __name__ == "__main__":
    main()
