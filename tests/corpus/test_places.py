"""Where a stream's tasks are sent, against a cluster of a few lines."""

import math
from dataclasses import dataclass, field

import pytest

from radsweep.corpus.places import LOOK_SECONDS, LOOKS, Places

STEP = 0.5


@dataclass
class Nodes:
    """Tasks run where they were sent, or on the last node with a free CPU, or wait for one."""

    cpus: dict[str, int]
    head_is_late: bool = False
    """What it says is then of before the last tasks ended."""
    running: dict[int, str] = field(default_factory=dict)
    waiting: dict[int, str | None] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def free(self, node: str) -> int:
        taken = list(self.running.values()).count(node) + self.others.get(node, 0)
        return self.cpus[node] - taken

    def start(self, task: int, node: str | None) -> None:
        room = [one for one in sorted(self.cpus) if self.free(one) > 0]
        at = node if node in room else next(reversed(room), None)
        if at is None:
            self.waiting[task] = node
        else:
            self.running[task] = at

    def end(self, task: int) -> None:
        del self.running[task]
        self.queue()

    def queue(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for one, node in waiting.items():
            self.start(one, node)

    def tell(self) -> None:
        self.told = {node: float(self.free(node)) for node in self.cpus}


@dataclass
class Stream:
    """Keeps so many tasks going, each of some steps."""

    nodes: Nodes
    places: Places
    length: int = 3
    made: int = 0
    """The next task's number."""
    now: float = 0.0
    began: dict[int, float] = field(default_factory=dict)

    def run(self, steps: int, at_once: int) -> list[dict[str, int]]:
        """How many tasks each node had, step by step."""
        history = []
        for _ in range(steps):
            self.step(at_once)
            at = list(self.nodes.running.values())
            history.append({node: at.count(node) for node in self.nodes.cpus})
        return history

    def active(self) -> set[int]:
        return set(self.began) & {*self.nodes.running, *self.nodes.waiting}

    def step(self, at_once: int) -> None:
        self.now += STEP
        for task, node in list(self.nodes.running.items()):
            if task not in self.began:
                continue
            self.began[task] = began = min(self.began[task], self.now)
            if self.now - began >= (self.length + task % 2) * STEP:
                self.nodes.end(task)
                self.places.ran(task, node)
        if not self.nodes.head_is_late:
            self.nodes.tell()
        while len(self.active()) < at_once:
            node = self.places.node_for(self.made, self.active(), self.now)
            self.began[self.made] = math.inf
            self.nodes.start(self.made, node)
            self.made += 1
        self.nodes.tell()


def stream_on(cpus: dict[str, int], head_is_late: bool = False) -> Stream:
    nodes = Nodes(cpus, head_is_late)
    nodes.tell()
    return another_on(nodes)


def another_on(nodes: Nodes) -> Stream:
    return Stream(nodes, Places(here="m", task_cpus=1.0, free_cpus=lambda: nodes.told))


SETTLED = int(2 * LOOKS * LOOK_SECONDS / STEP) + 10


@pytest.mark.parametrize("head_is_late", [False, True])
def test_this_node_is_filled_first_then_the_others_in_order(head_is_late: bool) -> None:
    for at_once, at in ((3, (0, 0, 3)), (4, (0, 0, 4)), (6, (2, 0, 4)), (9, (4, 1, 4))):
        stream = stream_on({"a": 4, "b": 4, "m": 4}, head_is_late)
        stream.run(SETTLED, at_once)
        for has in stream.run(40, at_once):
            assert (has["a"], has["b"], has["m"]) == at


@pytest.mark.parametrize("head_is_late", [False, True])
def test_a_stream_that_shrinks_leaves_the_last_nodes_alone(head_is_late: bool) -> None:
    stream = stream_on({"a": 4, "b": 4, "m": 4}, head_is_late)
    stream.run(SETTLED, 12)
    stream.run(SETTLED, 5)
    for has in stream.run(200, 5):
        assert (has["m"], has["a"], has["b"]) == (4, 1, 0)


def test_what_finds_no_room_is_sent_nowhere_and_goes_to_a_node_that_comes() -> None:
    stream = stream_on({"m": 2})
    stream.run(SETTLED, 4)
    # Those that wait are of no node, so that the autoscaler sees them.
    assert list(stream.nodes.waiting.values()) == [None, None]
    stream.nodes.cpus["a"] = 8
    stream.nodes.queue()
    stream.run(SETTLED, 4)
    assert not stream.nodes.waiting
    stream.run(SETTLED, 2)
    assert all(has == {"m": 2, "a": 0} for has in stream.run(40, 2))


def test_a_place_that_somebody_else_took_is_not_counted_on() -> None:
    stream = stream_on({"a": 2, "b": 2, "c": 2, "m": 2})
    stream.run(SETTLED, 3)
    stream.nodes.others["m"] = 1
    stream.run(SETTLED, 3)
    # One task on m, and the other two not on c, the last, where the cluster would have them.
    history = stream.run(100, 3)
    assert sum(has["c"] > 0 for has in history) <= 2
    assert sum((has["m"], has["a"]) == (1, 2) for has in history) >= 90
    stream.nodes.others.clear()
    stream.run(SETTLED, 3)
    assert all((has["m"], has["a"]) == (2, 1) for has in stream.run(40, 3))


def test_a_node_that_is_gone_is_sent_nothing() -> None:
    stream = stream_on({"a": 2, "b": 2, "m": 2})
    stream.run(SETTLED, 4)
    del stream.nodes.cpus["a"]
    stream.nodes.running = {t: at for t, at in stream.nodes.running.items() if at != "a"}
    stream.run(SETTLED, 4)
    assert all(has == {"b": 2, "m": 2} for has in stream.run(40, 4))


@pytest.mark.parametrize("places", [1, 2, 4])
def test_streams_that_share_a_node_wait_where_the_autoscaler_sees_them(places: int) -> None:
    one = stream_on({"m": places})
    two = another_on(one.nodes)
    two.made = 1_000_000
    for step in range(SETTLED + 100):
        one.step(places)
        two.step(places)
        if step > SETTLED:
            assert list(one.nodes.waiting.values()) == [None] * places


def test_what_a_lost_node_had_is_told_until_it_has_ended() -> None:
    told = {"a": 1.0, "m": 1.0}
    places = Places(here="m", task_cpus=1.0, free_cpus=lambda: told)
    assert [places.node_for(task, range(task), 0.0) for task in range(2)] == ["m", "a"]
    assert places.lost(range(2), 1.0) == 0
    del told["a"]
    told["m"] = 0.0
    assert places.lost(range(2), 1.0 + LOOK_SECONDS) == 1
    assert places.lost([0], 1.1 + LOOK_SECONDS) == 0
    # And nothing more is sent there.
    assert places.node_for(2, [0], 1.2 + LOOK_SECONDS) is None


def test_the_head_is_asked_every_few_seconds_at_most() -> None:
    asked = []
    places = Places(here="m", task_cpus=0.5, free_cpus=lambda: asked.append(1) or {"m": 2.6})
    sent = [places.node_for(task, range(task), 10 + task / 100) for task in range(8)]
    assert sent == ["m"] * 5 + [None] * 3
    assert len(asked) == 1
    places.node_for(8, range(8), 10 + LOOK_SECONDS)
    assert len(asked) == 2
