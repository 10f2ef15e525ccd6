"""What a DICOM header says of the exam, and whether it is a chest radiograph of a person at all."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, TypeAlias

from radsweep.corpus.xray import MAX_AGE_YEARS, Identity, RefusedError

Attributes: TypeAlias = Mapping[str, Any]
"""Values of a header by keyword; what is absent is not in it."""

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
DIGITAL_XRAY_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DIGITAL_XRAY_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RADIOGRAPH_CLASSES = (
    COMPUTED_RADIOGRAPHY,
    DIGITAL_XRAY_FOR_PRESENTATION,
    DIGITAL_XRAY_FOR_PROCESSING,
    SECONDARY_CAPTURE,
)
RADIOGRAPH_MODALITIES = ("CR", "DX", "RG", "DR")
"""DR is not a DICOM term, but some archives write it."""

CHEST = re.compile(r"CHEST|THORA|TORAX|THX|LUNG|RIB|PULM", re.IGNORECASE)
ANIMAL = re.compile(r"\b(canine|feline|equine|bovine|dog|cat|horse|veterinar\w*)\b", re.IGNORECASE)

PERSONS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "ReferringPhysicianName", "RequestingPhysician", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "OperatorsName", "ResponsiblePerson",
    "ConsultingPhysicianName", "ScheduledPerformingPhysicianName",
)  # fmt: skip
PLACES = (
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PatientAddress",
    "ReferringPhysicianAddress", "StationName", "MilitaryRank", "BranchOfService",
)  # fmt: skip
NUMBERS = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "SOPInstanceUID",
    "StudyInstanceUID", "SeriesInstanceUID",
    "PatientTelephoneNumbers", "ReferringPhysicianTelephoneNumbers",
    "MedicalRecordLocator", "AdmissionID", "DeviceSerialNumber", "InsurancePlanIdentification",
    "IssuerOfPatientID", "PerformedProcedureStepID", "RequestedProcedureID",
)  # fmt: skip
DATES = (
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate",
    "AdmittingDate", "InstanceCreationDate", "LastMenstrualDate", "PerformedProcedureStepStartDate",
)  # fmt: skip
DESCRIPTIONS = (
    "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName",
    "AcquisitionDeviceProcessingDescription", "PatientSpeciesDescription",
)  # fmt: skip
IDENTIFYING = (*PERSONS, *PLACES, *NUMBERS, *DATES)
"""Read to be scrubbed from the report, and for nothing else but the keyed hashes."""


def text_of(attributes: Attributes, keyword: str) -> str:
    """The values of an attribute as one text, stripped; empty if it is absent or empty."""
    value: Any = attributes.get(keyword)
    if value is None:
        return ""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value).strip(" \0")
    return " ".join(str(part).strip(" \0") for part in value).strip()


def check_radiograph(attributes: Attributes) -> None:
    """Raise RefusedError unless this is a single, processed chest radiograph of a person."""
    modality, sop_class = (
        text_of(attributes, "Modality").upper(),
        text_of(attributes, "SOPClassUID"),
    )
    stated = text_of(attributes, "BodyPartExamined")
    described = " ".join(text_of(attributes, keyword) for keyword in DESCRIPTIONS)
    if sop_class and sop_class not in RADIOGRAPH_CLASSES:
        raise RefusedError("not_a_radiograph", "SOPClassUID")
    if modality not in RADIOGRAPH_MODALITIES:
        # Scanned films and exports are secondary captures; they count where they say chest.
        is_export = modality in ("", "OT", "SC") and CHEST.search(described) is not None
        if not is_export:
            raise RefusedError("not_a_radiograph", "Modality")
    if ANIMAL.search(f"{described} {text_of(attributes, 'InstitutionName')}"):
        raise RefusedError("not_human")
    if stated and not CHEST.search(stated):
        raise RefusedError("not_chest", "BodyPartExamined")
    for_processing = text_of(attributes, "PresentationIntentType").upper() == "FOR PROCESSING"
    if for_processing or sop_class == DIGITAL_XRAY_FOR_PROCESSING:
        raise RefusedError("not_for_presentation")
    if text_of(attributes, "BurnedInAnnotation").upper() == "YES":
        raise RefusedError("burned_in")
    if text_of(attributes, "NumberOfFrames") not in ("", "0", "1"):
        raise RefusedError("multi_frame")


FRONTAL = re.compile(r"\b(AP|PA|FRONTAL|ANTERIOR|POSTERIOR)\b", re.IGNORECASE)
LATERAL = re.compile(r"\b(LL|RL|LLD|RLD|LAT|LATERAL|PROFILE?)\b", re.IGNORECASE)


def view_from_text(text: str) -> tuple[str, str | None]:
    """(view, projection) that ``PA``, ``LL``, ``W CHEST LAT``, ``frontal`` and so on mean."""
    words = re.sub(r"[^A-Za-z]+", " ", text)
    lateral, frontal = LATERAL.search(words), FRONTAL.search(words)
    if lateral and not frontal:
        return "lateral", None
    if frontal and not lateral:
        word = frontal.group().upper()
        return "frontal", word if word in ("AP", "PA") else None
    return "unknown", None


def view_of(attributes: Attributes) -> tuple[str, str | None]:
    """(view, projection) by the view position, the series' own words, or the orientation."""
    for keyword in (
        "ViewPosition",
        "SeriesDescription",
        "AcquisitionDeviceProcessingDescription",
        "ProtocolName",
    ):
        view, projection = view_from_text(text_of(attributes, keyword))
        if view != "unknown":
            return view, projection
    orientation = text_of(attributes, "PatientOrientation").upper().split()
    if len(orientation) == 2 and orientation[1] == "F":
        return {"L": "frontal", "R": "frontal", "A": "lateral", "P": "lateral"}.get(
            orientation[0], "unknown"
        ), None
    return "unknown", None


