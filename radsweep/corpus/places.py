"""On which node a stream's next task should run: as few of them as will do. No Ray."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import final

LOOK_SECONDS = 2.0
"""Between two questions to the cluster's head."""

LOOKS = 3
"""Looks that must agree: one may come just before or after a task has begun or ended."""

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
        ended = Counter(self._end(one) for one in list(self._tasks) if one not in running)
        while self._strayed:
            self._add(self._strayed.popleft(), -1)
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(ended)
        free = [node for node, places in self._free.items() if places > 0]
        node = min(free, key=lambda one: (one != self.here, one), default=None)
        if node is not None:
            self._add(node, -1)
        self._tasks[task] = self._sent[task] = node
        return node

    def _add(self, node: str, places: int) -> None:
        self._free[node] = self._free.get(node, 0) + places

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

    def _look(self, ended: Mapping[str | None, int]) -> None:
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
