"""One report for each exam, said in the hospital's own words from the latent record."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from radsweep.corpus.phantom import wording_northside, wording_riverside
from radsweep.corpus.phantom.draws import generator, happens, pick
from radsweep.corpus.phantom.hospital import FINDINGS, TUBES, Hospital
from radsweep.corpus.phantom.identity import Identity
from radsweep.corpus.phantom.latents import Exam, Finding, Tube
from radsweep.corpus.phantom.sample import FAINT, sample_finding
from radsweep.corpus.phantom.wording import Bank, Phrases
from radsweep.errors import SpecError

BANKS: Mapping[str, Bank] = {
    "riverside": wording_riverside.BANK,
    "northside": wording_northside.BANK,
}
HELD_OUT_SHARE = 0.2
"""Share of patients whose reports use the reserved paraphrases."""
NEGATIVES_STATED = 0.6
TUBES_STATED = 0.95

Sentences = list[tuple[str, str]]
"""(what it is about, sentence)."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The text, and what it states about each finding and tube."""

    text: str
    findings: str
    impression: str
    stated: Mapping[str, str]
    """Name -> ``positive``, ``uncertain``, ``negative`` or ``unsaid``."""


def is_held_out(exam: Exam) -> bool:
    """Whether a keyed hash of the patient gives the reserved paraphrases (one patient in five)."""
    return bool(generator(exam.anatomy.key, "wording").random() < HELD_OUT_SHARE)


def compose(exam: Exam, hospital: Hospital, identity: Identity) -> Report:
    """Write the report of an exam.

    Raises:
        SpecError: when the hospital's bank of wording is unknown.
    """
    if hospital.wording not in BANKS:
        raise SpecError(f"no wording {hospital.wording!r}; choose one of {sorted(BANKS)}")
    bank = BANKS[hospital.wording]
    rng = generator(exam.key, "report")
    stated = {name: _stance(name, exam, rng) for name in FINDINGS}
    reserved = is_held_out(exam)
    sentences = _tube_sentences(exam, bank, reserved, stated, rng)
    sentences += _finding_sentences(exam, bank, reserved, stated, rng)
    compared = happens(rng, 0.4)
    if compared and identity.previous is not None:
        # A date in the middle of the findings: taking the header off is not enough.
        sentences.append(("gap", f"Comparison {identity.written(identity.previous)}."))
    if happens(rng, 0.2):
        sentences.append(("gap", pick(rng, bank.gaps)))
    if happens(rng, 0.5):
        order = rng.permutation(len(sentences))
        sentences = [sentences[int(place)] for place in order]
    if not sentences:
        sentences = [("gap", pick(rng, bank.gaps))]
    findings = " ".join(sentence for _, sentence in sentences)
    impression = _impression(exam, bank, stated, rng)
    text = (
        f"{_header(exam, bank, identity, rng)}\n\nFINDINGS: {findings}\n\nIMPRESSION: {impression}"
    )
    called, signed = happens(rng, 0.12), happens(rng, 0.3)
    if called:
        text += f" Called to Dr. {identity.referrer_given} {identity.referrer_family}."
    if signed:
        text += f"\n\nElectronically signed, {identity.written(identity.taken)}."
    return Report(text=text, findings=findings, impression=impression, stated=stated)


def _stance(name: str, exam: Exam, rng: np.random.Generator) -> str:
    """What the radiologist commits to; a faint finding is at times passed over in silence."""
    silent, denies = happens(rng, 0.15), happens(rng, NEGATIVES_STATED)
    if name in exam.hedged:
        return "uncertain"
    finding = exam.findings.get(name)
    if finding is not None:
        return "unsaid" if silent and finding.magnitude < FAINT else "positive"
    return "negative" if denies else "unsaid"


def _fill(sentence: str, finding: Finding) -> str:
    third = min(2, int(3.0 * finding.magnitude))
    words = {
        "side": "bilateral" if finding.side == "both" else finding.side,
        "size": ("small", "moderate", "large")[third],
        "degree": ("mild", "moderate", "marked")[third],
        "zone": "upper" if finding.v_mm < -5.0 else "mid" if finding.v_mm < 45.0 else "lower",
    }
    return sentence.format(**words, **{k.capitalize(): w.capitalize() for k, w in words.items()})


