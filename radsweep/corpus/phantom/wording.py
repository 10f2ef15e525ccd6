"""What a bank of paraphrases is, and the banks by hospital."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Ways to say one thing; the reserved ones are read only in reports of held-out patients.

    Fields in braces: ``side`` (right, left, bilateral), ``size`` (small, moderate, large),
    ``degree`` (mild, moderate, marked), ``zone`` (upper, mid, lower). A capital asks for one.
    """

    positive: tuple[str, ...]
    reserved_positive: tuple[str, ...]
    negative: tuple[str, ...]
    reserved_negative: tuple[str, ...]
    uncertain: tuple[str, ...]
    reserved_uncertain: tuple[str, ...]
    impression: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """The language of one hospital's radiologists."""

    findings: Mapping[str, Phrases]
    tubes: Mapping[tuple[str, str], tuple[str, str]]
    """(tube, position) -> a common and a reserved sentence; ``cm`` is how far above the carina."""
    malposition: Mapping[str, str]
    """Tube -> what the impression says when it is not where it should be."""
    no_tubes: tuple[str, ...]
    clear_lungs: tuple[str, ...]
    """Denies consolidation, nodule, edema and atelectasis at once."""
    clear_pleura: tuple[str, ...]
    """Denies effusion and pneumothorax at once."""
    normal: tuple[str, ...]
    """Impression of an exam without findings."""
    as_above: tuple[str, ...]
    """Impression that asserts and denies nothing."""
    gaps: tuple[str, ...]
    """Sentences that de-identification has left with holes."""
    views: Mapping[str, str]


def frozen(**phrases: Phrases) -> Mapping[str, Phrases]:
    """A read-only mapping of findings to phrases."""
    return MappingProxyType(dict(phrases))
