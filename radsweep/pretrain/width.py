"""How many processes a cell gets: what there is room for now, and how it comes to more.

Ray Train can change a group's size by itself, but takes any number that fits, where a batch has
few equal shares, and goes back to the last checkpoint. Here a group leaves as it does when its
machine is taken away, with a checkpoint of that step, and begins again with another size.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import final

from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    remove_placement_group,
)

from radsweep.pretrain.nodes import ASK_SECONDS, room_for

SETTLE_SECONDS = 15.0
"""After a group has ended, until what it held is counted as free on every node."""


def width_now(widths: Sequence[int], process: dict[str, float], stream_cpus: float) -> int:
    """The largest of the widths that there is room for; the least, to be waited for, if none.

    Waits up to ``SETTLE_SECONDS`` for room for the largest one.

    Args:
        widths: that may be, ascending.
        process: ``CPU`` and ``GPU`` of one process.
        stream_cpus: of its share of the stream, on whatever node.
    """
    if len(widths) == 1:
        return widths[0]
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        room = room_for(process, stream_cpus)
        if room >= widths[-1] or time.monotonic() >= until:
            return max((width for width in widths if width <= room), default=widths[0])
        time.sleep(ASK_SECONDS)


@final
class Wish:
    """Asks the cluster, and so its autoscaler, for the processes that a wider group needs more."""

    def __init__(
        self, name: str, process: dict[str, float], stream_cpus: float, more: int, after_s: float
    ):
        """Asks for nothing yet.

        Args:
            name: by which ``forget`` finds what a lost process asked for.
            process: ``CPU`` and ``GPU`` of one process.
            stream_cpus: of its share of the stream, on whatever node.
            more: processes that are missing.
            after_s: a group begins anew in up to a minute, so that it should not do so often.
        """
        self._name = name
        self._bundles = [dict(process), {"CPU": stream_cpus}] * more
        self._group: PlacementGroup | None = None
        self._next = time.monotonic() + after_s

    def is_granted(self) -> bool:
        """Whether the room is there, and held; the head is asked at most every 2 s."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + ASK_SECONDS
        if self._group is None:
            self._group = placement_group(self._bundles, name=self._name)
        return self._group.wait(0)

    def give_back(self) -> None:
        """Nothing is asked for or held any more."""
        if self._group is not None:
            remove_placement_group(self._group)


def forget(name: str) -> None:
    """Take back the wish of that name, if one is left.

    Ray keeps what a process asked for until the driver ends, however the process did.
    """
    with suppress(ValueError):
        remove_placement_group(get_placement_group(name))
