"""The phantom's folder: DICOM that decodes to the drawn picture, tables, planted identifiers."""

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEGBaseline8Bit

from radsweep.corpus.phantom import HOSPITALS, TUBES, render_image, sample_patient, write_hospital
from radsweep.corpus.phantom.broken import FAULTS
from radsweep.corpus.phantom.dicom import film_of
from radsweep.corpus.phantom.identity import identity_of
from radsweep.corpus.phantom.storage import TRANSFER_SYNTAXES, Storage, set_pixels, stored_values
from radsweep.errors import SpecError

RIVERSIDE = HOSPITALS["riverside"]
SIZE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("phantom") / "hospital"
    card = write_hospital(place, RIVERSIDE, 60, SIZE, 3, processes=1, broken=len(FAULTS))
    return place, card


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(dataset):
    """The picture in [0, 1] that a viewer makes of a dataset, dense is bright."""
    values = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
    if "VOILUTSequence" in dataset:
        picture = apply_voi_lut(dataset.pixel_array, dataset).astype(np.float64) / 65535.0
    elif "WindowWidth" in dataset:
        centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
        picture = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)
    else:
        picture = values / (2**dataset.BitsStored - 1)
    return 1.0 - picture if dataset.PhotometricInterpretation == "MONOCHROME1" else picture


STORAGES = [
    (syntax, tone, bits)
    for syntax, _ in TRANSFER_SYNTAXES
    for tone, depths in (
        ("full", (8, 10, 12, 14, 16)),
        ("window", (8, 10, 12, 14, 16)),
        ("rescale", (10, 12, 14, 16)),
        ("lut", (10, 12)),
    )
    for bits in depths
    if bits == 8 or syntax != JPEGBaseline8Bit
]
"""Every combination that the phantom writes."""


@pytest.fixture(scope="module")
def drawn_film():
    exam = sample_patient(RIVERSIDE, 0, 1)[0]
    pixels, _ = render_image(exam, exam.views[0], RIVERSIDE, 63)
    return exam, pixels


@pytest.mark.parametrize(("syntax", "tone", "bits"), STORAGES)
def test_every_storage_decodes_to_the_picture_within_its_bits(
    tmp_path, drawn_film, syntax, tone, bits
):
    exam, pixels = drawn_film
    lossy = syntax == JPEGBaseline8Bit
    levels = 2**bits - 1
    for monochrome1 in (False, True):
        storage = Storage(
            transfer_syntax=syntax,
            bits=bits,
            monochrome1=monochrome1,
            tone=tone,
            lowest=0 if tone in ("full", "lut") else levels // 10,
            highest=levels if tone in ("full", "lut") else levels - levels // 8,
            slope=0.5 if tone == "rescale" else 1.0,
            intercept=-1024.0 if tone == "rescale" else 0.0,
        )
        identity = identity_of(RIVERSIDE, exam)
        film = film_of(pixels, exam.views[0], RIVERSIDE, identity, 5.0)
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTSequence", "RescaleSlope"):
            if keyword in film.dataset:
                delattr(film.dataset, keyword)
        set_pixels(film.dataset, stored_values(pixels, storage), storage)
        film.dataset.save_as(tmp_path / "film.dcm", enforce_file_format=True)
        read = pydicom.dcmread(tmp_path / "film.dcm")
        assert read.file_meta.TransferSyntaxUID == syntax
        assert read.BitsStored == bits
        error = np.abs(shown(read) - pixels)
        if lossy:
            assert error.mean() < 0.02
        else:
            step = 1.0 / (storage.highest - storage.lowest)
            assert error.max() <= step * (1.0 if tone == "lut" else 0.51) + 2e-5


def test_written_films_are_the_rendered_ones(folder):
    place, card = folder
    drawn = {}
    for index in range(card.patients):
        for exam in sample_patient(RIVERSIDE, 3, index):
            accession = identity_of(RIVERSIDE, exam).accession
            drawn[accession] = [render_image(exam, v, RIVERSIDE, SIZE)[0] for v in exam.views]
    checked = 0
    for path in place.glob("dicom/**/*.dcm"):
        if path.relative_to(place).as_posix() in card.broken:
            continue
        dataset = pydicom.dcmread(path)
        picture = shown(dataset)
        errors = [np.abs(picture - film).mean() for film in drawn[dataset.AccessionNumber]]
        assert min(errors) < (0.02 if dataset.BitsStored == 8 else 0.002)
        checked += 1
    assert checked == card.images


def test_all_transfer_syntaxes_and_polarities_occur(folder):
    place, card = folder
    # 60 patients make some 130 films: each syntax has a share of 3% or more.
    assert len(card.transfer_syntaxes) >= len(TRANSFER_SYNTAXES) - 1
    sound = [
        p for p in place.glob("dicom/**/*.dcm") if str(p.relative_to(place)) not in card.broken
    ]
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sound]
    ones = np.mean([h.PhotometricInterpretation == "MONOCHROME1" for h in headers])
    assert 0.3 < ones < 0.65
    assert {h.BitsStored for h in headers} >= {8, 10, 12, 14}
    missing = np.mean(["ViewPosition" not in h for h in headers])
    assert 0.2 < missing < 0.5


