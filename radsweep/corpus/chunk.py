"""One chunk of files -> one shard of pixels and its rows, anywhere, in any order, any times."""

import zlib
from dataclasses import dataclass, field, replace
from typing import Any, final

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from radsweep import keys
from radsweep.corpus.contained import Containment, decoder_of
from radsweep.corpus.earlier import PLACE, Earlier, read_facts
from radsweep.corpus.header import capped_age, sex_of, view_from_text
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.manifest import SCHEMA, corpus_file, shard_file
from radsweep.corpus.overlap import file_pseudonyms
from radsweep.corpus.picture import read_mask
from radsweep.corpus.pixels import Policy
from radsweep.corpus.png import png_of
from radsweep.corpus.reports import scrub, sections
from radsweep.corpus.split import split_of
from radsweep.corpus.tables import FileKeys, Tables, label_value
from radsweep.corpus.xray import Identity, Limits, Quarantined, RefusedError, Xray
from radsweep.errors import RadsweepError
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
    containment: Containment
    earlier: Earlier | None = field(repr=False)
    """The version that is extended."""
    strict: bool
    """Whether a chunk ends, unfinished, at its first refusal."""

    def file_key(self, file: dict[str, Any]) -> str:
        """Keyed hash of a file's path in its source."""
        return self.patient_key.pseudonym("file", file["path_in_source"])

    def stamp(self, file: dict[str, Any]) -> str | None:
        """Keyed hash of what the storage lists of a file's content; None if it lists nothing."""
        stamp = file["stamp"]
        return None if stamp is None else self.patient_key.pseudonym("stamp", stamp)

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
        png = png_of(picture)
        place = {"offset": len(self.data), "length": len(png), "crc32": zlib.crc32(png)}
        self.data.extend(png)
        return {f"{prefix}{name}": value for name, value in place.items()}


def ingest_chunk(job: Job, number: int) -> ChunkResult:
    """Read, decode, de-identify and store one chunk, or take what an earlier run stored.

    The marker is written last, so that it means a whole shard and whole tables, of just these
    files. No file makes it fail: what cannot be used is a row of the quarantine.
    """
    place = corpus_file(job.corpus, f"chunks/{number:05d}")
    first = number * job.chunk_files
    files = job.files.slice(first, job.chunk_files).to_pylist()
    listing = _listing_digest(job, files)
    if job.store.exists(f"{place}.json"):
        if job.store.read_json(f"{place}.json") == {"listing": listing}:
            return ChunkResult(
                files=len(files),
                rows=job.store.read_table(f"{place}.rows.parquet"),
                quarantine=job.store.read_table(f"{place}.quarantine.parquet"),
            )
        job.store.delete(f"{place}.json")
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
        except RadsweepError:
            # No file's fault: the decoder cannot be started.
            raise
        except Exception as fault:
            # Only its class: a message may quote the file.
            reason = Quarantined(reason="fault", detail=type(fault).__name__)
        del shard.data[size:]
        refused.append(
            {
                "file_key": job.file_key(file),
                "source": file["source"],
                "file_index": file_index,
                "reason": reason.reason,
                "detail": reason.detail,
            }
        )
        if job.strict:
            break
    result = ChunkResult(
        files=len(files),
        rows=pl.DataFrame(kept, schema=job.row_schema),
        quarantine=pl.DataFrame(refused, schema=QUARANTINE_SCHEMA),
    )
    if not (job.strict and refused):
        job.store.write_bytes(shard_file(job.corpus, number), bytes(shard.data))
        job.store.write_table(f"{place}.quarantine.parquet", result.quarantine)
        job.store.write_table(f"{place}.rows.parquet", result.rows)
        job.store.write_json(f"{place}.json", {"listing": listing})
    return result


def _listing_digest(job: Job, files: list[dict[str, Any]]) -> str:
    """Which files, as they were listed: a chunk of other or changed files is another chunk.

    So is one of rows with other columns, which an interrupted ingest of older code left.
    """
    listed = [[file["source"], job.file_key(file), job.stamp(file)] for file in files]
    columns = list(job.row_schema)
    return job.patient_key.pseudonym("listing", keys.canonical_json([columns, listed]))


def _row(job: Job, shard: _Shard, file: dict[str, Any]) -> dict[str, Any]:
    """The manifest row of one file, its pixels added to the shard. Raises RefusedError."""
    if job.earlier is not None:
        known = job.earlier.find(job.file_key(file), job.stamp(file))
        shared = None if known is None else _shared_row(job, file, known)
        if shared is not None:
            return shared
    data = _read(job, file)
    picture, xray = decoder_of(job.limits, job.policy, job.containment).decode(data)
    known, tables_found = job.tables.find(_keys_of(file, xray))
    masks = _masks(job, known["masks"], xray) if "masks" in known else None
    image = job.patient_key.pseudonym(
        "image", xray.identity.image or zlib.crc32(data).to_bytes(4, "big").hex() + xray.digest
    )
    # Whose it is comes first, since it may be refused.
    return {
        **_who(job, known, xray, image),
        **_facts(job, known, xray),
        **file_pseudonyms(file["path"], job.patient_key),
        "pixels_digest": job.patient_key.pseudonym("pixels", xray.digest),
        "corpus": job.corpus,
        "shard": shard.number,
        **shard.add(picture),
        **({} if masks is None else shard.add(masks, "mask_")),
        **{name: label_value(known.get(name)) for name in job.tables.labels},
        "tables_found": list(tables_found),
    }


def _shared_row(job: Job, file: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any] | None:
    """The row of an unchanged file, whose picture an earlier version stores.

    None where the tables now name masks for it. Raises RefusedError, at once where the earlier
    version refused the file for what it is.
    """
    if earlier["reason"] is not None:
        raise RefusedError(earlier["reason"], earlier["detail"])
    fs, _ = fsspec.core.url_to_fs(job.sources[file["source"]])
    try:
        with fs.open(file["path"], "rb") as opened:
            xray = read_facts(opened, earlier["pixels_digest"])
    except OSError as fault:
        raise RefusedError("unreadable", type(fault).__name__) from None
    known, tables_found = job.tables.find(_keys_of(file, xray))
    if "masks" in known:
        return None
    return {
        **_who(job, known, xray, earlier["image_id"]),
        **_facts(job, known, xray),
        **file_pseudonyms(file["path"], job.patient_key),
        "pixels_digest": earlier["pixels_digest"],
        **{name: earlier[name] for name in PLACE},
        **{name: label_value(known.get(name)) for name in job.tables.labels},
        "tables_found": list(tables_found),
    }


def _keys_of(file: dict[str, Any], xray: Xray) -> FileKeys:
    return FileKeys(
        path=file["path"],
        path_in_source=file["path_in_source"],
        sop_instance_uid=xray.identity.image,
        accession_number=xray.identity.accession,
        patient_id=xray.identity.patient,
    )


def _read(job: Job, file: dict[str, Any]) -> bytes:
    fs, _ = fsspec.core.url_to_fs(job.sources[file["source"]])
    try:
        if fs.size(file["path"]) > job.limits.max_bytes:
            raise RefusedError("too_large", "bytes")
        data: bytes = fs.cat_file(file["path"])
    except OSError as fault:
        raise RefusedError("unreadable", type(fault).__name__) from None
    return data


def _who(job: Job, known: dict[str, Any], xray: Xray, image: str) -> dict[str, Any]:
    """Pseudonyms (``image`` is one already), and the split that follows from the patient's."""
    identity, key = xray.identity, job.patient_key
    patient = known.get("patient_id") or identity.patient
    if patient is None:
        raise RefusedError("no_patient")
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
