"""Many questions to a store at once: an object store answers slowly, and many at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16

One = TypeVar("One")
Answer = TypeVar("Answer")


def together(ask: Callable[[One], Answer], many: Iterable[One]) -> list[Answer]:
    """``ask(one)`` of each of ``many``, in their order, by ``AT_ONCE`` threads.

    Raises what the first of them that fails raises.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, many))
