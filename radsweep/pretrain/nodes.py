"""Nodes that are about to go, and nodes that may come: where Ray's private API of nodes is used.

Checked with Ray 2.60, which pyproject.toml pins: ``GcsClient.drain_node`` is what the hidden
command ``ray drain-node`` calls, ``get_draining_nodes`` what Ray Train's own watcher polls,
``get_max_resources_from_cluster_config`` what Ray Data's autoscaling asks,
``available_resources_per_node`` what ``ray.available_resources`` adds up,
``get_cluster_resource_state`` what Ray's autoscaler asks, and Ray Data's two helpers are made as it
makes them itself.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.core.generated import autoscaler_pb2
from ray.data._internal.cluster_autoscaler import get_or_create_autoscaling_coordinator
from ray.data._internal.stats import get_or_create_stats_actor

from radsweep.errors import RadsweepError

ASK_SECONDS = 2.0
"""Least time between two questions to the head, which answers for the whole cluster."""


class DrainError(RadsweepError):
    """The cluster does not take notice that a node goes."""


def drain_node(gcs_address: str, node_id: str, seconds: float, why: str) -> None:
    """Let nothing new start on a node that is gone in ``seconds``; what runs there is told.

    Args:
        gcs_address: ``host:port`` of the head's control service.
        node_id: in hexadecimal.
        seconds: until the node is taken away.
        why: for Ray's log.

    Raises DrainError where the head does not take the request.
    """
    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
    deadline_ms = int((time.time() + seconds) * 1000)
    is_accepted, said = GcsClient(address=gcs_address).drain_node(node_id, reason, why, deadline_ms)
    if not is_accepted:
        raise DrainError(f"Ray does not drain node {node_id}: {said}; see `ray status`")


def keep_helpers_here() -> None:
    """Have Ray Data's two helpers on this node, unless they are on another already.

    Its coordinator of autoscaling and its statistics are actors that outlive the driver, on the
    node of whoever asks for them first, and a node with an actor is never idle: a stream would
    leave them on a machine with a GPU, which would be paid for until somebody notices.
    """
    get_or_create_autoscaling_coordinator()  # type: ignore[no-untyped-call]
    get_or_create_stats_actor()


def living_nodes() -> list[dict[str, Any]]:
    """The nodes that are there: ``NodeID``, ``Resources`` and more, in Ray's own words."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in found if node["Alive"]]


def is_draining(node_id: str) -> bool:
    """Whether the cluster was told that a node is about to go."""
    return node_id in cluster_state.get_draining_nodes()


def room_for(process: Mapping[str, float], anywhere_cpus: float) -> int:
    """How many processes more could start now on nodes that stay; grows stale as others start.

    Args:
        process: resources that one takes on its own node: ``CPU``, ``GPU``.
        anywhere_cpus: that each takes besides, on whatever node.
    """
    leaving = cluster_state.get_draining_nodes()
    found = cluster_state.available_resources_per_node()  # type: ignore[no-untyped-call]
    free = [has for node_id, has in found.items() if node_id not in leaving]
    on_nodes = sum(
        min(times(has.get(name, 0.0), need) for name, need in process.items()) for has in free
    )
    all_cpus = sum(has.get("CPU", 0.0) for has in free)
    return min(on_nodes, times(all_cpus, process["CPU"] + anywhere_cpus))


def times(has: float, need: float) -> int:
    """How often ``need`` goes into ``has``, both in Ray's ten-thousandths; 0 goes into anything."""
    return int(round(has * 10_000) // max(1, round(need * 10_000))) if need else sys.maxsize


def most_resources() -> dict[str, float]:
    """What the cluster may grow to by its autoscaler's own words; empty where there is none."""
    known = cluster_state.get_max_resources_from_cluster_config()
    return {} if known is None else {name: float(value) for name, value in known.items()}


def cpus_left() -> float:
    """CPUs that are free now, with those that the autoscaler may yet bring and nobody waits for.

    Machines with GPUs are not brought to decode: they are paid for by what they train. Negative
    where something waits for CPUs, and not for GPUs as well, that is no task of a stream: a group
    of processes, or a task or actor that has a GPU or needs more than the one CPU of those tasks.
    """
    address = ray.get_runtime_context().gcs_address
    state = get_cluster_resource_state(GcsClient(address=address))
    free = _sum(node.available_resources for node in state.node_states)
    there = _sum(node.total_resources for node in state.node_states if not _has_gpu(node))
    alone = [
        (_sum([one.request.resources_bundle]), one.count) for one in state.pending_resource_requests
    ]
    groups = [
        _sum(one.resources_bundle for one in group.requests)
        for group in state.pending_gang_resource_requests
    ]
    others = [needs for needs, _ in alone if needs["CPU"] > 1 or needs["GPU"]]
    if any(needs["CPU"] and needs["GPU"] <= free["GPU"] for needs in others + groups):
        return -1.0
    may_come = max(0.0, _most_cpus_without_gpu() - there["CPU"])
    waited_for = float(sum(needs["CPU"] * count for needs, count in alone))
    return max(0.0, free["CPU"] + may_come - waited_for)


def _most_cpus_without_gpu() -> float:
    """Of machines that the autoscaler may bring and that have no GPU; 0 where there is none."""
    config, most = cluster_state.get_cluster_config(), 0.0
    for pool in [] if config is None else config.node_group_configs:
        has = dict(pool.resources)
        if has.get("CPU") and not has.get("GPU"):
            # A pool without a limit says -1.
            most += has["CPU"] * (math.inf if pool.max_count < 0 else pool.max_count)
    return most


def _has_gpu(node: Any) -> bool:
    return bool(node.total_resources.get("GPU"))


def _sum(resources: Iterable[Mapping[str, float]]) -> Counter[str]:
    """Of resources by name; 0 of what is not there."""
    total = Counter[str]()
    for one in resources:
        total.update(dict(one))
    return total


class HereIsDraining:
    """Asks whether the node of this process is about to go; the head at most every 2 s."""

    def __init__(self) -> None:
        self._node_id = ray.get_runtime_context().get_node_id()
        self._asked_at = time.monotonic()

    def __call__(self) -> bool:
        """The answer; False in between, since it will be asked again."""
        if time.monotonic() - self._asked_at < ASK_SECONDS:
            return False
        self._asked_at = time.monotonic()
        return is_draining(self._node_id)
