import io
import zlib

import numpy as np
import pytest
from PIL import Image

from radsweep.corpus.png import png_of


def film(height: int, width: int, dtype: type) -> np.ndarray:
    generator = np.random.default_rng(0)
    smooth = generator.uniform(0.2, 0.7, (6, 6)).astype(np.float32)
    shaded = np.asarray(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC))
    grainy = shaded + generator.normal(0, 0.015, (height, width))
    return (grainy.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (61, 47)])
def test_pillow_reads_what_was_written(shape: tuple[int, int], dtype: type) -> None:
    for picture in (film(*shape, dtype), film(*shape[::-1], dtype).T):
        with Image.open(io.BytesIO(png_of(picture)), formats=("PNG",)) as image:
            image.verify()
        read = np.array(Image.open(io.BytesIO(png_of(picture))))
        assert read.dtype == dtype
        assert np.array_equal(read, picture)


def test_every_chunk_has_its_length_and_checksum() -> None:
    data, at, names = png_of(film(9, 9, np.uint8)), 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        named = data[at + 4 : at + 8 + length]
        assert zlib.crc32(named) == int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        names.append(named[:4])
        at += 12 + length
    assert names == [b"IHDR", b"IDAT", b"IEND"]


def test_a_film_takes_little_more_room_than_with_filters_chosen_by_row() -> None:
    picture, pillow = film(518, 518, np.uint8), io.BytesIO()
    Image.fromarray(picture).save(pillow, "PNG", compress_level=4)
    assert len(png_of(picture)) < 1.1 * len(pillow.getvalue())
