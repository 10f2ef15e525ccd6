"""On which node a stream's next task should run: as few of them as will do. No Ray."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import final

LOOK_SECONDS = 2.0
"""Between two questions to the cluster's head."""

LOOKS = 3
"""Looks that must agree: one may come just before or after a task has begun or ended."""

LATE_SECONDS = 0.5
"""After which the head knows of a task's end."""

SOMEWHERE = ""
"""The node of a task that runs where nobody of ours sent it."""


@final
@dataclass(kw_only=True)
class Places:
    """Places for tasks by node: this one first, then the others in an order that all streams share.

    So the last nodes have nothing to do where fewer would do, and the autoscaler takes them back.
    A place is known to be free where a task sent there has ended, and by what the head says; that
    is a moment old, so that it moves the count only where ``LOOKS`` in a row say the same.
    """

    here: str
    """This node."""
    task_cpus: float
    free_cpus: Callable[[], Mapping[str, float]]
    """Tells the CPUs that are free now on each node that stays."""
    _seen: deque[dict[str, int]] = field(init=False, default_factory=lambda: deque(maxlen=LOOKS))
    _free: dict[str, int] = field(init=False, default_factory=dict)
    _tasks: dict[int, str | None] = field(init=False, default_factory=dict)
    """Node of each task that has not ended, in their order; None waits for any."""
    _strayed: deque[str] = field(init=False, default_factory=deque)
    _ended: list[tuple[float, str]] = field(init=False, default_factory=list)
    """When, since the last look, and the node."""
    _next_look: float = field(init=False, default=0.0)
    _sent: dict[int, str | None] = field(init=False, default_factory=dict)

    def ran(self, task: int, node: str) -> None:
        """Where a task did run, from any thread: somebody else may have had the place."""
        sent = self._sent.pop(task, None)
        if sent is not None and sent != node:
            self._strayed.append(sent)

    def node_for(self, task: int, running: Collection[int], now: float) -> str | None:
        """The node for a new task; None where all are full, and it waits for whichever is first.

        Args:
            task: its number, larger than all before.
            running: the tasks that have not ended.
            now: seconds of any clock.
        """
        self._update(running, now)
        free = [node for node, places in self._free.items() if places > 0]
        node = min(free, key=lambda one: (one != self.here, one), default=None)
        if node is not None:
            self._add(node, -1)
        self._tasks[task] = self._sent[task] = node
        # What waits for one node is not seen by the autoscaler. Streams that share a node may each
        # take its places for theirs, so that where nothing was free of late, none is named.
        return node if any(any(seen.values()) for seen in self._seen) else None

    def lost(self, running: Collection[int], now: float) -> int:
        """Tasks that were sent to a node that is gone, or is about to go.

        Ray runs them again, but names that node still, so that the autoscaler does not see them
        where they wait: as many more are to be sent, which it does see.

        Args:
            running: the tasks that have not ended.
            now: seconds of any clock.
        """
        self._update(running, now)
        return sum(bool(node) and node not in self._free for node in self._tasks.values())

    def _update(self, running: Collection[int], now: float) -> None:
        """Counts what has ended; asks the head where that is due."""
        ended = [self._end(one) for one in list(self._tasks) if one not in running]
        self._ended += [(now, node) for node in ended if node is not None]
        while self._strayed:
            self._add(self._strayed.popleft(), -1)
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(Counter(node for at, node in self._ended if at > now - LATE_SECONDS))
            self._ended.clear()

    def _add(self, node: str, places: int) -> None:
        if node in self._free:
            self._free[node] += places

    def _end(self, task: int) -> str | None:
        """The node that has a place more; a task's goes to the one that has waited longest."""
        node = self._tasks.pop(task)
        if not node:
            return None
        waiting = next((one for one, at in self._tasks.items() if at is None), None)
        if waiting is not None:
            self._tasks[waiting] = node
            return None
        self._add(node, 1)
        return node

    def _look(self, ended: Mapping[str, int]) -> None:
        """Moves the counts to what was seen; the head may not know yet of what has just ended."""
        free = self.free_cpus()
        self._seen.append({node: int(cpus / self.task_cpus + 1e-9) for node, cpus in free.items()})
        looks = {node: [one.get(node, 0) for one in self._seen] for node in free}
        self._free = {
            node: min(max(self._free.get(node, 0), min(seen)), max(seen) + ended.get(node, 0))
            for node, seen in looks.items()
        }
        if any(min(seen) > 0 for seen in looks.values()):
            # Then nobody waits.
            self._tasks = {one: SOMEWHERE if at is None else at for one, at in self._tasks.items()}