def _choices(phrases: Phrases, stance: str, reserved: bool) -> tuple[str, ...]:
    return {
        ("positive", False): phrases.positive,
        ("positive", True): phrases.reserved_positive,
        ("negative", False): phrases.negative,
        ("negative", True): phrases.reserved_negative,
        ("uncertain", False): phrases.uncertain,
        ("uncertain", True): phrases.reserved_uncertain,
    }[stance, reserved]


def _finding_sentences(
    exam: Exam, bank: Bank, reserved: bool, stated: Mapping[str, str], rng: np.random.Generator
) -> Sentences:
    """One sentence for each stated finding; denials that belong together are often one."""
    sentences: Sentences = []
    said: set[str] = set()
    groups = (
        (bank.clear_lungs, ("consolidation", "nodule", "edema", "atelectasis"), 0.7),
        (bank.clear_pleura, ("effusion", "pneumothorax"), 0.4),
    )
    for choices, members, chance in groups:
        together = happens(rng, chance)
        if together and all(stated[name] == "negative" for name in members):
            sentences.append(("+".join(members), pick(rng, choices)))
            said.update(members)
    for name in FINDINGS:
        if stated[name] == "unsaid" or name in said:
            continue
        choices = _choices(bank.findings[name], stated[name], reserved)
        finding = exam.findings.get(name) or sample_finding(exam, name)
        sentences.append((name, _fill(pick(rng, choices), finding)))
    return sentences


def _tube_sentences(
    exam: Exam, bank: Bank, reserved: bool, stated: dict[str, str], rng: np.random.Generator
) -> Sentences:
    """Where each tube ends; adds the tubes to ``stated``."""
    sentences: Sentences = []
    none = happens(rng, 0.35) and not any(name in exam.tubes for name in TUBES)
    for name in TUBES:
        told = happens(rng, TUBES_STATED)
        stated[name] = "negative" if none else "unsaid"
        tube = exam.tubes.get(name)
        if tube is not None and told:
            stated[name] = "positive"
            sentence = bank.tubes[name, tube.position][1 if reserved else 0]
            sentences.append((name, _fill_tube(sentence, tube, exam.anatomy.stature)))
    if none:
        sentences.append(("tubes", pick(rng, bank.no_tubes)))
    return sentences


def _fill_tube(sentence: str, tube: Tube, stature: float) -> str:
    above_cm = max(-tube.tip_v_mm * stature / 10.0, 0.0)
    return sentence.format(Side=tube.side.capitalize(), route=tube.route, cm=f"{above_cm:.1f}")


def _impression(exam: Exam, bank: Bank, stated: Mapping[str, str], rng: np.random.Generator) -> str:
    """Findings that are asserted and tubes that are misplaced, at most four in all."""
    lines = [
        _fill(pick(rng, bank.findings[name].impression), exam.findings[name])
        for name in FINDINGS
        if stated[name] == "positive"
    ]
    proper = ("normal", "stomach", "svc")
    lines += [
        bank.malposition[name]
        for name in bank.malposition
        if stated[name] == "positive" and exam.tubes[name].position not in proper
    ]
    if lines:
        return " ".join(lines[:4])
    quiet = not exam.findings and not exam.hedged
    return pick(rng, bank.normal if quiet else bank.as_above)


def _header(exam: Exam, bank: Bank, identity: Identity, rng: np.random.Generator) -> str:
    """The block that a report system puts on top: everything in it has to go."""
    views = " and ".join(bank.views[view.name] for view in exam.views)
    name = f"{identity.family}, {identity.given}"
    lines = [
        f"PATIENT: {name}   MRN: {identity.patient_id}",
        f"DOB: {identity.written(identity.birth)}   ACCESSION: {identity.accession}",
        f"EXAM: {views}   DATE: {identity.written(identity.taken)}",
        f"REFERRED BY: Dr. {identity.referrer_given} {identity.referrer_family}",
        identity.institution,
    ]
    kept = 3 + int(rng.integers(3))
    return "\n".join(lines[:kept])
