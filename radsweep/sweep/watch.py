"""An actor on every node that reads its cloud's notices and drains the node that is told to go.

What runs on a draining node keeps a checkpoint and ends (see ``radsweep.pretrain.nodes``), and
starts again elsewhere. Without a watcher a taken machine is a killed one: nothing is lost but the
steps since the last checkpoint.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from radsweep.pretrain.nodes import drain_node, living_nodes
from radsweep.sweep.spot import check_provider, notice

POLL_SECONDS = 2.0
"""Between two looks at the metadata service: of the two minutes' notice a sixtieth is lost."""

NEW_NODES_SECONDS = 5.0
"""Between two looks for nodes that have come."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one watcher has to say."""

    node_id: str
    drained: str | None
    """The notice on which it drained its node, or None."""
    fault: str | None
    """Why the metadata service could not be read the last time, or None."""


class Watcher:
    """Watches one node from a thread, so that it can be asked meanwhile. Made into an actor."""

    def __init__(self, provider: str, base_url: str | None, poll_seconds: float) -> None:
        context = ray.get_runtime_context()
        self._node_id: str = context.get_node_id()
        self._gcs_address: str = context.gcs_address
        self._provider, self._base_url, self._poll_seconds = provider, base_url, poll_seconds
        self._drained: str | None = None
        self._fault: str | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._drained is None:
            try:
                told = notice(self._provider, self._base_url)
                self._fault = None
                if told is not None:
                    drain_node(self._gcs_address, self._node_id, told.seconds_left, told.said)
                    self._drained = told.said
            except Exception as fault:
                # A service or a head that is busy now may answer the next time; ``seen`` tells.
                self._fault = str(fault)
            time.sleep(self._poll_seconds)

    def seen(self) -> Seen:
        """What it has seen so far."""
        return Seen(node_id=self._node_id, drained=self._drained, fault=self._fault)


class Watch:
    """The watchers of a cluster; those of nodes that come are added while it is open."""

    def __init__(self, provider: str, base_url: str | None, poll_seconds: float) -> None:
        self._made_of = (provider, base_url, poll_seconds)
        self._watchers: dict[str, Any] = {}

    def add_new_nodes(self) -> None:
        """One watcher for each living node that has none yet."""
        actor = ray.remote(Watcher)
        for node in living_nodes():
            node_id = node["NodeID"]
            if node_id not in self._watchers:
                self._watchers[node_id] = actor.options(
                    num_cpus=0,
                    max_restarts=-1,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
                ).remote(*self._made_of)

    def seen(self, seconds: float = 10.0) -> tuple[Seen, ...]:
        """What those have seen that answer within ``seconds``: not the ones on nodes that went."""
        asked = [watcher.seen.remote() for watcher in self._watchers.values()]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=seconds) if asked else ([], [])
        found = []
        for answer in ready:
            try:
                found.append(ray.get(answer))
            except RayError:
                continue
        return tuple(found)

    def close(self) -> None:
        """End all watchers."""
        for watcher in self._watchers.values():
            ray.kill(watcher)


@contextmanager
def watching(
    provider: str | None, base_url: str | None = None, poll_seconds: float = POLL_SECONDS
) -> Iterator[Watch | None]:
    """Watch every node of the connected cluster while the block runs; None watches nothing.

    Args:
        provider: see ``spot.notice``; None where nobody takes machines away.
        base_url: see ``spot.notice``.
        poll_seconds: between two looks.

    Raises SpecError for a provider that is not known.
    """
    if provider is None:
        yield None
        return
    check_provider(provider)
    watch, stop = Watch(provider, base_url, poll_seconds), threading.Event()
    watch.add_new_nodes()

    def look() -> None:
        while not stop.wait(NEW_NODES_SECONDS):
            watch.add_new_nodes()

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield watch
    finally:
        stop.set()
        looker.join()
        watch.close()
