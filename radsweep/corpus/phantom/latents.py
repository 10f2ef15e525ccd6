"""The latent record of a patient: one source for image, labels, masks and report alike.

Lengths are millimetres in the frame of a standard adult: the origin is the carina, ``u`` grows to
the patient's left (the right of a frontal image), ``v`` downwards, ``w`` (depth) to the back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Side = str
"""``right``, ``left`` or ``both``: the patient's side, as radiologists name it."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What the exams of one patient share. Scales are relative to the standard adult."""

    key: str
    """Seeds the patient's own vessels and textures."""
    female: bool
    age: int
    stature: float
    lung_width: float
    lung_height: float
    habitus: float
    """Depth of the body relative to the standard; above 1 is a large patient and a greyer film."""
    heart: float
    heart_tilt: float
    """Radians that the long axis of the heart lies below the horizontal."""
    knob_mm: float
    """Radius of the aortic knob."""
    scoliosis_mm: float
    rib_pitch_mm: float
    rib_slope: float
    breast: float
    stomach_bubble: float
    """Radius of the gas bubble under the left dome in millimetres; 0 is none."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding that is truly there."""

    name: str
    side: Side
    magnitude: float
    """0 is barely visible, 1 cannot be missed."""
    u_mm: float
    v_mm: float
    w_mm: float
    seed: str


@dataclass(frozen=True, kw_only=True)
class Tube:
    """One tube or lead; ``route`` says which way it came in."""

    name: str
    side: Side
    route: str
    position: str
    tip_u_mm: float
    tip_v_mm: float
    seed: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One exposure: how the patient lies in the field."""

    name: str
    """``PA``, ``AP`` or ``LL`` (left lateral)."""
    field_mm: float
    """Side of the square field at the patient."""
    centre_u_mm: float
    centre_v_mm: float
    tilt: float
    """Radians, clockwise in the image."""
    inspiration: float
    """1 is a full breath; less raises the diaphragm."""
    rotation_mm: float
    """How far the mediastinum moves sideways because the patient is turned."""
    marker: bool
    key: str
    """Seeds the noise and names the files."""

    @property
    def frontal(self) -> bool:
        """Only frontal views have masks and tips."""
        return self.name != "LL"


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One visit: everything from which its images, labels, masks and report are made."""

    key: str
    patient: int
    number: int
    """Position among the patient's exams, from 0."""
    anatomy: Anatomy
    findings: Mapping[str, Finding]
    hedged: frozenset[str]
    """Findings that the report only calls possible, whether they are there or not."""
    tubes: Mapping[str, Tube]
    views: tuple[View, ...]
