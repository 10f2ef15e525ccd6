"""What makes one synthetic hospital differ from another: scanners, patients, habits and wording."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from radsweep.errors import SpecError

FINDINGS = (
    "cardiomegaly",
    "effusion",
    "pneumothorax",
    "nodule",
    "consolidation",
    "edema",
    "atelectasis",
)
"""Findings in the order of the label columns."""

TUBES = ("ett", "ngt", "cvc", "chest_tube")
"""Tubes that have a mask and a tip, in the order of the mask columns."""

DISTRACTORS = ("ecg_leads",)
"""Lines that are drawn and labelled, but have neither mask nor tip."""


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """The look of a detector and of its vendor's processing."""

    gamma: float
    """Exponent of the display curve on the normalised log exposure; above 1 darkens the lungs."""
    contrast: float
    """Slope of the sigmoid part of the display curve; 0 leaves the curve a pure power."""
    detail: float
    """Gain of the unsharp mask that vendors use against the heart's large dynamic range."""
    quanta: float
    """Detected photons per pixel in air; fewer means more noise."""
    blur_mm: float
    """Standard deviation of the detector's point spread."""
    scatter: float
    """Scattered over primary fluence, averaged over the field."""
    field_mm: tuple[float, float]
    """Smallest and largest side of the square field."""
    monochrome1_share: float
    bits: tuple[tuple[int, float], ...]
    """Bits stored and their weights."""
    vendors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """One hospital; every field is part of what its phantom is."""

    name: str
    institution: str
    """The identifying name that headers carry; planted, and to be found nowhere after ingest."""
    scanner: Scanner
    prevalence: Mapping[str, float]
    """Share of exams with each of FINDINGS, TUBES and DISTRACTORS."""
    wording: str
    """Which bank of paraphrases its radiologists use."""
    ap_share: float
    """Share of AP among frontal views."""
    confounding: float
    """0: the view knows nothing of the tubes. 1: every exam with a tube is AP, every other PA."""
    lateral_share: float
    """Share of exams that have a lateral beside the frontal."""
    hedging: float
    """Share of absent findings that the report still calls possible."""
    decorrelated: bool = field(default=False)
    """Draw view and tubes independently of one another and of the findings, for held-out sets."""

    def __post_init__(self) -> None:
        """Refuse shares outside 0 to 1 and unknown or missing findings.

        Raises:
            SpecError: naming the field and the value.
        """
        wanted = {*FINDINGS, *TUBES, *DISTRACTORS}
        if set(self.prevalence) != wanted:
            odd = sorted(wanted ^ set(self.prevalence))
            raise SpecError(f"hospital {self.name}: prevalence is missing or unknown for {odd}")
        shares = {
            **self.prevalence,
            "ap_share": self.ap_share,
            "confounding": self.confounding,
            "lateral_share": self.lateral_share,
            "hedging": self.hedging,
            "monochrome1_share": self.scanner.monochrome1_share,
        }
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise SpecError(f"hospital {self.name}: {name} is {value}; give a share in 0..1")
        object.__setattr__(self, "prevalence", MappingProxyType(dict(self.prevalence)))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by value: worker processes get the hospital, and a mapping proxy cannot travel."""
        values = {**self.__dict__, "prevalence": dict(self.prevalence)}
        return _rebuild, (values,)

    @property
    def key(self) -> str:
        """Seeds the patients; a decorrelated draw has other people in it."""
        return f"{self.name}/decorrelated" if self.decorrelated else self.name


def _rebuild(values: dict[str, object]) -> Hospital:
    return Hospital(**values)  # type: ignore[arg-type]


_RIVERSIDE = Hospital(
    name="riverside",
    institution="Riverside Quellmoor Infirmary",
    scanner=Scanner(
        gamma=1.05,
        contrast=2.2,
        detail=0.35,
        quanta=40000.0,
        blur_mm=0.35,
        scatter=0.10,
        field_mm=(350.0, 410.0),
        # Shares as in the headers of the Open-i chest films (Demner-Fushman et al. 2016).
        monochrome1_share=0.48,
        bits=((12, 0.72), (14, 0.10), (10, 0.06), (16, 0.06), (8, 0.06)),
        vendors=("Corvex DR 400", "Lumenray Axis"),
    ),
    prevalence={
        "cardiomegaly": 0.30,
        "effusion": 0.26,
        "pneumothorax": 0.16,
        "nodule": 0.16,
        "consolidation": 0.24,
        "edema": 0.18,
        "atelectasis": 0.18,
        "ett": 0.22,
        "ngt": 0.25,
        "cvc": 0.30,
        "chest_tube": 0.15,
        "ecg_leads": 0.30,
    },
    wording="riverside",
    ap_share=0.45,
    confounding=0.6,
    lateral_share=0.15,
    hedging=0.03,
)

# A chest clinic: its patients walk in, so that it sees nodules and pneumonia, and hardly ever the
# tubes, the fluid and the supine films of a ward. What open weights seldom saw is what one's own
# films can teach.
_NORTHSIDE = Hospital(
    name="northside",
    institution="Northside Hallowick Chest Clinic",
    scanner=Scanner(
        gamma=0.72,
        contrast=0.0,
        detail=0.0,
        quanta=7000.0,
        blur_mm=1.1,
        scatter=0.22,
        field_mm=(390.0, 450.0),
        monochrome1_share=0.15,
        bits=((10, 0.55), (8, 0.25), (12, 0.20)),
        vendors=("Ostberg CR-25", "Halide Plate Reader 7"),
    ),
    prevalence={
        "cardiomegaly": 0.12,
        "effusion": 0.06,
        "pneumothorax": 0.03,
        "nodule": 0.3,
        "consolidation": 0.34,
        "edema": 0.03,
        "atelectasis": 0.06,
        "ett": 0.005,
        "ngt": 0.01,
        "cvc": 0.04,
        "chest_tube": 0.01,
        "ecg_leads": 0.03,
    },
    wording="northside",
    ap_share=0.08,
    confounding=0.7,
    lateral_share=0.35,
    hedging=0.05,
)

HOSPITALS: Mapping[str, Hospital] = MappingProxyType(
    {"riverside": _RIVERSIDE, "northside": _NORTHSIDE}
)
"""``riverside`` is ours, ``northside`` the one whose films the open weights have seen."""
