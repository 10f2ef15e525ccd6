import pytest

from radsweep.corpus.reports import date_forms, scrub, sections
from radsweep.corpus.xray import Identity

REPORT = """PATIENT: Doe, Jane   MRN: R83306457
EXAM: Chest, AP portable   DATE: 02/23/2020

TECHNIQUE: One view.

FINDINGS: Tube tip is 5.9 cm above the carina.
No effusion.

COMPARISON: 01/02/2019.

IMPRESSION: 1. No pneumothorax. Called to Dr. Tamsyr Gorvirby.

Electronically signed by Sam Roe, 02/23/2020."""


def test_only_findings_and_impression_are_kept() -> None:
    assert sections(REPORT) == (
        "FINDINGS: Tube tip is 5.9 cm above the carina. No effusion.\n"
        "IMPRESSION: 1. No pneumothorax. Called to Dr. Tamsyr Gorvirby."
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "FINDINGS: Clear lungs. IMPRESSION: Normal.",
            "FINDINGS: Clear lungs.\nIMPRESSION: Normal.",
        ),
        ("FINDINGS:\n\nIMPRESSION: Normal.", "IMPRESSION: Normal."),
        ("CONCLUSION:\nNormal.", "IMPRESSION: Normal."),
        (
            "Heart size is normal. Findings are stable.",
            "Heart size is normal. Findings are stable.",
        ),
        ("Patient name: Doe\nMRN: 12\nHeart is normal.\nSigned by Roe", "Heart is normal."),
        ("INDICATION: Cough.\nFINDINGS: Clear.", "FINDINGS: Clear."),
        (
            "Findings: Clear.\nComparison: None.\nImpression: Normal.",
            "FINDINGS: Clear.\nIMPRESSION: Normal.",
        ),
        ("FINDINGS\nClear.\nIMPRESSION\nNormal.", "FINDINGS: Clear.\nIMPRESSION: Normal."),
        (
            "FINDINGS: The findings are stable. Impression is unchanged.",
            "FINDINGS: The findings are stable. Impression is unchanged.",
        ),
        ("FINDINGS:\n", ""),
        ("", ""),
    ],
)
def test_sections_of_reports_written_in_other_ways(text: str, kept: str) -> None:
    assert sections(text) == kept


JANE = Identity(
    patient="R83306457",
    accession="ACC-1",
    names=("Doe^Jane^Q", "45"),
    places=("Elsewhere Chest Clinic", "1 Main Street"),
    dates=("20200305",),
)


@pytest.mark.parametrize(
    "written",
    ["20200305", "2020-03-05", "03/05/2020", "3/5/20", "05.03.2020", "5 March 2020",
     "March 5, 2020", "5-Mar-2020", "MAR 5", "march 2020", "5th of March 2020", "3/5"],
)  # fmt: skip
def test_a_date_is_found_however_it_is_written(written: str) -> None:
    for identity in (JANE, Identity()):
        scrubbed = scrub(f"Compared with {written}, stable.", identity)
        assert not any(digit in scrubbed for digit in "0123456789")
        assert "mar" not in scrubbed.lower()
        assert scrubbed.startswith("Compared with ___")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Jane DOE has a nodule.", "___ has a nodule."),
        ("jane's heart is large. Doe, seen.", "___'s heart is large. ___, seen."),
        ("MRN R83306457, accession ACC-1.", "MRN ___, accession ___."),
        ("Chest tube placed at Elsewhere.", "Chest tube placed at ___."),
        ("From the elsewhere chest clinic.", "From the ___."),
        ("Told Dr. Sam Roe by phone 555-123-4567.", "Told Dr. ___ by phone ___."),
        ("Exam 1.2.840.113619.2.55.3 and AB1234567.", "Exam ___ and ___."),
        ("Write to sam.roe@example.org now.", "Write to ___ now."),
    ],
)
def test_identifiers_are_replaced(text: str, left: str) -> None:
    assert scrub(text, JANE) == left


@pytest.mark.parametrize(
    "text",
    [
        "Endotracheal tube tip is 5.9 cm above the carina.",
        "Nodule of 45 mm at the 4th rib, 1/3 of the lung. T12 wedge. L1-L2.",
        "Opacity in segment 6 may represent atelectasis. It may 2 days later.",
        "There are 2 chest tubes; may represent edema. Marked cardiomegaly.",
        "Changes since 2015. Decreased effusion, marching bands of atelectasis.",
        "8-10 mm nodule. 3 x 4 cm mass. SpO2 was 94-96.",
    ],
)
def test_findings_are_left_as_they_are(text: str) -> None:
    assert scrub(text, JANE) == text


def test_a_date_that_is_none_is_taken_as_it_stands() -> None:
    assert date_forms("2020") == {"2020"}
    assert date_forms("20201399") == {"20201399"}
    assert date_forms("") == set()
