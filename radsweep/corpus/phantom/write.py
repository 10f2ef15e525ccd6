"""A synthetic hospital on disk: films, reports, labels, masks, tips, planted identifiers."""

import csv
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus.phantom.broken import write_broken
from radsweep.corpus.phantom.canvas import frame_of
from radsweep.corpus.phantom.dicom import Film, film_of
from radsweep.corpus.phantom.hospital import TUBES, Hospital
from radsweep.corpus.phantom.identity import Identity, identity_of
from radsweep.corpus.phantom.labels import COLUMNS, labels_of
from radsweep.corpus.phantom.latents import Exam, View
from radsweep.corpus.phantom.render import LARGEST, SMALLEST, render_image
from radsweep.corpus.phantom.reports import compose
from radsweep.corpus.phantom.sample import sample_patient
from radsweep.corpus.phantom.tubes import tip_of
from radsweep.errors import SpecError

PHANTOM_VERSION = 1
"""Raised when the same (hospital, seed, patient, size) gives another film, label or report."""

Row = dict[str, str]

TABLES: dict[str, tuple[str, ...]] = {
    "reports": ("accession_number", "report"),
    "labels": ("sop_instance_uid", *COLUMNS),
    "masks": ("sop_instance_uid", *(f"mask_{name}" for name in TUBES)),
    "tips": ("sop_instance_uid", "tube", "tip_x_mm", "tip_y_mm", "position"),
}
"""Tables and their columns; each is written as ``<name>.csv``."""


@dataclass(frozen=True, kw_only=True)
class PhantomCard:
    """What a hospital's folder holds; also written as ``phantom.json``."""

    hospital: str
    decorrelated: bool
    seed: int
    size: int
    """Side of the images in pixels."""
    patients: int
    exams: int
    images: int
    frontal_images: int
    present: dict[str, int]
    """Findings and tubes -> images that truly have them, labelled or not."""
    views: dict[str, int]
    transfer_syntaxes: dict[str, int]
    broken: dict[str, str]
    """Path of each broken file -> its fault."""
    version: int = PHANTOM_VERSION


@dataclass
class _Share:
    """What some patients add to the tables."""

    tables: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})
    planted: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    transfer_syntaxes: Counter[str] = field(default_factory=Counter)

    def add(self, other: "_Share") -> None:
        """Append the rows and sum the counts of another share."""
        for name, rows in other.tables.items():
            self.tables[name] += rows
        self.planted |= other.planted
        self.counts += other.counts
        self.present += other.present
        self.views += other.views
        self.transfer_syntaxes += other.transfer_syntaxes


def write_hospital(
    directory: Path | str,
    hospital: Hospital,
    patients: int,
    size: int,
    seed: int,
    *,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
    broken: int = 4,
) -> PhantomCard:
    """Write the films and tables of a synthetic hospital.

    Every patient is a function of (hospital, seed, index) alone: fewer patients are a prefix of
    more, and the number of processes changes nothing.

    Args:
        directory: a new or empty folder.
        hospital: which hospital.
        patients: how many; each has one to four exams of one or two images.
        size: side of the images in pixels.
        seed: which draw of the population.
        processes: workers; 1 writes in this process.
        progress: called with (patients done, patients in all) as they are written.
        broken: how many further files to write that an ingest must refuse.

    Returns:
        The card.

    Raises:
        SpecError: when a number is out of range or the folder holds something already.
    """
    directory = Path(directory)
    _check(directory, patients, size, processes, broken)
    (directory / "masks").mkdir(parents=True, exist_ok=True)
    whole, done = _Share(), 0
    for count, share in _shares(directory, hospital, patients, size, seed, processes):
        whole.add(share)
        done += count
        if progress is not None:
            progress(done, patients)
    faults, planted = write_broken(directory, hospital, seed, size, broken)
    card = PhantomCard(
        hospital=hospital.name,
        decorrelated=hospital.decorrelated,
        seed=seed,
        size=size,
        patients=patients,
        exams=whole.counts["exams"],
        images=whole.counts["images"],
        frontal_images=whole.counts["frontal_images"],
        present=dict(sorted(whole.present.items())),
        views=dict(sorted(whole.views.items())),
        transfer_syntaxes=dict(sorted(whole.transfer_syntaxes.items())),
        broken=faults,
    )
    _write_tables(directory, whole.tables)
    _write_json(directory / "planted_identifiers.json", sorted(whole.planted | planted))
    _write_json(directory / "phantom.json", asdict(card))
    return card


