"""Look for planted identifiers in files, whatever they are packed in."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

SHORTEST = 6
POWERS = np.array([256**place for place in range(SHORTEST)], dtype=np.uint64)


def _windows(data: bytes) -> np.ndarray:
    """Each ``SHORTEST`` bytes in a row as one number, uint64 [len(data) - SHORTEST + 1]."""
    values = np.frombuffer(data, np.uint8).astype(np.uint64)
    last = len(values) - SHORTEST + 1
    total = np.zeros(max(0, last), np.uint64)
    for place in range(SHORTEST if last > 0 else 0):
        total += values[place : place + last] * POWERS[place]
    return total


class Searcher:
    """Finds identifiers, in lower case, whatever the case they stand in."""

    def __init__(self, identifiers: Iterable[str]) -> None:
        self._by_start: dict[int, list[bytes]] = {}
        for text in identifiers:
            assert len(text.encode()) >= SHORTEST, f"a planted string of {len(text)} letters"
            wanted = text.lower().encode()
            self._by_start.setdefault(int(_windows(wanted)[0]), []).append(wanted)
        self._starts = np.array(sorted(self._by_start), dtype=np.uint64)

    def found(self, data: bytes) -> set[str]:
        data = data.lower()
        windows = _windows(data)
        places = np.flatnonzero(np.isin(windows, self._starts))
        return {
            text.decode()
            for place in places
            for text in self._by_start[int(windows[place])]
            if data.startswith(text, place) and not _is_part_of_a_number(text, data, int(place))
        }


def _is_part_of_a_number(text: bytes, data: bytes, place: int) -> bool:
    """20190312 within 0.7120190312 is chance, not a date."""
    if not text.isdigit():
        return False
    before, after = data[max(0, place - 1) : place], data[place + len(text) : place + len(text) + 1]
    return before.isdigit() or before == b"." or after.isdigit()


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they hold once unpacked."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        frame = pl.read_parquet(io.BytesIO(data))
        packed = [name for name, kind in frame.schema.items() if kind == pl.Binary]
        yield frame.drop(packed).write_json().encode()
        for name in packed:
            yield b"\n".join(frame[name].drop_nulls())
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
