"""Invented people, numbers and dates to plant, so that de-identification has something to find.

Every string is made from nonsense syllables or random digits: none belongs to anybody, and none can
occur in a report by chance.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from radsweep.corpus.phantom.draws import generator, pick
from radsweep.corpus.phantom.hospital import Hospital
from radsweep.corpus.phantom.latents import Exam

_FIRST = (
    "Quel", "Vant", "Osk", "Thar", "Mell", "Drux", "Brax", "Ilv", "Corv", "Zeph",
    "Yarl", "Pern", "Fenn", "Gorv", "Lusk", "Navr", "Rhun", "Sarv", "Tolv", "Wexl",
)  # fmt: skip
_LAST = (
    "andrik", "orell", "irby", "nockle", "anderby", "stedt", "wickham", "omar", "ellick", "urne",
    "iston", "akova", "ettinger", "olmes", "undsen", "arquay", "immler", "oskin",
    "eddow", "ubrecht",
)  # fmt: skip
_GIVEN = (
    "Ambrix", "Belvia", "Corvin", "Dalmira", "Elspry", "Fennic", "Galdia", "Hestrin", "Ivoria",
    "Jorvik", "Kelmina", "Lorvath", "Mirabex", "Nolvane", "Orsilla", "Pelgrin", "Quessa", "Rovenna",
    "Silvert", "Tamsyr",
)  # fmt: skip
_STREETS = ("Quarry Fern Lane", "Old Tannery Row", "Saltmarsh Crescent", "Gantry Hill Road")

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who was x-rayed, when, and on whose behalf: one exam's identifiers."""

    family: str
    given: str
    patient_id: str
    other_id: str
    birth: date
    sex: str
    address: str
    accession: str
    taken: date
    previous: date | None
    """Date of the patient's exam before this one."""
    clock: str
    """Time of the exam as HHMMSS."""
    referrer_family: str
    referrer_given: str
    institution: str
    study_uid: str
    written_as: str
    """``us`` (03/12/2019) or ``uk`` (12 March 2019), the habit of the hospital's reports."""

    @property
    def dicom_name(self) -> str:
        """Family^Given, as in a PN element."""
        return f"{self.family}^{self.given}"

    @property
    def referrer_dicom_name(self) -> str:
        """The referring physician as a PN element."""
        return f"{self.referrer_family}^{self.referrer_given}^^Dr"

    def written(self, day: date) -> str:
        """A date as this hospital's reports write it."""
        if self.written_as == "us":
            return f"{day.month:02d}/{day.day:02d}/{day.year}"
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"

    def planted(self) -> set[str]:
        """Every identifying string of the exam, in each form in which it is planted."""
        days = [self.birth, self.taken]
        if self.previous is not None:
            days.append(self.previous)
        return {
            self.family,
            self.given,
            self.family.upper(),
            self.dicom_name,
            f"{self.family}, {self.given}",
            f"{self.given} {self.family}",
            f"{self.family.upper()}_{self.given.upper()}",
            self.patient_id,
            self.other_id,
            self.address,
            self.accession,
            self.referrer_family,
            self.referrer_given,
            self.referrer_dicom_name,
            f"Dr. {self.referrer_given} {self.referrer_family}",
            self.institution,
            self.study_uid,
            *(f"{day:%Y%m%d}" for day in days),
            *(self.written(day) for day in days),
        }


def identity_of(hospital: Hospital, exam: Exam) -> Identity:
    """The invented identity of an exam; what belongs to the patient is the same in all exams."""
    person = generator(exam.anatomy.key, "person")
    family, given = _family(person), pick(person, _GIVEN)
    patient_id = f"{hospital.name[0].upper()}{_digits(person, 8)}"
    other_id = f"SSN-{_digits(person, 3)}-{_digits(person, 2)}-{_digits(person, 4)}"
    first_day = date(2016, 1, 4) + timedelta(days=int(person.integers(1800)))
    birth = first_day - timedelta(days=365 * exam.anatomy.age + int(person.integers(365)))
    street = f"{_digits(person, 4)} {pick(person, _STREETS)}, {_digits(person, 5)}"
    gap = timedelta(days=int(person.integers(3, 90)))
    taken = first_day + gap * exam.number
    visit = generator(exam.key, "visit")
    return Identity(
        family=family,
        given=given,
        patient_id=patient_id,
        other_id=other_id,
        birth=birth,
        sex="F" if exam.anatomy.female else "M",
        address=street,
        accession=f"ACC{_digits(visit, 9)}",
        taken=taken,
        previous=taken - gap if exam.number else None,
        clock=f"{int(visit.integers(24)):02d}{int(visit.integers(60)):02d}{int(visit.integers(60)):02d}",
        referrer_family=_family(visit),
        referrer_given=pick(visit, _GIVEN),
        institution=hospital.institution,
        study_uid=random_uid(visit),
        written_as="us" if hospital.wording == "riverside" else "uk",
    )


def random_uid(rng: np.random.Generator) -> str:
    """A UID under 2.25, the arc for random 128-bit numbers (DICOM PS3.5, annex B.2)."""
    return f"2.25.{int.from_bytes(rng.bytes(16), 'big')}"


def _family(rng: np.random.Generator) -> str:
    return pick(rng, _FIRST) + pick(rng, _LAST)


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, count))