def _check(directory: Path, patients: int, size: int, processes: int, broken: int) -> None:
    if patients < 1 or processes < 1 or broken < 0:
        raise SpecError(
            f"patients={patients}, processes={processes}, broken={broken}: give at least 1, 1 and 0"
        )
    if not SMALLEST <= size <= LARGEST:
        raise SpecError(f"image size is {size} px; the phantom draws {SMALLEST} to {LARGEST} px")
    if directory.exists() and any(directory.iterdir()):
        raise SpecError("the phantom's folder is not empty; name a new one or empty it first")


def _shares(
    directory: Path, hospital: Hospital, patients: int, size: int, seed: int, processes: int
) -> Iterator[tuple[int, _Share]]:
    """Shares of the patients in order, each with the number of patients that it holds."""
    chunk = max(1, min(25, -(-patients // (2 * processes))))
    starts = range(0, patients, chunk)
    chunks = [range(start, min(start + chunk, patients)) for start in starts]
    fixed: Sequence[Iterator[Any]] = [
        repeat(directory),
        repeat(hospital),
        repeat(size),
        repeat(seed),
    ]
    if processes == 1:
        for part, share in zip(chunks, map(_write_patients, *fixed, chunks), strict=True):
            yield len(part), share
        return
    # Spawned workers start clean: a fork of a process that runs Ray or torch may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(chunks)), mp_context=context) as pool:
        for part, share in zip(chunks, pool.map(_write_patients, *fixed, chunks), strict=True):
            yield len(part), share


def _write_patients(
    directory: Path, hospital: Hospital, size: int, seed: int, indices: range
) -> _Share:
    share = _Share()
    for index in indices:
        for exam in sample_patient(hospital, seed, index):
            identity = identity_of(hospital, exam)
            report = compose(exam, hospital, identity)
            row = {"accession_number": identity.accession, "report": report.text}
            share.tables["reports"].append(row)
            share.counts["exams"] += 1
            for view in exam.views:
                _write_view(directory, exam, view, hospital, identity, size, share)
    return share


def _write_view(
    directory: Path,
    exam: Exam,
    view: View,
    hospital: Hospital,
    identity: Identity,
    size: int,
    share: _Share,
) -> None:
    pixels, masks = render_image(exam, view, hospital, size)
    film = film_of(pixels, view, hospital, identity, view.field_mm / size)
    path = directory / film.path
    path.parent.mkdir(parents=True, exist_ok=True)
    film.dataset.save_as(path, enforce_file_format=True)
    uid = film.sop_instance_uid
    share.tables["labels"].append({"sop_instance_uid": uid, **labels_of(exam, view)})
    share.planted |= film.planted
    share.counts["images"] += 1
    share.views[view.name] += 1
    share.transfer_syntaxes[film.dataset.file_meta.TransferSyntaxUID.name] += 1
    share.present.update([*exam.findings, *exam.tubes])
    if view.frontal:
        share.counts["frontal_images"] += 1
        share.tables["masks"].append(_write_masks(directory, film, masks))
        share.tables["tips"] += _tips(exam, view, uid, size)


def _write_masks(directory: Path, film: Film, masks: Any) -> Row:
    """A PNG for each tube that is there; an empty cell is a mask known to be empty."""
    row = {"sop_instance_uid": film.sop_instance_uid}
    for name in TUBES:
        row[f"mask_{name}"] = ""
        if name in masks:
            mask: NDArray[np.bool_] = masks[name]
            path = f"masks/{film.token}_{name}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(directory / path, compress_level=1)
            row[f"mask_{name}"] = path
    return row


def _tips(exam: Exam, view: View, uid: str, size: int) -> list[Row]:
    """Tips in millimetres from the image's upper left corner, x to the right and y down."""
    frame = frame_of(view, exam.anatomy.stature, size)
    rows = []
    for name in TUBES:
        if name in exam.tubes:
            tube = exam.tubes[name]
            x, y = frame.pixels(np.array(tip_of(tube, view))) * (view.field_mm / size)
            place = {"tip_x_mm": f"{x:.2f}", "tip_y_mm": f"{y:.2f}", "position": tube.position}
            rows.append({"sop_instance_uid": uid, "tube": name, **place})
    return rows


def _write_tables(directory: Path, tables: dict[str, list[Row]]) -> None:
    for name, columns in TABLES.items():
        with (directory / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(tables[name])


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
