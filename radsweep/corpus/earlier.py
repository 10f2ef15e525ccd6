"""What an earlier version of a corpus already knows of a file, so that only news are decoded.

A file is unchanged where its keyed path and its keyed stamp (size and time or tag, as the
storage lists them) are those of the earlier version. Then its stored picture is referred to and
not copied, and only its header is read again, since tables may have changed; a refusal that
depends on the file alone is repeated. Files with masks are read again.
"""

from dataclasses import dataclass, field
from typing import IO, Any, Self, final

import numpy as np
import polars as pl
import pyarrow as pa
import pydicom
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus import header
from radsweep.corpus.dicom import KEYWORDS, attributes_of
from radsweep.corpus.manifest import Corpus, corpus_file
from radsweep.corpus.xray import Xray
from radsweep.errors import SpecError
from radsweep.store import Store

PLACE = ("corpus", "shard", "offset", "length", "crc32")
"""Columns of the manifest that say where a stored picture is."""

FINAL_REASONS = frozenset(
    {
        "empty", "not_an_image", "too_small", "odd_shape", "not_a_radiograph",
        "not_for_presentation", "not_chest", "not_human", "multi_frame", "burned_in", "colour",
        "bad_header", "truncated", "blank", "garbled",
    }
)  # fmt: skip
"""Refusals that the same bytes bring again; another may go away with a table or another day."""

FILES_SCHEMA: dict[str, pl.DataType] = {
    "file_key": pl.String(),
    "stamp": pl.String(),
    "image_id": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
}
"""``files.parquet``: every file that was listed, by keyed hashes; an ``image_id`` or a reason."""


@final
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The files of a finished version, sorted by key: workers map it instead of copying it."""

    corpus: str
    keys: NDArray[np.uint64] = field(repr=False)
    rows: pa.Table = field(repr=False)

    @classmethod
    def load(cls, store: Store, name: str, sharing_digest: str) -> Self:
        """Read a finished version.

        Args:
            store: where it is.
            name: ``name@version``.
            sharing_digest: what the new version's pictures depend on.

        Raises SpecError if there is none, or if its pictures were made in another way.
        """
        corpus = Corpus.open(store, name)
        if corpus.card.get("sharing_digest") != sharing_digest:
            raise SpecError(
                f"{name} was made with another policy, size, limits or patient key, so "
                "that its pictures cannot be shared; use the same, or do not extend it"
            )
        places = corpus.manifest.filter(pl.col("mask_offset").is_null()).select(
            "image_id", "pixels_digest", *PLACE
        )
        files = store.read_table(corpus_file(name, "files.parquet"))
        usable = (
            files.filter(pl.col("stamp").is_not_null())
            .join(places, on="image_id", how="left", maintain_order="left")
            .filter(pl.col("corpus").is_not_null() | pl.col("reason").is_in(list(FINAL_REASONS)))
        )
        keys = np.array([_number(key) for key in usable["file_key"]], np.uint64)
        order = np.argsort(keys, kind="stable")
        rows = usable[order].to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        return cls(corpus=name, keys=keys[order], rows=rows)

    def find(self, file_key: str, stamp: str | None) -> dict[str, Any] | None:
        """What is known of a file: FILES_SCHEMA, PLACE and ``pixels_digest``; None if it is new."""
        if stamp is None:
            return None
        at = int(np.searchsorted(self.keys, _number(file_key)))
        while at < len(self.keys) and self.keys[at] == _number(file_key):
            row: dict[str, Any] = self.rows.slice(at, 1).to_pylist()[0]
            if row["file_key"] == file_key:
                return row if row["stamp"] == stamp else None
            at += 1
        return None


def _number(file_key: str) -> np.uint64:
    return np.uint64(int(file_key[:16], 16))


def read_facts(file: IO[bytes], pixels_digest: str) -> Xray:
    """An accepted file's header as an x-ray whose ``values`` have its shape and are all zero.

    Args:
        file: open at its start, and able to seek; pixels are not read.
        pixels_digest: kept as the x-ray's ``digest``.
    """
    start = file.read(132)
    file.seek(0)
    if start[128:] != b"DICM":
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            return _bare((image.size[1], image.size[0]), pixels_digest)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=KEYWORDS)
    attributes = attributes_of(dataset)
    view, projection = header.view_of(attributes)
    bare = _bare((int(attributes["Rows"]), int(attributes["Columns"])), pixels_digest)
    return Xray(
        values=bare.values,
        shown=None,
        padding=None,
        digest=pixels_digest,
        pixel_spacing_mm=header.spacing_of(attributes),
        view=view,
        projection=projection,
        sex=header.sex_of(header.text_of(attributes, "PatientSex")),
        age_years=header.age_of(attributes),
        identity=header.identity_of(attributes),
    )


def _bare(shape: tuple[int, int], pixels_digest: str) -> Xray:
    return Xray(
        values=np.broadcast_to(np.float32(0), shape),
        shown=None,
        padding=None,
        digest=pixels_digest,
        pixel_spacing_mm=None,
    )
