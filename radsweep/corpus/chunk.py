"""One chunk of files -> one shard of pixels and its rows, anywhere, in any order, any times."""

import io
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, final

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus.dicom import be_silent, read_image
from radsweep.corpus.header import capped_age, sex_of, view_from_text
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.manifest import SCHEMA, corpus_file, shard_file
from radsweep.corpus.picture import read_mask
from radsweep.corpus.pixels import Policy
from radsweep.corpus.reports import scrub, sections
from radsweep.corpus.split import split_of
from radsweep.corpus.tables import FileKeys, Tables, label_value
from radsweep.corpus.xray import Identity, Limits, Quarantined, RefusedError, Xray
from radsweep.store import Store

QUARANTINE_SCHEMA: dict[str, pl.DataType] = {
    "file_key": pl.String(),
    "source": pl.Int32(),
    "file_index": pl.Int64(),
    "reason": pl.String(),
    "detail": pl.String(),
}
"""A keyed hash of the path in its source, the number of the source, the file's place in the sorted
list."""

PNG_LEVEL = 4
"""Of zlib. Measured on a film of 518 px: level 6 takes 2.7 times as long and saves nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a chunk needs; shared by every chunk of one ingest."""

    store: Store
    corpus: str
    files: pa.Table = field(repr=False)
    chunk_files: int
    sources: tuple[str, ...] = field(repr=False)
    """One URL of each source's file system."""
    tables: Tables = field(repr=False)
    policy: Policy
    limits: Limits
    fractions: tuple[float, ...]
    split_seed: int
    patient_key: PatientKey

    @property
    def row_schema(self) -> dict[str, pl.DataType]:
        """Of a chunk's rows: the manifest's, the labels, and what the driver needs beside them."""
        labels = dict.fromkeys(self.tables.labels, pl.Int8())
        return {**SCHEMA, **labels, "file_index": pl.Int64(), "tables_found": pl.List(pl.Int32())}

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-int(self.files.num_rows) // self.chunk_files)


@final
@dataclass(frozen=True, kw_only=True)
class ChunkResult:
    """What one chunk found."""

    files: int
    rows: pl.DataFrame
    quarantine: pl.DataFrame


@final
@dataclass(frozen=True, kw_only=True)
class _Shard:
    """Bytes in the making."""

    number: int
    data: bytearray = field(default_factory=bytearray)

    def add(self, picture: NDArray[Any], prefix: str = "") -> dict[str, int]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=PNG_LEVEL)
        png = buffer.getvalue()
        place = {"offset": len(self.data), "length": len(png), "crc32": zlib.crc32(png)}
        self.data.extend(png)
        return {f"{prefix}{name}": value for name, value in place.items()}


def ingest_chunk(job: Job, number: int) -> ChunkResult:
    """Read, decode, de-identify and store one chunk, or take what an earlier run stored.

    The shard is written first and the rows last, so that rows in the store mean a whole shard. No
    file makes it fail: what cannot be used is a row of the quarantine.
    """
    rows_file = corpus_file(job.corpus, f"chunks/{number:05d}.rows.parquet")
    quarantine_file = corpus_file(job.corpus, f"chunks/{number:05d}.quarantine.parquet")
    first = number * job.chunk_files
    files = job.files.slice(first, job.chunk_files).to_pylist()
    if job.store.exists(rows_file):
        rows, quarantine = job.store.read_table(rows_file), job.store.read_table(quarantine_file)
        return ChunkResult(files=len(files), rows=rows, quarantine=quarantine)
    be_silent()
    shard = _Shard(number=number)
    kept: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for file_index, file in enumerate(files, first):
        size = len(shard.data)
        try:
            kept.append({**_row(job, shard, file), "file_index": file_index})
            continue
        except RefusedError as refusal:
            reason = refusal.quarantined
        except Exception as fault:
            # Only its class: a message may quote the file.
            reason = Quarantined(reason="fault", detail=type(fault).__name__)
        del shard.data[size:]
        refused.append(
            {
                "file_key": job.patient_key.pseudonym("file", file["path_in_source"]),
                "source": file["source"],
                "file_index": file_index,
                "reason": reason.reason,
                "detail": reason.detail,
            }
        )
    result = ChunkResult(
        files=len(files),
        rows=pl.DataFrame(kept, schema=job.row_schema),
        quarantine=pl.DataFrame(refused, schema=QUARANTINE_SCHEMA),
    )
    job.store.write_bytes(shard_file(job.corpus, number), bytes(shard.data))
    job.store.write_table(quarantine_file, result.quarantine)
    job.store.write_table(rows_file, result.rows)
    return result


