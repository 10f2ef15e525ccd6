"""The linear probe on the encoder's own pooling alone: a class token, or a normed mean (DaViT).

Beside ``linear``, which has both vectors unless told otherwise, and ``linear_mean``, it tells in
which of the two an encoder keeps the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from radsweep.probes.linear import Linear, Strengths, read_linear
from radsweep.specs import Scalar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Settings(Strengths):
    """Of the linear probe on pooled vectors: those of ``linear`` but for its vectors."""


@final
class LinearPooled(Linear):
    """``Linear`` on the pooled vector alone."""

    @classmethod
    def build(cls, given: Mapping[str, Scalar]) -> Self:
        """See ``Probe.build``."""
        return cls(read_linear("linear_pooled", {**given, "vectors": "pooled"}))


PROBE = LinearPooled
