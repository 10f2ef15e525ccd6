"""The linear probe on the image's place in the space where images and texts meet.

What MedImageInsight gives out as an image's embedding: pooled, projected, of length 1. Beside
``linear_pooled`` it tells what the projection keeps of the answer. Asked of encoders that learned
from texts alone; where the starting weights had no projection, the baseline's is random.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

from radsweep.probes.linear import Linear, Strengths, read_linear
from radsweep.specs import Scalar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Settings(Strengths):
    """Of the linear probe on projected vectors: those of ``linear`` but for its vectors."""


@final
class LinearProjected(Linear):
    """``Linear`` on the projected vector alone."""

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        return cls(replace(read_linear("linear_projected", given), vectors="projected"))

    @property
    def reads_projection(self) -> bool:
        """See ``Probe.reads_projection``."""
        return True


PROBE = LinearProjected