def test_tables_fit_together(folder):
    place, card = folder
    reports = rows(place / "reports.csv")
    labels = {row["sop_instance_uid"]: row for row in rows(place / "labels.csv")}
    masks = {row["sop_instance_uid"]: row for row in rows(place / "masks.csv")}
    tips = rows(place / "tips.csv")
    assert len(reports) == card.exams
    assert len({row["accession_number"] for row in reports}) == card.exams
    assert len(labels) == card.images
    assert len(masks) == card.frontal_images
    assert masks.keys() <= labels.keys()
    tipped = {(row["sop_instance_uid"], row["tube"]) for row in tips}
    for uid, row in masks.items():
        for tube in TUBES:
            path = row[f"mask_{tube}"]
            assert bool(path) == ((uid, tube) in tipped)
            assert labels[uid][f"tube_{tube}"] in ({"1", ""} if path else {"0", ""})
            if path:
                mask = np.asarray(Image.open(place / path))
                assert mask.shape == (SIZE, SIZE)
                assert set(np.unique(mask)) == {0, 255}
    assert json.loads((place / "phantom.json").read_text())["images"] == card.images


def test_tips_lie_on_their_masks(folder):
    place, card = folder
    masks = {row["sop_instance_uid"]: row for row in rows(place / "masks.csv")}
    spacing = {}
    for path in place.glob("dicom/**/*.dcm"):
        if path.relative_to(place).as_posix() not in card.broken:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            either = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
            spacing[header.SOPInstanceUID] = float(either[0])
    for row in rows(place / "tips.csv"):
        uid = row["sop_instance_uid"]
        mask = np.asarray(Image.open(place / masks[uid][f"mask_{row['tube']}"])) > 0
        x, y = float(row["tip_x_mm"]) / spacing[uid], float(row["tip_y_mm"]) / spacing[uid]
        ys, xs = np.nonzero(mask)
        assert np.hypot(xs + 0.5 - x, ys + 0.5 - y).min() < 1.5


def test_planted_identifiers_are_in_the_files_and_in_the_list(folder):
    place, card = folder
    planted = json.loads((place / "planted_identifiers.json").read_text())
    assert len(planted) == len(set(planted))
    names = "\n".join(p.relative_to(place).as_posix() for p in place.glob("dicom/**/*"))
    tables = (place / "reports.csv").read_text() + (place / "labels.csv").read_text()
    headers = ""
    for path in place.glob("dicom/**/*.dcm"):
        if path.relative_to(place).as_posix() in card.broken:
            continue
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        headers += "\n".join(str(element.value) for element in dataset.iterall()) + "\n"
        for keyword in (
            "PatientName", "PatientID", "AccessionNumber", "StudyDate", "PatientBirthDate",
            "InstitutionName", "ReferringPhysicianName", "SOPInstanceUID", "SeriesInstanceUID",
            "StudyInstanceUID",
        ):  # fmt: skip
            assert str(dataset[keyword].value) in planted
        assert path.stem in planted
        assert any(text in path.stem or text in str(path.parent) for text in planted)
    found = [text for text in planted if text in headers or text in tables or text in names]
    assert len(found) > 0.85 * len(planted)
    assert any(text in names for text in planted if "_" in text and text.isupper())


def test_fewer_patients_are_a_prefix_and_processes_change_nothing(tmp_path, folder):
    place, _ = folder
    write_hospital(tmp_path / "few", RIVERSIDE, 5, SIZE, 3, processes=2, broken=0)
    few = sorted(p.relative_to(tmp_path / "few") for p in (tmp_path / "few").rglob("*.*"))
    assert sum(path.suffix == ".dcm" for path in few) >= 5
    for path in few:
        small, large = (tmp_path / "few" / path).read_bytes(), (place / path)
        if path.suffix == ".csv":
            assert large.read_bytes().startswith(small)
        elif path.suffix in (".dcm", ".png"):
            assert large.read_bytes() == small


def test_progress_ends_at_the_number_of_patients(tmp_path):
    seen = []
    write_hospital(
        tmp_path / "h", RIVERSIDE, 7, 32, 0, processes=1, broken=0,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (7, 7)
    assert seen == sorted(seen)


def test_broken_files_cannot_be_taken_for_films(folder):
    place, card = folder
    assert sorted(card.broken.values()) == sorted(FAULTS)
    for path, fault in card.broken.items():
        if fault in ("empty", "text"):
            with pytest.raises((InvalidDicomError, EOFError)):
                pydicom.dcmread(place / path)
            continue
        dataset = pydicom.dcmread(place / path)
        if fault == "ct":
            assert dataset.Modality == "CT"
        elif fault == "constant":
            assert np.ptp(dataset.pixel_array.astype(int)) == 0
        else:
            with pytest.raises(Exception):  # noqa: B017 - decoders disagree on the class
                _ = dataset.pixel_array
    uids = {row["sop_instance_uid"] for row in rows(place / "labels.csv")}
    assert len(uids) == card.images


def test_a_hospital_travels_to_worker_processes():
    assert pickle.loads(pickle.dumps(RIVERSIDE)) == RIVERSIDE


def test_other_seeds_and_decorrelated_draws_have_other_people():
    people = set()
    for hospital, seed in (
        (RIVERSIDE, 0),
        (RIVERSIDE, 1),
        (replace(RIVERSIDE, decorrelated=True), 0),
    ):
        people.add(identity_of(hospital, sample_patient(hospital, seed, 0)[0]).patient_id)
    assert len(people) == 3


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SpecError, match="not empty"):
        write_hospital(tmp_path, RIVERSIDE, 1, 32, 0)
    with pytest.raises(SpecError, match="patients=0"):
        write_hospital(tmp_path / "new", RIVERSIDE, 0, 32, 0)
    with pytest.raises(SpecError, match="4096 px"):
        write_hospital(tmp_path / "new", RIVERSIDE, 1, 4096, 0)
