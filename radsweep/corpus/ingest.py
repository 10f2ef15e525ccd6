"""From a hospital's files to a corpus. No Ray here: how chunks are mapped is an argument."""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, final

import polars as pl
import pyarrow as pa

from radsweep import keys
from radsweep.corpus import adapters
from radsweep.corpus.adapters.base import Folder
from radsweep.corpus.card import OTHER_PATIENT, make_card
from radsweep.corpus.chunk import QUARANTINE_SCHEMA, ChunkResult, Job, ingest_chunk
from radsweep.corpus.contained import Containment
from radsweep.corpus.earlier import FILES_SCHEMA, Earlier
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.manifest import SCHEMA, corpus_file
from radsweep.corpus.pixels import Policy
from radsweep.corpus.sources import list_files
from radsweep.corpus.split import DEFAULT_FRACTIONS, check_fractions
from radsweep.corpus.tables import load_tables
from radsweep.corpus.xray import REASONS, Limits
from radsweep.errors import SpecError
from radsweep.specs import CORPUS_NAME
from radsweep.store import Store

MapChunks = Callable[[Callable[[int], ChunkResult], Sequence[int]], Iterable[ChunkResult]]
"""Applies a function to chunk numbers; results may come in any order. The builtin ``map`` will
do."""

DEFAULT_CONTAINMENT = Containment()


@final
@dataclass(frozen=True, kw_only=True)
class IngestSpec:
    """What makes a corpus the one it is, beside the bytes of its files."""

    corpus: str
    """``name@version``."""
    sources: tuple[str, ...]
    """Folders (with all below), globs or files; paths or fsspec URLs."""
    reports: tuple[str, ...] = ()
    """Tables; any column that is known is read from any table, whichever of the three names it."""
    labels: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    policy: str = "radsweep"
    """Preprocessing; ``radsweep.corpus.pixels.policy_names()`` lists them."""
    size: int = 518
    """Pixels along each side of the stored pictures."""
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    """Shares of patients in pretrain, train, val and test."""
    split_seed: int = 0
    limits: Limits = field(default_factory=Limits)
    chunk_files: int = 256
    """Files per shard, hence per task."""
    layout: str | None = None
    """A published layout, by the name of its module in ``radsweep.corpus.adapters`` or a dotted
    one: the one source is the root of the download, and its labels and reports come with it."""
    extends: str | None = None
    """An earlier version, made with the same key, policy, size and limits: pictures of unchanged
    files are referred to and not stored again. It must not be deleted then."""

    def __post_init__(self) -> None:
        if CORPUS_NAME.fullmatch(self.corpus) is None:
            raise SpecError(f"corpus {self.corpus!r} is not name@version, such as mayo@1")
        if not self.sources:
            raise SpecError("nothing to ingest: name at least one folder, glob or file")
        if self.chunk_files < 1:
            raise SpecError(f"chunk_files is {self.chunk_files}; it must be positive")
        check_fractions(self.fractions)
        Policy(name=self.policy, size=self.size)
        if self.layout is not None:
            adapters.check(self.layout)
            if len(self.sources) != 1:
                raise SpecError(f"layout {self.layout} has one root, not {len(self.sources)}")
        if self.extends is not None and (
            CORPUS_NAME.fullmatch(self.extends) is None or self.extends == self.corpus
        ):
            raise SpecError(
                f"{self.corpus} cannot extend {self.extends!r}; name another name@version"
            )


