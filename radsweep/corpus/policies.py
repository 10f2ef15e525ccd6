"""What each named preprocessing does, by step and source: the policy that a corpus's card states.

``pixels.py`` holds the arithmetic; a test holds every picture that it makes to the version here,
so that the hash stands for the numbers and not for a name.
"""

from dataclasses import asdict, dataclass
from typing import Any, final

from radsweep import keys
from radsweep.corpus.pixels import Policy
from radsweep.errors import SpecError


@final
@dataclass(frozen=True, kw_only=True)
class Steps:
    """One policy in words: how it gets from an x-ray's values to 8 bits, and who says so."""

    own_size: int
    """Pixels along each side in its source."""
    window: str
    geometry: str
    resampling: str
    source: str


STEPS: dict[str, Steps] = {
    "radsweep": Steps(
        own_size=518,
        window="the header's VOI LUT or window where usable, else percentiles 0.5 and 99.5",
        geometry="centred square of the short side",
        resampling="bicubic, antialiased",
        source="this project; VOI as in DICOM PS3.3 C.11.2",
    ),
    "rad-dino": Steps(
        own_size=518,
        window="minimum and maximum of the resampled square",
        geometry="short side to the size, centred square",
        resampling="cubic B-spline, not antialiased",
        source="RAD-DINO, Perez-Garcia et al. 2024 (arXiv 2401.10815), data preprocessing",
    ),
    "mi2": Steps(
        own_size=480,
        window="percentiles 1 and 99, rounded to 8 bits before the resampling",
        geometry="the whole picture, aspect not kept",
        resampling="bicubic, antialiased",
        source="MedImageInsight, Codella et al. 2024 (arXiv 2410.06542), and the client that "
        "Microsoft publishes for it",
    ),
}


def policy_facts(policy: Policy) -> dict[str, Any]:
    """``name``, ``version``, ``size``, the steps, and ``hash``, which is the key of the others."""
    if policy.name not in STEPS:
        raise SpecError(f"policy {policy.name} has no line in STEPS; state its steps and source")
    facts = {
        "name": policy.name,
        "version": policy.version,
        "size": policy.size,
        "steps": asdict(STEPS[policy.name]),
    }
    return {**facts, "hash": keys.key_of(facts)}


def own_size(name: str) -> int:
    """Pixels along each side that the policy's source stores. Raises SpecError if it is unknown."""
    Policy(name=name, size=518)
    return STEPS[name].own_size
