"""How stored pictures are written: ours against Pillow's PNG.

``python benchmarks/png.py FOLDER [--films N] [--side PX] [--repeats N]`` takes the first N picture
files below FOLDER, brings each to a grey square of 8 bits, and writes and reads it as ingest does
(``radsweep.corpus.png``) and by Pillow alone, at compression level 4; best of the repeats, in turn.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from radsweep.corpus.png import png_of

ENDINGS = {".png", ".jpg", ".jpeg"}


def by_pillow(picture: NDArray[np.uint8]) -> bytes:
    """A filter chosen for each row, and matches of any length."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def read(data: bytes) -> NDArray[np.uint8]:
    """As the stream reads both."""
    return np.array(Image.open(io.BytesIO(data)))


def best(function: Callable[[], object], repeats: int) -> float:
    """CPU milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - began))
    return min(times)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, value in (("films", 40), ("side", 518), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    files = sorted(file for file in given.folder.rglob("*") if file.suffix.lower() in ENDINGS)
    size = (given.side, given.side)
    films = [np.array(Image.open(one).convert("L").resize(size)) for one in files[: given.films]]
    if not films:
        parser.error(f"{given.folder} holds no PNG and no JPEG")
    table = Table(title=f"{len(films)} films of {given.side} px, means")
    for column in ("", "kB", "written, ms", "read, ms"):
        table.add_column(column, justify="right" if column else "left")
    found = []
    for write in (png_of, by_pillow):
        stored = [write(film) for film in films]
        assert all(
            np.array_equal(read(data), film) for data, film in zip(stored, films, strict=True)
        )
        kilobytes = np.mean([len(data) for data in stored]) / 1e3
        writing = np.mean([best(lambda f=film, w=write: w(f), given.repeats) for film in films])
        reading = np.mean([best(lambda d=data: read(d), given.repeats) for data in stored])
        found.append(np.array([kilobytes, writing, reading]))
    for name, row in zip(("ours", "Pillow"), found, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    table.add_row("ours / Pillow", *(f"{value:.2f}" for value in found[0] / found[1]))
    Console().print(table)


if __name__ == "__main__":
    main()
