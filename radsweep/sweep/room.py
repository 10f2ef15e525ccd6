"""Whether what starts together can also finish together, on what a cluster has and may grow to.

A trainer that holds the last CPU waits for a stream that can never start (Ray issue 44687), and for
a GPU that nobody has Ray waits as for one that is late: for ever, and without a word.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radsweep.errors import SpecError
from radsweep.pretrain.nodes import times
from radsweep.pretrain.place import Workers

Resources = Mapping[str, float]
"""``CPU`` and ``GPU``; what is absent is 0."""


def cells_room(workers: Workers, at_once: int, now: Resources, most: Resources) -> tuple[bool, str]:
    """Whether all cells that start together fit, and what they take of what there is.

    Args:
        workers: what each cell gets.
        at_once: cells side by side.
        now: of the cluster.
        most: what its autoscaler may bring it to; empty where it has none.
    """
    per_cell = workers.count * (workers.cpus + workers.stream_cpus)
    wanted = {"CPU": at_once * per_cell, "GPU": at_once * workers.count * workers.gpus}
    width = f"{workers.count}" if workers.most is None else f"{workers.count} to {workers.most}"
    said = (
        f"{at_once} cells x {width} processes take {wanted['CPU']:g} CPUs and "
        f"{wanted['GPU']:g} GPUs{' at least' if workers.most else ''}; the cluster has "
        f"{now.get('CPU', 0.0):g} and {now.get('GPU', 0.0):g} now"
    )
    if most:
        said += f", and may grow to {most.get('CPU', 0.0):g} and {most.get('GPU', 0.0):g}"
    there = {name: max(now.get(name, 0.0), most.get(name, 0.0)) for name in wanted}
    if any(wanted[name] > there[name] + 1e-6 for name in wanted):
        return False, (
            f"{said}: lower --at-once, --workers, --gpus, --cpus or --stream-cpus, or take a "
            "larger cluster (max_workers, where it has an autoscaler)"
        )
    return True, said


def process_fault(
    what: str, wanted: Resources, options: str, nodes: Iterable[Mapping[str, Any]]
) -> str | None:
    """Why one process fits on no node; None where it fits on one.

    Args:
        what: it does, in a word.
        wanted: that it asks for.
        options: by which that is lowered.
        nodes: those that live, in Ray's own words.
    """
    for node in nodes:
        has: Resources = node["Resources"]
        if all(has.get(name, 0.0) >= amount for name, amount in wanted.items()):
            return None
    return (
        f"no node has the {wanted.get('CPU', 0.0):g} CPUs and {wanted.get('GPU', 0.0):g} GPUs that "
        f"one {what} process asks for: lower {options}, or start larger nodes"
    )


def check_room(
    training: Iterable[Workers],
    at_once: int,
    trial: Resources,
    nodes: Sequence[Mapping[str, Any]],
) -> None:
    """Raise SpecError for what would wait for ever on a cluster that does not grow.

    Less is refused than ``cells_room`` advises against: streams may take turns on one CPU, and a
    cell may wait for another's end.

    Args:
        training: what each cell that is to be trained gets.
        at_once: cells side by side.
        trial: what each one that is evaluated gets; empty where nothing is.
        nodes: all that it has, in Ray's own words.
    """
    cpus, gpus = (
        sum(node["Resources"].get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")
    )
    for workers, cells in Counter(training).items():
        hold, hold_gpus = workers.count * workers.cpus, workers.count * workers.gpus
        fit = min(at_once, cells, times(cpus, hold), times(gpus, hold_gpus))
        if fit == 0:
            raise SpecError(
                f"a cell's trainers (--workers {workers.count}) take {hold:g} CPUs and "
                f"{hold_gpus:g} GPUs, and there are {cpus:g} and {gpus:g}: "
                "lower --workers, --cpus or --gpus, or give the --address of a larger cluster"
            )
        if cpus - fit * hold + 1e-6 < min(1.0, workers.stream_cpus):
            raise SpecError(
                f"{fit} cells side by side hold {fit * hold:g} of {cpus:g} CPUs, which leaves less "
                f"than the {min(1.0, workers.stream_cpus):g} without which no stream starts: all "
                "would wait for ever. Lower --at-once, --workers, --cpus or --stream-cpus"
            )
    fault = process_fault("evaluating", trial, "--trial-cpus or --trial-gpus", nodes)
    if trial and fault is not None:
        raise SpecError(fault)
