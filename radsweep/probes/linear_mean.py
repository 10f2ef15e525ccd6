"""The linear probe on the mean over the last level's positions alone: what do the patches know?

Beside ``linear`` and ``linear_pooled``, as that one says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from radsweep.probes.linear import Linear, Strengths, read_linear
from radsweep.specs import Scalar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Settings(Strengths):
    """Of the linear probe on mean vectors: those of ``linear`` but for its vectors."""


@final
class LinearMean(Linear):
    """``Linear`` on the mean vector alone."""

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        return cls(read_linear("linear_mean", {**given, "vectors": "mean"}))


PROBE = LinearMean
