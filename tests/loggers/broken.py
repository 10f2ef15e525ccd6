"""A logger whose server is away."""

from collections.abc import Mapping

from radsweep.loggers.base import Logger


class Broken(Logger):
    """Fails where it is told to: ``write`` or ``close``."""

    def write(self, row: Mapping[str, float | None]) -> None:
        if self.where.endswith("write"):
            raise ConnectionError("nobody there")

    def close(self) -> None:
        raise ConnectionError("nobody there")


LOGGER = Broken