def sex_of(text: str) -> str | None:
    """``F``, ``M`` or ``O``; None for anything else."""
    first = text.strip()[:1].upper()
    return first if first in ("F", "M", "O") else None


def capped_age(years: float) -> int | None:
    """Whole years up to MAX_AGE_YEARS; None for an impossible age."""
    return min(int(years), MAX_AGE_YEARS) if 0 <= years < 130 else None


def age_of(attributes: Attributes) -> int | None:
    """Years at the exam, from the stated age or else from the two dates, which are not kept."""
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", text_of(attributes, "PatientAge").upper())
    if stated:
        per_year = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[stated.group(2)]
        return capped_age(int(stated.group(1)) / per_year)
    born, seen = (
        _date(text_of(attributes, keyword)) for keyword in ("PatientBirthDate", "StudyDate")
    )
    return capped_age((seen - born).days / 365.25) if born and seen else None


def _date(text: str) -> date | None:
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def spacing_of(attributes: Attributes) -> tuple[float, float] | None:
    """(row, column) in mm: calibrated, else at the detector; None if absent or impossible."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value: Any = attributes.get(keyword)
        try:
            row, column = (float(part) for part in value)
        except (TypeError, ValueError):
            continue
        if 0.01 <= row <= 20 and 0.01 <= column <= 20:
            return row, column
    return None


def identity_of(attributes: Attributes) -> Identity:
    """Everything in the header that names somebody."""
    return Identity(
        patient=text_of(attributes, "PatientID") or None,
        exam=text_of(attributes, "StudyInstanceUID") or None,
        accession=text_of(attributes, "AccessionNumber") or None,
        image=text_of(attributes, "SOPInstanceUID") or None,
        names=tuple(text for keyword in PERSONS if (text := text_of(attributes, keyword))),
        places=tuple(text for keyword in PLACES if (text := text_of(attributes, keyword))),
        numbers=tuple(text for keyword in NUMBERS if (text := text_of(attributes, keyword))),
        dates=tuple(text for keyword in DATES if (text := text_of(attributes, keyword))),
    )
