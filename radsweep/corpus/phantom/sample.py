"""How latent records are drawn: who has what, where tubes end, and which films are taken of it."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from radsweep.corpus.phantom.draws import around, between, generator, happens, pick, weighted
from radsweep.corpus.phantom.hospital import DISTRACTORS, FINDINGS, TUBES, Hospital
from radsweep.corpus.phantom.latents import Anatomy, Exam, Finding, Side, Tube, View
from radsweep.errors import SpecError

POSITIONS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "ett": (("normal", 0.66), ("low", 0.13), ("high", 0.11), ("right_main_bronchus", 0.10)),
    "ngt": (("stomach", 0.82), ("oesophagus", 0.18)),
    "cvc": (("svc", 0.70), ("atrium", 0.18), ("azygos", 0.12)),
    "chest_tube": (("apical", 0.55), ("basal", 0.45)),
}
"""Where each tube ends, with weights; the places that the RANZCR-CLiP labels tell apart."""

EXAMS = ((1, 0.45), (2, 0.27), (3, 0.17), (4, 0.11))
PERSISTS = 0.55
"""Chance that a finding is still there, or still absent, unasked, in the patient's next exam."""
FAINT = 0.35
"""Magnitude below which a radiologist may only call a finding possible."""


def sample_patient(hospital: Hospital, seed: int, index: int) -> list[Exam]:
    """The exams of one patient, a function of (hospital, seed, index) alone.

    Args:
        hospital: prevalences, habits and scanners.
        seed: which draw of the hospital's population.
        index: the patient's position, from 0; no other patient is looked at.

    Returns:
        One to four exams that share an ``Anatomy``.

    Raises:
        SpecError: when the index is negative.
    """
    if index < 0:
        raise SpecError(f"patient index is {index}; count patients from 0")
    key = f"{hospital.key}/{seed}/{index}"
    rng = generator(key, "patient")
    anatomy = _anatomy(key, rng)
    exams: list[Exam] = []
    for number in range(weighted(rng, EXAMS)):
        before = exams[-1] if exams else None
        exams.append(_exam(hospital, f"{key}/{number}", index, number, anatomy, before))
    return exams


def _anatomy(key: str, rng: np.random.Generator) -> Anatomy:
    female = happens(rng, 0.48)
    return Anatomy(
        key=key,
        female=female,
        age=int(rng.integers(19, 94)),
        stature=around(rng, 0.96 if female else 1.03, 0.035),
        lung_width=around(rng, 1.0, 0.035),
        lung_height=around(rng, 1.0, 0.04),
        habitus=around(rng, 1.0, 0.09),
        heart=around(rng, 1.0, 0.05),
        heart_tilt=around(rng, 0.62, 0.10),
        knob_mm=around(rng, 17.0, 2.2),
        scoliosis_mm=around(rng, 0.0, 3.0),
        rib_pitch_mm=around(rng, 22.0, 0.8),
        rib_slope=around(rng, 1.0, 0.18),
        breast=between(rng, 0.5, 1.2) if female else 0.0,
        stomach_bubble=between(rng, 12.0, 30.0) if happens(rng, 0.45) else 0.0,
    )


def _side(name: str, rng: np.random.Generator) -> Side:
    both = {"edema": 1.0, "cardiomegaly": 1.0, "effusion": 0.25}.get(name, 0.0)
    return weighted(rng, (("right", (1 - both) / 2), ("left", (1 - both) / 2), ("both", both)))


def _exam(
    hospital: Hospital,
    key: str,
    patient: int,
    number: int,
    anatomy: Anatomy,
    before: Exam | None,
) -> Exam:
    rng = generator(key, "exam")
    findings: dict[str, Finding] = {}
    hedged = set()
    for name in FINDINGS:
        persists = happens(rng, PERSISTS) and before is not None
        new = happens(rng, hospital.prevalence[name])
        seen = name in before.findings if persists and before is not None else new
        finding = _finding(name, anatomy.key, rng)
        if seen:
            findings[name] = finding
        faint = 0.5 if finding.magnitude < FAINT else 0.0
        if happens(rng, faint if seen else hospital.hedging):
            hedged.add(name)
    tubes = _tubes(hospital, key, findings, rng)
    return Exam(
        key=key,
        patient=patient,
        number=number,
        anatomy=anatomy,
        findings=findings,
        hedged=frozenset(hedged),
        tubes=tubes,
        views=_views(hospital, key, tubes, rng),
    )


def sample_finding(exam: Exam, name: str) -> Finding:
    """What an absent finding would look like, faintly: reports hedge about a side and a zone."""
    return _finding(name, exam.anatomy.key, generator(exam.key, name, "phantom"), largest=FAINT)


def _finding(name: str, patient: str, rng: np.random.Generator, largest: float = 1.0) -> Finding:
    """Side and place are the patient's, the magnitude is the exam's."""
    side, u, v, w = _places(patient)[name]
    return Finding(
        name=name,
        side=side,
        magnitude=between(rng, 0.0, largest),
        u_mm=u,
        v_mm=v,
        w_mm=w,
        seed=f"{patient}/{name}",
    )


