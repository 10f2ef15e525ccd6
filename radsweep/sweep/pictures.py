"""Films of a corpus as pixels, and pixels as pictures that lie in a page."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.reader import Reader

Pixels = NDArray[np.uint8]


def reader_of(corpus: Corpus, images: Sequence[str]) -> tuple[Reader, dict[str, int]]:
    """A reader of these films alone, and which of its rows each is."""
    rows = corpus.manifest.filter(pl.col("image_id").is_in(list(images)))
    place = {image: i for i, image in enumerate(rows["image_id"])}
    return Reader(corpus.store, index_table(rows)), place


def read_films(reader: Reader, rows: Sequence[int]) -> list[Pixels]:
    """uint8 [H, W] of each row."""
    return [np.asarray(one.pixels).reshape(one.pixels.shape[-2:]) for one in reader.examples(rows)]


def films_by_id(corpus: Corpus, images: Sequence[str]) -> dict[str, Pixels]:
    """uint8 [H, W] of each image."""
    reader, place = reader_of(corpus, images)
    return dict(zip(images, read_films(reader, [place[i] for i in images]), strict=True))


def png(pixels: Pixels) -> str:
    """As a data URI, so that a page needs no second file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
