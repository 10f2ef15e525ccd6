"""Mutated real files through the contained decoder: what became of each, in one table.

``python benchmarks/fuzz.py [FOLDER ...] [--mutations N] [--seed S]`` takes DICOM, PNG and JPEG
files of the folders (pydicom's own test files where none is given, and always a phantom's films),
damages them in the ways that ``MUTATIONS`` lists, and decodes each result as an ingest does. The
table has a row per outcome and a column per kind of damage; a second one says which codecs were at
work where the decoder's process died or hung, and which mutation (of ``--seed``) was the first. The
command fails where a file brought a fault of this program, or hung. ``--mutations 100000`` is the
full run.
"""

import argparse
import io
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_files
from pydicom.pixels import get_decoder
from rich.console import Console
from rich.table import Table

from radsweep.corpus.contained import ContainedDecoder, Containment
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import Limits, RefusedError

HEADER_BYTES = 2_000
"""Most damage is done here, where the claims are that a decoder believes."""
LARGEST = 2_000_000
"""Bytes of a seed file: larger ones only take longer."""
LENGTHS = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff", b"\x00\x00", b"\xff\x7f", b"\x01")
ACCEPTED = "accepted"
SWALLOWED = frozenset({"fault", "timeout"})
"""Outcomes that no file may have."""
LOST = ("decoder_crashed", "timeout")
"""Outcomes that cost the decoder's process."""

Bytes = bytearray


def _place(data: Bytes, draw: random.Random) -> int:
    near = min(len(data), HEADER_BYTES)
    return draw.randrange(near if draw.random() < 0.7 else len(data))


def _flip(data: Bytes, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 4, 32))):
        data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _overwrite(data: Bytes, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 3))):
        value, at = draw.choice(LENGTHS), _place(data, draw)
        data[at : at + len(value)] = value


def _truncate(data: Bytes, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _remove(data: Bytes, draw: random.Random) -> None:
    at = _place(data, draw)
    del data[at : at + draw.choice((1, 2, 8, 64))]


def _repeat(data: Bytes, draw: random.Random) -> None:
    at = _place(data, draw)
    data[at:at] = data[at : at + draw.choice((2, 8, 64, 4096))]


def _scramble(data: Bytes, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    length = min(draw.choice((16, 256, 4096)), len(data) - at)
    data[at : at + length] = draw.randbytes(length)


MUTATIONS: dict[str, Callable[[Bytes, random.Random], None]] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "remove": _remove,
    "repeat": _repeat,
    "scramble": _scramble,
}


def mutated(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(kind of damage, damaged file), ``count`` of them, each kind and each file in turn."""
    kinds = list(MUTATIONS)
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        kind = kinds[number % len(kinds)]
        data = bytearray(seeds[number // len(kinds) % len(seeds)])
        MUTATIONS[kind](data, draw)
        yield kind, bytes(data)


def outcome(decoder: ContainedDecoder, data: bytes) -> str:
    """``accepted``, or the reason of a refusal; anything else that is raised is not caught."""
    try:
        decoder.decode(data)
    except RefusedError as refusal:
        return refusal.quarantined.reason
    return ACCEPTED


def codec_of(data: bytes) -> str:
    """The transfer syntax that the damaged file states, and the decoders that it is given to.

    pydicom asks the next one where one fails.
    """
    for start, name in ((b"\x89PNG", "PNG: pillow"), (b"\xff\xd8", "JPEG: pillow")):
        if data.startswith(start):
            return name
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=["Rows"], stop_before_pixels=True)
        syntax = dataset.file_meta.TransferSyntaxUID
        return f"{syntax.name}: {', '.join(get_decoder(syntax).available_plugins) or 'no codec'}"
    except Exception as fault:
        # A damaged header can raise anything.
        return f"header without a known syntax ({type(fault).__name__})"


def seeds_of(folders: Sequence[Path]) -> list[bytes]:
    """The phantom's films of every transfer syntax, and the files of the folders."""
    with tempfile.TemporaryDirectory() as place:
        write_hospital(Path(place), HOSPITALS["riverside"], 16, 64, 0, processes=1)
        films = [path.read_bytes() for path in sorted((Path(place) / "dicom").rglob("*.*"))]
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    if not folders:
        paths = [Path(path) for path in sorted(get_testdata_files())]
    files = [path for path in paths if path.is_file() and path.stat().st_size <= LARGEST]
    others = [path.read_bytes() for path in files]
    return [data for data in (*films, *others) if data]


def main() -> None:
    """Mutate, decode, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--mutations", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seeds = seeds_of(given.folders)
    decoder = ContainedDecoder(
        Limits(), Policy(name="radsweep", size=64), Containment(seconds_per_file=20)
    )
    counts: Counter[tuple[str, str]] = Counter()
    lost: dict[tuple[str, str, str], list[int]] = {}
    slowest, begun = 0.0, time.monotonic()
    for number, (kind, data) in enumerate(mutated(seeds, given.mutations, given.seed)):
        since = time.monotonic()
        became = outcome(decoder, data)
        counts[became, kind] += 1
        if became in LOST:
            lost.setdefault((became, codec_of(data), kind), []).append(number)
        slowest = max(slowest, time.monotonic() - since)
    took = time.monotonic() - begun
    table = Table(
        title=f"{given.mutations:,} mutations of {len(seeds)} files: "
        f"{1e3 * took / max(1, given.mutations):.1f} ms each, the slowest {slowest:.1f} s"
    )
    table.add_column("outcome")
    for kind in (*MUTATIONS, "all"):
        table.add_column(kind, justify="right")
    outcomes = Counter(name for name, _ in counts.elements())
    for name, total in outcomes.most_common():
        row = [f"{counts[name, kind]:,}" for kind in MUTATIONS]
        table.add_row(name, *row, f"{total:,}")
    console = Console(width=110)
    console.print(table)
    if lost:
        codecs = Table(title="What killed the decoder's process")
        for name in ("outcome", "transfer syntax: decoders in order", "damage", "files", "first"):
            codecs.add_column(name, justify="right" if name in ("files", "first") else "left")
        for (became, codec, kind), numbers in sorted(lost.items()):
            codecs.add_row(became, codec, kind, f"{len(numbers)}", f"{numbers[0]}")
        console.print(codecs)
    sys.exit(1 if SWALLOWED & outcomes.keys() else 0)


if __name__ == "__main__":
    main()