@lru_cache(maxsize=16)
def _places(patient: str) -> Mapping[str, tuple[Side, float, float, float]]:
    """Side and (u, v, w) of each finding that a patient may have, in all exams alike."""
    rng = generator(patient, "places")
    places = {}
    for name in FINDINGS:
        side = _side(name, rng)
        u = between(rng, 58.0, 112.0) * (-1.0 if side == "right" else 1.0)
        places[name] = (side, u, between(rng, -55.0, 95.0), between(rng, -45.0, 55.0))
    return places


def _tubes(
    hospital: Hospital, key: str, findings: Mapping[str, Finding], rng: np.random.Generator
) -> dict[str, Tube]:
    """Tubes come together in intensive care, and a chest tube follows what it drains."""
    intensive = happens(rng, 0.35)
    drains = "pneumothorax" in findings or "effusion" in findings
    tubes: dict[str, Tube] = {}
    for name in (*TUBES, *DISTRACTORS):
        share = hospital.prevalence[name]
        if not hospital.decorrelated:
            share = _confounded(share, name, intensive, drains, hospital)
        tube = _tube(name, findings, key, rng)
        if happens(rng, share):
            tubes[name] = tube
    return tubes


def _confounded(
    share: float, name: str, intensive: bool, drains: bool, hospital: Hospital
) -> float:
    """A conditional share whose average over the cause is ``share``."""
    cause = 0.35
    if name == "chest_tube":
        cause = 1 - (1 - hospital.prevalence["pneumothorax"]) * (
            1 - hospital.prevalence["effusion"]
        )
    given = intensive if name != "chest_tube" else drains
    high = min(0.97, share * (1.0 + hospital.confounding))
    return high if given else (share - cause * high) / (1.0 - cause)


def _tube(name: str, findings: Mapping[str, Finding], key: str, rng: np.random.Generator) -> Tube:
    position = weighted(rng, POSITIONS[name]) if name in POSITIONS else "skin"
    side = pick(rng, ("right", "left"))
    route = "midline"
    if name == "cvc":
        route = weighted(rng, (("jugular", 0.6), ("subclavian", 0.4)))
        side = "right" if happens(rng, 0.7) else "left"
    if name == "chest_tube":
        route = "lateral"
        drained = findings.get("pneumothorax") or findings.get("effusion")
        if drained is not None and drained.side != "both":
            side = drained.side
    tip_u, tip_v = _tip(name, position, side, rng)
    return Tube(
        name=name,
        side=side,
        route=route,
        position=position,
        tip_u_mm=tip_u,
        tip_v_mm=tip_v,
        seed=f"{key}/{name}",
    )


def _tip(name: str, position: str, side: Side, rng: np.random.Generator) -> tuple[float, float]:
    """Tip in the standard frame; an endotracheal tip is right 3 to 7 cm above the carina."""
    sign = -1.0 if side == "right" else 1.0
    first, second = float(rng.random()), float(rng.random())
    ranges = {
        ("ett", "normal"): (-2.0, 2.0, -62.0, -32.0),
        ("ett", "low"): (-2.0, 2.0, -14.0, -3.0),
        ("ett", "high"): (-3.0, 3.0, -112.0, -88.0),
        ("ett", "right_main_bronchus"): (-21.0, -16.0, 14.0, 22.0),
        ("ngt", "stomach"): (48.0, 82.0, 150.0, 172.0),
        ("ngt", "oesophagus"): (2.0, 9.0, 35.0, 105.0),
        ("cvc", "svc"): (-31.0, -26.0, 2.0, 36.0),
        ("cvc", "atrium"): (-28.0, -14.0, 62.0, 88.0),
        ("cvc", "azygos"): (-44.0, -38.0, 2.0, 12.0),
        ("chest_tube", "apical"): (40.0, 75.0, -82.0, -50.0),
        ("chest_tube", "basal"): (45.0, 85.0, 75.0, 105.0),
        ("ecg_leads", "skin"): (60.0, 120.0, -60.0, 60.0),
    }
    u_low, u_high, v_low, v_high = ranges[name, position]
    u = u_low + (u_high - u_low) * first
    return (sign * u if name in ("chest_tube", "ecg_leads") else u), v_low + (
        v_high - v_low
    ) * second


def _views(
    hospital: Hospital, key: str, tubes: Mapping[str, Tube], rng: np.random.Generator
) -> tuple[View, ...]:
    """A frontal view and sometimes a lateral; AP is likelier where there are tubes."""
    ap_share = hospital.ap_share
    if not hospital.decorrelated:
        tubed = any(name in tubes for name in TUBES)
        target = 1.0 if tubed else 0.0
        ap_share += hospital.confounding * (target - ap_share)
    names = ["AP" if happens(rng, ap_share) else "PA"]
    if happens(rng, hospital.lateral_share):
        names.append("LL")
    low, high = hospital.scanner.field_mm
    views = []
    for number, name in enumerate(names):
        portable = 1.0 if name == "AP" else 0.35
        views.append(
            View(
                name=name,
                field_mm=between(rng, low, high),
                centre_u_mm=around(rng, 0.0, 9.0 * portable),
                centre_v_mm=around(rng, 30.0, 5.0),
                tilt=around(rng, 0.0, 0.035 * portable),
                inspiration=around(rng, 0.82 if name == "AP" else 0.98, 0.08),
                rotation_mm=around(rng, 0.0, 5.0 * portable),
                marker=happens(rng, 0.7),
                key=f"{key}/{number}",
            )
        )
    return tuple(views)
