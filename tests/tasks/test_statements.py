import pytest

from radsweep.corpus.phantom import HOSPITALS, sample_patient
from radsweep.corpus.phantom.identity import identity_of
from radsweep.corpus.phantom.reports import compose
from radsweep.tasks.statements import FINDINGS, stated

PRESENT, POSSIBLE, DENIED = 1, -1, 0


@pytest.mark.parametrize(
    ("text", "finding", "state"),
    [
        ("There is a small left pleural effusion.", "effusion", PRESENT),
        ("No pleural effusion or pneumothorax.", "effusion", DENIED),
        ("No pleural effusion or pneumothorax.", "pneumothorax", DENIED),
        ("Without evidence of focal consolidation.", "consolidation", DENIED),
        ("The heart is not enlarged.", "cardiomegaly", DENIED),
        ("The heart is mildly enlarged.", "cardiomegaly", PRESENT),
        ("No pneumothorax is seen, but there is a small effusion.", "effusion", PRESENT),
        ("No pneumothorax is seen, but there is a small effusion.", "pneumothorax", DENIED),
        ("A small effusion cannot be excluded.", "effusion", POSSIBLE),
        ("Effusion not excluded.", "effusion", POSSIBLE),
        ("Possible right basilar atelectasis.", "atelectasis", POSSIBLE),
        ("Opacity suspicious for pneumonia.", "consolidation", POSSIBLE),
        ("?Small left effusion.", "effusion", POSSIBLE),
        ("No change in the large left effusion.", "effusion", PRESENT),
        ("The previously seen pneumothorax has resolved.", "pneumothorax", DENIED),
        ("Pulmonary oedema.", "edema", PRESENT),
        ("ET tube tip is 4.2 cm above the carina. No pneumothorax.", "ett", PRESENT),
        ("No pneumothorax. Right internal jugular central line in the SVC.", "cvc", PRESENT),
        ("FINDINGS: Clear lungs. IMPRESSION: Cardiomegaly.", "cardiomegaly", PRESENT),
    ],
)
def test_presence_denial_and_doubt_are_told_apart(text: str, finding: str, state: int) -> None:
    assert stated(text)[finding] == state


@pytest.mark.parametrize(
    "text", ["", "The lungs are clear.", "Heart size is normal.", "No acute disease.", "As above."]
)
def test_what_is_not_mentioned_is_not_stated(text: str) -> None:
    assert stated(text) == {}


def test_the_strongest_of_several_mentions_counts() -> None:
    assert stated("Possible effusion. IMPRESSION: Left pleural effusion.")["effusion"] == PRESENT
    assert stated("No effusion. Effusion cannot be excluded.")["effusion"] == POSSIBLE


def test_flipping_every_statement_flips_every_finding() -> None:
    """A text that says the opposite in nearly the same words must not score as nearly right."""
    said = stated("There is a pneumothorax. There is a nodule. No effusion.")
    opposite = stated("There is no pneumothorax. There is no nodule. Effusion.")
    assert said.keys() == opposite.keys()
    assert all(said[name] != opposite[name] for name in said)


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_it_reads_what_the_phantom_s_radiologists_wrote(hospital: str) -> None:
    written = {"positive": PRESENT, "uncertain": POSSIBLE, "negative": DENIED}
    place = HOSPITALS[hospital]
    for patient in range(150):
        for exam in sample_patient(place, 3, patient):
            report = compose(exam, place, identity_of(place, exam))
            text = f"FINDINGS: {report.findings} IMPRESSION: {report.impression}"
            found = stated(text)
            for name, stance in report.stated.items():
                if name not in FINDINGS:
                    continue
                # "The lungs are clear" denies four findings and names none of them.
                expected = written.get(stance, DENIED)
                assert found.get(name, DENIED) == expected, (name, stance, text)


NEGATIONS = [
    ("No focal consolidation, effusion or pneumothorax.", "effusion", DENIED),
    ("No focal consolidation, effusion or pneumothorax.", "consolidation", DENIED),
    ("There is no evidence of pulmonary edema.", "edema", DENIED),
    ("Negative for pneumothorax.", "pneumothorax", DENIED),
    ("Lungs are free of consolidation.", "consolidation", DENIED),
    ("Neither effusion nor pneumothorax.", "pneumothorax", DENIED),
    ("Absence of pleural fluid.", "effusion", DENIED),
    ("Pneumothorax is not identified.", "pneumothorax", DENIED),
    ("Pleural effusions are absent.", "effusion", DENIED),
    ("Interval resolution of the right effusion.", "effusion", DENIED),
    ("No displaced rib fracture.", "fracture", DENIED),
    ("Pneumonia has been ruled out.", "consolidation", DENIED),
    ("No nodule; mild cardiomegaly.", "nodule", DENIED),
    ("No nodule; mild cardiomegaly.", "cardiomegaly", PRESENT),
    ("No effusion. Small apical pneumothorax.", "pneumothorax", PRESENT),
    ("Not only effusion, also atelectasis.", "effusion", PRESENT),
    ("No interval change in the pneumothorax.", "pneumothorax", PRESENT),
    ("Without effusion, however there is consolidation.", "consolidation", PRESENT),
    ("Clear lungs except for a nodule.", "nodule", PRESENT),
    ("Pneumothorax cannot be entirely excluded.", "pneumothorax", POSSIBLE),
    ("Pneumonia is not ruled out.", "consolidation", POSSIBLE),
    ("May represent early pneumonia.", "consolidation", POSSIBLE),
    ("Questionable nodule in the left apex.", "nodule", POSSIBLE),
    ("Atelectasis versus consolidation.", "atelectasis", POSSIBLE),
    ("Atelectasis versus consolidation.", "consolidation", POSSIBLE),
    ("Concern for pulmonary edema.", "edema", POSSIBLE),
]


def test_a_negation_set_is_read_without_a_fault() -> None:
    read = {(text, name): stated(text).get(name) for text, name, _ in NEGATIONS}
    assert read == {(text, name): state for text, name, state in NEGATIONS}
