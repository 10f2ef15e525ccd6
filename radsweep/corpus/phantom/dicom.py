"""One film as a DICOM file, with identifiers planted wherever real files hide them."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from radsweep.corpus.phantom.canvas import Array
from radsweep.corpus.phantom.draws import generator, happens, pick, weighted
from radsweep.corpus.phantom.hospital import Hospital
from radsweep.corpus.phantom.identity import Identity, random_uid
from radsweep.corpus.phantom.latents import View
from radsweep.corpus.phantom.storage import choose_storage, set_pixels, stored_values

VIEW_MISSING = 0.35
"""Share of headers without ViewPosition, as in the Open-i films (Demner-Fushman et al. 2016)."""
LATERAL_NAMES = (("LL", 0.80), ("LATERAL", 0.15), ("RL", 0.05))


@dataclass(frozen=True, kw_only=True)
class Film:
    """A file to be written: its content, where it goes, and what has been planted in both."""

    dataset: Dataset
    sop_instance_uid: str
    path: str
    """Relative to the hospital's folder, with forward slashes."""
    token: str
    """Sixteen hex digits that stand for the film in names that may be seen."""
    planted: frozenset[str]


def film_of(
    pixels: Array, view: View, hospital: Hospital, identity: Identity, pixel_spacing_mm: float
) -> Film:
    """Make the DICOM dataset of a view.

    Args:
        pixels: (size, size) float32 in [0, 1], dense is bright.
        view: which exposure; its key seeds every choice made here.
        hospital: its scanner's habits.
        identity: what to plant.
        pixel_spacing_mm: side of a pixel at the patient.

    Returns:
        The film, ready for ``pydicom.dataset.Dataset.save_as``.
    """
    rng = generator(view.key, "dicom")
    storage = choose_storage(hospital.scanner, rng)
    digital = happens(rng, 0.35)
    kind = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    uid, series = UID(random_uid(rng)), UID(random_uid(rng))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = uid
    dataset.SeriesInstanceUID = series
    dataset.Modality = "DX" if digital else "CR"
    _set_image(dataset, view, hospital, pixel_spacing_mm, digital, rng)
    _plant(dataset, identity, rng)
    set_pixels(dataset, stored_values(pixels, storage), storage)
    token = generator(view.key, "token").bytes(8).hex()
    path, stem = _place(identity, view, token, rng)
    return Film(
        dataset=dataset,
        sop_instance_uid=uid,
        path=path,
        token=token,
        planted=frozenset({uid, series, stem}) | identity.planted(),
    )


def _set_image(
    dataset: Dataset,
    view: View,
    hospital: Hospital,
    pixel_spacing_mm: float,
    digital: bool,
    rng: np.random.Generator,
) -> None:
    """What describes the exposure and gives nobody away."""
    missing, chest = happens(rng, VIEW_MISSING), happens(rng, 0.66)
    lateral = weighted(rng, LATERAL_NAMES)
    if not missing:
        dataset.ViewPosition = view.name if view.frontal else lateral
    if chest:
        dataset.BodyPartExamined = "PORTABLE CHEST" if view.name == "AP" and digital else "CHEST"
    dataset.ImageType = ["ORIGINAL" if digital else "DERIVED", "PRIMARY"]
    dataset.Manufacturer = "Phantom Works"
    dataset.ManufacturerModelName = pick(rng, hospital.scanner.vendors)
    dataset.BurnedInAnnotation = "NO"
    dataset.PatientOrientation = ["L", "F"] if view.frontal else ["P", "F"]
    spacing = [f"{pixel_spacing_mm:.6f}"] * 2
    where = weighted(rng, (("imager", 0.4), ("pixel", 0.2), ("both", 0.4)))
    if where != "pixel":
        dataset.ImagerPixelSpacing = spacing
    if where != "imager":
        dataset.PixelSpacing = spacing
    if digital:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1


def _plant(dataset: Dataset, identity: Identity, rng: np.random.Generator) -> None:
    """Identifiers in their own elements, and some where nobody looks for them."""
    dataset.PatientName = identity.dicom_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = f"{identity.birth:%Y%m%d}"
    dataset.PatientSex = identity.sex
    dataset.AccessionNumber = identity.accession
    dataset.StudyInstanceUID = identity.study_uid
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, f"{identity.taken:%Y%m%d}")
    dataset.StudyTime = identity.clock
    dataset.InstitutionName = identity.institution
    dataset.ReferringPhysicianName = identity.referrer_dicom_name
    dataset.StudyID = identity.accession
    if happens(rng, 0.5):
        dataset.OtherPatientIDs = identity.other_id
    if happens(rng, 0.5):
        dataset.PatientAddress = identity.address
    dataset.StudyDescription = "CHEST"
    if happens(rng, 0.2):
        dataset.StudyDescription = f"CHEST {identity.given} {identity.family}"
    if happens(rng, 0.2):
        dataset.ImageComments = f"Pt {identity.family}, {identity.given}, bed 4"
    if happens(rng, 0.2):
        dataset.PatientComments = f"Seen {identity.written(identity.taken)}"
    if happens(rng, 0.3):
        block = dataset.private_block(0x0019, "PHANTOM RIS", create=True)
        block.add_new(0x10, "LO", identity.patient_id)
        block.add_new(0x11, "PN", identity.dicom_name)


def _place(identity: Identity, view: View, token: str, rng: np.random.Generator) -> tuple[str, str]:
    """Path and stem of the file; some folders and names give the patient away."""
    number = view.key.rsplit("/", 1)[-1]
    person = f"{identity.family.upper()}_{identity.given.upper()}"
    style = weighted(rng, (("token", 0.70), ("name", 0.15), ("accession", 0.10), ("folder", 0.05)))
    stem = {
        "token": token,
        "name": f"{person}_{token[:6]}",
        "accession": f"{identity.accession}_{number}",
        "folder": f"IMG_{token}",
    }[style]
    folder = f"dicom/{token[:2]}/{person}" if style == "folder" else f"dicom/{token[:2]}"
    return f"{folder}/{stem}.dcm", stem