def ingest(
    spec: IngestSpec,
    store: Store,
    patient_key: PatientKey,
    *,
    map_chunks: MapChunks = map,
    progress: Callable[[int, int], None] | None = None,
    containment: Containment = DEFAULT_CONTAINMENT,
    strict: bool = False,
) -> dict[str, Any]:
    """Make the corpus, or go on where an interrupted ingest stopped; gives its card.

    The result depends on the spec, the key and the files, and not on ``map_chunks``. A finished
    corpus of the same spec and key is left alone.

    Args:
        spec: what to read, and into what.
        store: where the corpus goes.
        patient_key: makes the pseudonyms; never stored.
        map_chunks: runs the chunks, here or elsewhere.
        progress: is given (files done, files in all) after each chunk.
        containment: how far one file may go.
        strict: stop at the first file that is refused, rather than quarantine it.

    Raises SpecError where the spec, its tables or an existing corpus of that name do not fit, where
    no file could be used, and with ``strict`` where one could not.
    """
    digest = _spec_digest(spec, patient_key)
    card_file = corpus_file(spec.corpus, "card.json")
    if store.exists(card_file):
        card: dict[str, Any] = store.read_json(card_file)
        if card["spec_digest"] != digest:
            raise SpecError(
                f"corpus {spec.corpus} exists, and was made from another spec or with another "
                f"patient key; use @{int(spec.corpus.rpartition('@')[2]) + 1}"
            )
        return card
    _begin(spec, store, digest)
    job, provenance = _job(spec, store, patient_key, containment, strict)
    results: list[ChunkResult] = []
    done = 0
    for result in map_chunks(partial(ingest_chunk, job), range(job.chunks)):
        results.append(result)
        done += result.files
        if strict:
            _check_strict(result.quarantine, job)
        if progress is not None:
            progress(done, job.files.num_rows)
    return _finish(spec, job, results, {"spec_digest": digest, "label_provenance": provenance})


def _check_strict(quarantine: pl.DataFrame, job: Job) -> None:
    """Raise SpecError for the first file refused, named by its place in the sorted list."""
    if quarantine.height == 0:
        return
    _, source, file_index, reason, detail = quarantine.sort("file_index").row(0)
    raise SpecError(
        f"file {file_index + 1:,} of {job.files.num_rows:,} in the sorted list (source "
        f"{source + 1}) is refused: {reason} ({detail or REASONS[reason]}); mend or remove it, or "
        "leave strict out, and it goes to quarantine"
    )


def _spec_digest(spec: IngestSpec, patient_key: PatientKey) -> str:
    """Keyed, since the spec holds paths, and so that another key makes another corpus."""
    identity = {
        **{name: value for name, value in keys.canonical(spec).items() if value is not None},
        "policy_version": Policy(name=spec.policy, size=spec.size).version,
    }
    if spec.layout is not None:
        identity["layout_version"] = adapters.version(spec.layout)
    return patient_key.pseudonym("spec", keys.canonical_json(identity))


def _sharing_digest(job: Job) -> str:
    """Keyed, of all that a stored picture depends on beside its file."""
    identity = {"policy": asdict(job.policy), "version": job.policy.version}
    limits = keys.canonical(job.limits)
    return job.patient_key.pseudonym("sharing", keys.canonical_json([identity, limits]))


def _begin(spec: IngestSpec, store: Store, digest: str) -> None:
    """Say whose chunks lie here; those of another spec, never finished, are removed."""
    begun_file = corpus_file(spec.corpus, "ingest.json")
    if store.exists(begun_file):
        if store.read_json(begun_file)["spec_digest"] == digest:
            return
        store.delete(corpus_file(spec.corpus, "chunks"))
        store.delete(corpus_file(spec.corpus, "shards"))
    store.write_json(begun_file, {"spec_digest": digest})


def _job(
    spec: IngestSpec,
    store: Store,
    patient_key: PatientKey,
    containment: Containment,
    strict: bool,
) -> tuple[Job, dict[str, dict[str, str]]]:
    """What the chunks need, and where each label column comes from."""
    places = (*spec.reports, *spec.labels, *spec.masks)
    sources = spec.sources
    if spec.layout is None:
        tables, provenance = load_tables(places), {}
    else:
        root = Folder(spec.sources[0])
        export = adapters.find(spec.layout)().read(root)
        sources = tuple(root.url(pattern) for pattern in export.files)
        tables = load_tables(places, export.tables, root.url(""))
        provenance = {label: asdict(origin) for label, origin in export.provenance.items()}
    tables.check_masks()
    job = Job(
        store=store,
        corpus=spec.corpus,
        files=list_files(sources, tables.mask_paths()),
        chunk_files=spec.chunk_files,
        sources=sources,
        tables=tables,
        policy=Policy(name=spec.policy, size=spec.size),
        limits=spec.limits,
        fractions=spec.fractions,
        split_seed=spec.split_seed,
        patient_key=patient_key,
        containment=containment,
        earlier=None,
        strict=strict,
    )
    if spec.extends is not None:
        job = replace(job, earlier=Earlier.load(store, spec.extends, _sharing_digest(job)))
    return job, provenance


