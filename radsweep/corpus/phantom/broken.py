"""Files that no ingest may swallow: each must end in quarantine, with a reason."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from radsweep.corpus.phantom.canvas import Array
from radsweep.corpus.phantom.dicom import Film, film_of
from radsweep.corpus.phantom.draws import generator
from radsweep.corpus.phantom.hospital import Hospital
from radsweep.corpus.phantom.identity import identity_of
from radsweep.corpus.phantom.latents import Exam
from radsweep.corpus.phantom.render import render_image
from radsweep.corpus.phantom.sample import sample_patient

FAULTS = ("truncated", "empty", "text", "ct", "constant")
"""In the order in which they are written, over and over."""


def write_broken(
    directory: Path, hospital: Hospital, seed: int, size: int, count: int
) -> tuple[dict[str, str], set[str]]:
    """Write ``count`` broken files below ``directory``.

    Returns:
        Path relative to ``directory`` -> fault, and the identifiers planted in them.
    """
    faults: dict[str, str] = {}
    planted: set[str] = set()
    for number in range(count):
        fault = FAULTS[number % len(FAULTS)]
        film = _film(hospital, seed, size, number, fault)
        token = generator(hospital.key, seed, "broken", number).bytes(8).hex()
        path = f"dicom/{token[:2]}/{token}.dcm"
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(_content(film, fault))
        faults[path] = fault
        planted |= {*film.planted, token} if fault not in ("empty", "text") else {token}
    return faults, planted


def _film(hospital: Hospital, seed: int, size: int, number: int, fault: str) -> Film:
    """A whole film of a patient who is in no table: a population of its own."""
    strangers = replace(hospital, name=f"{hospital.name}/broken")
    exam: Exam = sample_patient(strangers, seed, number)[0]
    view = exam.views[0]
    pixels: Array = np.full((size, size), 0.5, dtype=np.float32)
    if fault != "constant":
        pixels, _ = render_image(exam, view, hospital, size)
    identity = identity_of(hospital, exam)
    return film_of(pixels, view, hospital, identity, view.field_mm / size)


def _content(film: Film, fault: str) -> bytes:
    if fault == "empty":
        return b""
    if fault == "text":
        return b"This is a note about a film, and not the film.\n" * 8
    if fault == "ct":
        film.dataset.Modality = "CT"
        film.dataset.SOPClassUID = CTImageStorage
        film.dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    buffer = io.BytesIO()
    film.dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    return content[: -int(0.4 * len(film.dataset.PixelData))] if fault == "truncated" else content
