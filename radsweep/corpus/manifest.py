"""The table that a corpus is: one row per x-ray, and no column that could name a patient."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import polars as pl
import pyarrow as pa

from radsweep import parts
from radsweep.errors import SpecError
from radsweep.store import Store
from radsweep.store.layout import corpus_folder

SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "exam_id": pl.String(),
    "split": pl.String(),
    "view": pl.String(),
    "projection": pl.String(),
    "sex": pl.String(),
    "age_years": pl.Int16(),
    "height": pl.Int32(),
    "width": pl.Int32(),
    "pixel_spacing_mm": pl.Float32(),
    "report": pl.String(),
    "corpus": pl.String(),
    "shard": pl.Int32(),
    "offset": pl.Int64(),
    "length": pl.Int32(),
    "crc32": pl.UInt32(),
    "mask_offset": pl.Int64(),
    "mask_length": pl.Int32(),
    "mask_crc32": pl.UInt32(),
    "pixels_digest": pl.String(),
    "file_id": pl.String(),
    "path_id": pl.String(),
}
"""The allow-list. Identifiers are keyed hashes, ``file_id`` of the file's name and ``path_id`` of
the end of its path (both for lists of training images); ``view`` is frontal, lateral or unknown,
``projection`` AP, PA or null; ``sex`` F, M, O or null; ``age_years`` is capped at 90;
``pixel_spacing_mm`` is that of the stored image, null if unknown; a null ``mask_offset`` means that
masks are unknown. Label columns follow."""

LABEL_PREFIXES = ("finding_", "tube_")
"""Int8 columns: 1 present, 0 absent, -1 uncertain, null missing."""


def corpus_file(corpus: str, name: str) -> str:
    """A file of a corpus, relative to the store's root."""
    return f"{corpus_folder(corpus)}/{name}"


def shard_file(corpus: str, shard: int) -> str:
    """The concatenated PNGs of one shard, relative to the store's root."""
    return corpus_file(corpus, f"shards/{shard:05d}.pack")


def label_columns(columns: list[str], prefix: str = "") -> tuple[str, ...]:
    """Those columns that hold labels and start with ``prefix``, sorted."""
    return tuple(
        sorted(c for c in columns if c.startswith(LABEL_PREFIXES) and c.startswith(prefix))
    )


def index_table(manifest: pl.DataFrame) -> pa.Table:
    """Manifest rows as one contiguous Arrow table, which workers can map without copying.

    Strings become ``large_string``: reports of millions of exams pass the 2 GiB of 32-bit offsets.
    """
    return manifest.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


@final
@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A finished corpus: its manifest and its card."""

    name: str
    """``name@version``."""
    store: Store
    manifest: pl.DataFrame = field(repr=False)
    """Columns as in SCHEMA, then the label columns."""
    card: dict[str, Any] = field(repr=False)
    """What ``card.json`` says: counts, policy, label columns, mask classes, digest."""

    @classmethod
    def open(cls, store: Store, name: str) -> Self:
        """Read manifest and card. Raises SpecError if there is no finished corpus of that name."""
        if not store.exists(corpus_file(name, "card.json")):
            known = store.names("corpora")
            hint = parts.did_you_mean(name, known) if known else "the store has none yet"
            raise SpecError(
                f"corpus {name} is not in the store {store.url} ({hint}); make it with "
                f"`radsweep ingest SRC --corpus {name}`"
            )
        card = store.read_json(corpus_file(name, "card.json"))
        manifest = store.read_table(corpus_file(name, "manifest.parquet"))
        return cls(name=name, store=store, manifest=manifest, card=card)

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of the mask classes, in the order of the bits; empty if the corpus has no masks."""
        return tuple(self.card["mask_classes"])

    def labels(self, prefix: str = "") -> tuple[str, ...]:
        """Label columns that start with ``prefix``, such as ``"finding_"``."""
        return label_columns(self.manifest.columns, prefix)