def _finish(
    spec: IngestSpec, job: Job, results: list[ChunkResult], facts: dict[str, Any]
) -> dict[str, Any]:
    """Put the chunks together in the order of the files, whatever order they came in."""
    rows = pl.concat([result.rows for result in results]).sort("file_index")
    refused = pl.concat([result.quarantine for result in results])
    kept, doubled = _without_duplicates(rows, job)
    if job.strict:
        _check_strict(doubled, job)
    quarantine = pl.concat([refused, doubled]).sort("file_index")
    if kept.height == 0:
        reasons = quarantine.group_by("reason", "detail").len().sort("len", descending=True).rows()
        raise SpecError(
            f"none of {job.files.num_rows:,} files can be used: "
            + "; ".join(
                f"{count:,} {reason} ({detail or REASONS[reason]})"
                for reason, detail, count in reasons
            )
        )
    manifest = kept.select(*SCHEMA, *job.tables.labels).sort("patient_id", "exam_id", "image_id")
    buffer = io.BytesIO()
    manifest.write_parquet(buffer)
    card = make_card(
        job,
        manifest=manifest,
        quarantine=quarantine,
        tables_found=kept,
        facts={
            **facts,
            "manifest_digest": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "sharing_digest": _sharing_digest(job),
        },
    )
    # The card is last: with it the corpus is there.
    job.store.write_table(corpus_file(spec.corpus, "files.parquet"), _files(job, kept, quarantine))
    job.store.write_table(corpus_file(spec.corpus, "quarantine.parquet"), quarantine)
    job.store.write_bytes(corpus_file(spec.corpus, "manifest.parquet"), buffer.getvalue())
    job.store.write_json(corpus_file(spec.corpus, "card.json"), card)
    job.store.delete(corpus_file(spec.corpus, "chunks"))
    return card


def _files(job: Job, kept: pl.DataFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    """What became of every file, for the next version."""
    listed = job.files.to_pylist()
    files = pl.DataFrame(
        {
            "file_index": range(len(listed)),
            "file_key": [job.file_key(file) for file in listed],
            "stamp": [job.stamp(file) for file in listed],
        },
        schema={"file_index": pl.Int64, "file_key": pl.String, "stamp": pl.String},
    )
    became = pl.concat(
        [
            kept.select("file_index", "image_id"),
            quarantine.select("file_index", "reason", "detail"),
        ],
        how="diagonal",
    )
    joined = files.join(became, on="file_index", how="left", maintain_order="left")
    return joined.select(pl.col(name).cast(dtype) for name, dtype in FILES_SCHEMA.items())


def _without_duplicates(rows: pl.DataFrame, job: Job) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first file of each picture and of each image identifier, and the others."""
    marked = rows.with_columns(
        same_pixels=~pl.col("pixels_digest").is_first_distinct(),
        other_patient=pl.col("patient_id") != pl.col("patient_id").first().over("pixels_digest"),
    )
    pictures = marked.filter(~pl.col("same_pixels"))
    kept = pictures.filter(pl.col("image_id").is_first_distinct())
    pixels = pl.when("other_patient").then(pl.lit(OTHER_PATIENT)).otherwise(pl.lit("pixels"))
    doubled = pl.concat(
        [
            marked.filter("same_pixels").select("file_index", detail=pixels),
            pictures.filter(~pl.col("image_id").is_first_distinct()).select(
                "file_index", detail=pl.lit("image identifier")
            ),
        ]
    )
    places = job.files.take(pa.array(doubled["file_index"].to_list(), pa.int64())).to_pylist()
    return kept.select(rows.columns), doubled.with_columns(
        file_key=pl.Series([job.file_key(place) for place in places], dtype=pl.String),
        source=pl.Series([place["source"] for place in places], dtype=pl.Int32),
        reason=pl.lit("duplicate"),
    ).select(pl.col(name).cast(dtype) for name, dtype in QUARANTINE_SCHEMA.items())
