"""From rows of a subset to pixels: byte ranges of shards, checked and decoded. No Ray here."""

import io
import zlib
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus.copies import Copies, Place
from radsweep.corpus.example import Example
from radsweep.corpus.manifest import corpus_file, label_columns
from radsweep.errors import StreamError
from radsweep.store import Store


@final
class Reader:
    """Reads the images and masks of manifest rows. Cheap to make: it copies nothing."""

    def __init__(self, store: Store, index: pa.Table) -> None:
        """Opens nothing yet; makes the folder for copies where this machine keeps some.

        Args:
            store: where the corpus is.
            index: manifest rows, as ``SubsetIndex.table`` or ``index_table(corpus.manifest)``.
        """
        self.images = index.num_rows
        """Rows of the index."""
        self._store = store
        self._copies = Copies.here(store)
        self._index = index
        self._labels = label_columns(index.column_names)
        self._known = ["image_id", "report", *self._labels]
        self._image_place = ["corpus", "shard", "offset", "length", "crc32"]
        self._mask_place = ["corpus", "shard", "mask_offset", "mask_length", "mask_crc32"]

    def examples(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """The x-rays of these rows of the index, in order.

        Raises StreamError, naming the shard, where stored bytes are not the ones that were
        ingested.
        """
        taken = self._index.take(pa.array(rows, pa.int64()))
        pixels = self._decode(taken, self._image_place)
        return [
            Example(
                image_id=known["image_id"],
                pixels=image,
                report=known["report"],
                labels={name: known[name] for name in self._labels},
            )
            for known, image in zip(taken.select(self._known).to_pylist(), pixels, strict=True)
        ]

    def masks(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The masks of these rows: uint8 [n, classes, height, width] of 0 and 1.

        Raises StreamError where a row's masks are unknown, or as ``examples`` does.
        """
        taken = self._index.take(pa.array(rows, pa.int64()))
        unknown = taken["mask_offset"].null_count
        if unknown:
            raise StreamError(
                f"{unknown} of {len(rows)} images have unknown masks; take rows whose mask_offset "
                "is not null"
            )
        corpora = set(taken["corpus"].to_pylist())
        if len(corpora) != 1:
            raise StreamError(f"masks come from one corpus at a time, not from {sorted(corpora)}")
        classes = len(
            self._store.read_json(corpus_file(corpora.pop(), "card.json"))["mask_classes"]
        )
        packed = np.stack(self._decode(taken, self._mask_place))
        bits = np.arange(classes, dtype=packed.dtype)[None, :, None, None]
        return ((packed[:, None] >> bits) & 1).astype(np.uint8)

    def _decode(self, taken: pa.Table, columns: list[str]) -> list[NDArray[Any]]:
        places = [Place(*row.values()) for row in taken.select(columns).to_pylist()]
        found: dict[Place, bytes] = {}
        if self._copies is not None:
            copied = {place: self._copies.read(place) for place in places}
            found = {place: data for place, data in copied.items() if data is not None}
        absent = [place for place in dict.fromkeys(places) if place not in found]
        fetched = self._store.read_ranges(
            [(place.file, place.offset, place.offset + place.length) for place in absent]
        )
        for place, data in zip(absent, fetched, strict=True):
            if zlib.crc32(data) != place.crc32:
                raise StreamError(
                    f"{place.file} is damaged at byte {place.offset:,}: its checksum differs from "
                    "the manifest's; restore it, or delete the corpus and ingest it again"
                )
            found[place] = data
            if self._copies is not None:
                self._copies.keep(place, data)
        return [np.array(Image.open(io.BytesIO(found[place]))) for place in places]