def _row(job: Job, shard: _Shard, file: dict[str, Any]) -> dict[str, Any]:
    """The manifest row of one file, its pixels added to the shard. Raises RefusedError."""
    data = _read(job, file)
    xray = read_image(data, job.limits)
    if isinstance(xray, Quarantined):
        raise RefusedError(xray.reason, xray.detail)
    keys = FileKeys(
        path=file["path"],
        path_in_source=file["path_in_source"],
        sop_instance_uid=xray.identity.image,
        accession_number=xray.identity.accession,
        patient_id=xray.identity.patient,
    )
    known, tables_found = job.tables.find(keys)
    masks = _masks(job, known["masks"], xray) if "masks" in known else None
    # Pictures first, since either may be refused.
    return {
        **_who(job, known, xray, data),
        **_facts(job, known, xray),
        "corpus": job.corpus,
        "shard": shard.number,
        **shard.add(job.policy.apply(xray)),
        **({} if masks is None else shard.add(masks, "mask_")),
        **{name: label_value(known.get(name)) for name in job.tables.labels},
        "tables_found": list(tables_found),
    }


def _read(job: Job, file: dict[str, Any]) -> bytes:
    fs, _ = fsspec.core.url_to_fs(job.sources[file["source"]])
    try:
        if fs.size(file["path"]) > job.limits.max_bytes:
            raise RefusedError("too_large", "bytes")
        data: bytes = fs.cat_file(file["path"])
    except OSError as fault:
        raise RefusedError("unreadable", type(fault).__name__) from None
    return data


def _who(job: Job, known: dict[str, Any], xray: Xray, data: bytes) -> dict[str, Any]:
    """Pseudonyms, and the split that follows from the patient's."""
    identity, key = xray.identity, job.patient_key
    patient = known.get("patient_id") or identity.patient
    if patient is None:
        raise RefusedError("no_patient")
    image = key.pseudonym(
        "image", identity.image or zlib.crc32(data).to_bytes(4, "big").hex() + xray.digest
    )
    exam = (
        known.get("exam_id") or identity.exam or known.get("accession_number") or identity.accession
    )
    patient_id = key.pseudonym("patient", patient)
    return {
        "image_id": image,
        "patient_id": patient_id,
        # Exam numbers may repeat between patients; an image of no known exam is one of its own.
        "exam_id": key.pseudonym("exam", f"{patient}\0{exam}" if exam else image),
        "split": split_of(patient_id, job.fractions, job.split_seed),
        "pixels_digest": key.pseudonym("pixels", xray.digest),
    }


def _facts(job: Job, known: dict[str, Any], xray: Xray) -> dict[str, Any]:
    """What a table says, or else the header."""
    view, projection = (
        view_from_text(known["view"]) if "view" in known else (xray.view, xray.projection)
    )
    age = _number(known.get("age"))
    spacing = _number(known.get("pixel_spacing_mm"))
    if spacing is not None and spacing > 0:
        xray = replace(xray, pixel_spacing_mm=(spacing, spacing))
    return {
        "view": view,
        "projection": projection,
        "sex": sex_of(known["sex"]) if "sex" in known else xray.sex,
        "age_years": xray.age_years if age is None else capped_age(age),
        "height": job.policy.size,
        "width": job.policy.size,
        "pixel_spacing_mm": job.policy.pixel_spacing_mm(xray),
        "report": _report(known, xray.identity),
    }


def _report(known: dict[str, Any], identity: Identity) -> str | None:
    if "report" not in known:
        return None
    given = known["identifiers"]
    whole = replace(
        identity,
        names=(*identity.names, *given),
        numbers=(*identity.numbers, *given),
        dates=(*identity.dates, *given),
    )
    return scrub(sections(known["report"]), whole) or None


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text.rstrip("yY"))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _masks(job: Job, masks: dict[str, str | None], xray: Xray) -> NDArray[Any]:
    """One picture whose bits are the classes: uint8 up to 8 of them, else uint16."""
    size, classes = job.policy.size, job.tables.mask_classes
    packed = np.zeros((size, size), np.uint8 if len(classes) <= 8 else np.uint16)
    for bit, name in enumerate(classes):
        path = masks[name]
        if path is None:
            continue
        try:
            fs, path = fsspec.core.url_to_fs(path)
            data = fs.cat_file(path)
        except OSError as fault:
            raise RefusedError("bad_mask", type(fault).__name__) from None
        mask = read_mask(data, xray.values.shape)
        packed |= (job.policy.apply_mask(mask).astype(packed.dtype) << bit).astype(packed.dtype)
    return packed
