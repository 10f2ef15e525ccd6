"""The form of shards: the same stored films as packs, in other formats, and as a file each.

``python benchmarks/shards.py [FOLDER] [--films N] [--side PX]`` takes the first N picture files
below FOLDER (or draws phantom films), brings each to a grey square of 8 bits, encodes it as ingest
does, and writes those same PNGs as

- ours: packs, and a table of byte ranges with checksums, read by ``Store.read_ranges``;
- a file each;
- Parquet with encoded images, uncompressed, in row groups of 1, 8 and 32, read by pyarrow's own
  file systems: a row group is the least that it reads;
- Lance, WebDataset's tar files and MosaicML's MDS, where they are installed (``pip install pylance
  webdataset``, and ``--no-deps mosaicml-streaming`` with what it then misses).

Each shard has SHARD films. Films are read in batches as a small subset is: a random 5% of them, in
another order at each visit; and once in sequence. WebDataset has no random access: a visit reads
every tar file, keeps what is of the subset, and gives it in the order of the files.

The first table is of this machine's disk: what is written is flushed, what is read is in the page
cache; best of the rounds, in turn, as ratios to ours, of which a third is the checksum that nobody
else looks at. The second counts what an S3 server is asked for, which is what a cloud bills and a
latency multiplies: requests and bytes for each film that is wanted. It needs ``pip install
"moto[server,s3]" s3fs``. Reading is told apart from decoding, which is the same for all.
"""

import argparse
import importlib.util
import io
import logging
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from radsweep.corpus.manifest import index_table, shard_file
from radsweep.corpus.order import positions_to_rows
from radsweep.corpus.phantom import HOSPITALS, render_image, sample_patient
from radsweep.corpus.png import png_of
from radsweep.errors import StreamError
from radsweep.store import Store

HAS_LANCE, HAS_WEBDATASET, HAS_MOSAIC, HAS_SERVER = (
    all(importlib.util.find_spec(name) for name in names)
    for names in (("lance",), ("webdataset",), ("streaming",), ("moto", "s3fs", "flask_cors"))
)
if HAS_LANCE:
    import lance
if HAS_WEBDATASET:
    import webdataset
if HAS_MOSAIC:
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
if HAS_SERVER:
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

ENDINGS = {".png", ".jpg", ".jpeg"}
CORPUS = "shards@1"
SHARD = 128
"""Films."""
BATCH = 32
SHARE = 0.05
VISITS = 20
ROUNDS = 3

Visit = Callable[[NDArray[np.int64]], Iterator[tuple[int, bytes]]]
"""Gives each film of these numbers, with its number."""
Write = Callable[[list[bytes], Path], None]
Open = Callable[[str, Path], Visit]
"""Of where the shards are and an empty folder for what is kept of them."""


def batches(rows: NDArray[np.int64]) -> Iterator[list[int]]:
    """Of a visit."""
    for at in range(0, len(rows), BATCH):
        yield rows[at : at + BATCH].tolist()


def shards(films: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """By number."""
    for first in range(0, len(films), SHARD):
        yield first // SHARD, films[first : first + SHARD]


def write_packs(films: list[bytes], folder: Path) -> None:
    """As ``ingest`` does."""
    store = Store(str(folder))
    places = []
    for shard, packed in shards(films):
        ends = np.cumsum([len(film) for film in packed]).tolist()
        for film, end in zip(packed, ends, strict=True):
            places.append((shard, end - len(film), len(film), zlib.crc32(film)))
        store.write_bytes(shard_file(CORPUS, shard), b"".join(packed))
    names = ["shard", "offset", "length", "crc32"]
    store.write_table("places.parquet", pl.DataFrame(places, names, orient="row"))


def open_packs(url: str, kept: Path) -> Visit:
    """As ``Reader`` does, without decoding."""
    store = Store(url)
    places = index_table(store.read_table("places.parquet"))

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        for batch in batches(rows):
            found = [tuple(place.values()) for place in places.take(batch).to_pylist()]
            ranges = [(shard_file(CORPUS, shard), at, at + size) for shard, at, size, _ in found]
            films = store.read_ranges(ranges)
            for row, (shard, _, _, crc32), film in zip(batch, found, films, strict=True):
                if zlib.crc32(film) != crc32:
                    raise StreamError(f"{shard_file(CORPUS, shard)} is damaged")
                yield row, film

    return visit


def write_files(films: list[bytes], folder: Path) -> None:
    """One each."""
    for number, film in enumerate(films):
        (folder / f"{number:06d}.png").write_bytes(film)


def open_files(url: str, kept: Path) -> Visit:
    """By name; s3fs asks for the size of each first."""
    fs, root = fsspec.core.url_to_fs(url)

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        for row in rows.tolist():
            yield row, fs.cat_file(f"{root}/{row:06d}.png")

    return visit


def write_parquet(films: list[bytes], folder: Path, group: int) -> None:
    """A column of PNGs."""
    for shard, packed in shards(films):
        pq.write_table(
            pa.table({"png": packed}),
            folder / f"{shard:05d}.parquet",
            **{"row_group_size": group, "compression": "none", "use_dictionary": False},
        )


def open_parquet(url: str, kept: Path, group: int) -> Visit:
    """Footers are read once, each row group of a batch once a batch."""
    if url.startswith("s3://"):
        fs: Any = pyarrow.fs.S3FileSystem(
            endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1"
        )
        root = url.removeprefix("s3://")
    else:
        fs, root = pyarrow.fs.LocalFileSystem(), url
    found = fs.get_file_info(pyarrow.fs.FileSelector(root))
    files = [
        pq.ParquetFile(fs.open_input_file(one.path)) for one in sorted(found, key=lambda o: o.path)
    ]

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        for batch in batches(rows):
            groups: dict[tuple[int, int], pa.ChunkedArray] = {}
            for row in batch:
                shard, at = divmod(row, SHARD)
                place = (shard, at // group)
                if place not in groups:
                    groups[place] = files[shard].read_row_group(place[1])["png"]
                yield row, groups[place][at % group].as_py()

    return visit


def write_lance(films: list[bytes], folder: Path) -> None:
    """The same."""
    pngs = pa.table({"png": pa.array(films, pa.large_binary())})
    lance.write_dataset(pngs, folder, mode="overwrite", max_rows_per_file=SHARD)


def open_lance(url: str, kept: Path) -> Visit:
    """By ``take``."""
    options = {"aws_endpoint": os.environ.get("AWS_ENDPOINT_URL", ""), "allow_http": "true"}
    films = lance.dataset(url, storage_options=options if "://" in url else None)

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        for batch in batches(rows):
            yield from zip(batch, films.take(batch)["png"].to_pylist(), strict=True)

    return visit


def write_tar(films: list[bytes], folder: Path) -> None:
    """WebDataset's."""
    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxcount=SHARD, verbose=0) as writer:
        for number, film in enumerate(films):
            writer.write({"__key__": f"{number:06d}", "png": film})


def open_tar(url: str, kept: Path) -> Visit:
    """All of them, from begin to end; an object by curl, which is WebDataset's way."""
    fs, root = fsspec.core.url_to_fs(url)
    paths = sorted(fs.ls(root, detail=False))
    urls = [fs.sign(path) for path in paths] if "://" in url else paths

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        wanted = set(rows.tolist())
        for film in webdataset.WebDataset(
            urls,
            shardshuffle=False,
            select_files=lambda name: int(name.partition(".")[0]) in wanted,
        ):
            yield int(film["__key__"]), film["png"]

    return visit


def write_mosaic(films: list[bytes], folder: Path) -> None:
    """Shards of as many bytes as SHARD films have in the mean."""
    limit = round(SHARD * np.mean([len(film) for film in films]))
    with MDSWriter(out=str(folder), columns={"png": "bytes"}, size_limit=limit) as writer:
        for film in films:
            writer.write({"png": film})


def open_mosaic(url: str, kept: Path) -> Visit:
    """By number; a shard in a bucket is fetched whole and kept."""
    clean_stale_shared_memory()
    remote, local = (url, str(kept)) if "://" in url else (None, url)
    films = StreamingDataset(remote=remote, local=local, batch_size=BATCH, shuffle=False)

    def visit(rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        for row in rows.tolist():
            yield row, films[row]["png"]

    return visit


OURS = "ours: packs"
FORMATS: dict[str, tuple[Write, Open, bool]] = {
    OURS: (write_packs, open_packs, True),
    "a file each": (write_files, open_files, True),
    **{
        f"Parquet, groups of {group}": (
            partial(write_parquet, group=group),
            partial(open_parquet, group=group),
            True,
        )
        for group in (1, 8, 32)
    },
    "Lance": (write_lance, open_lance, HAS_LANCE),
    "WebDataset": (write_tar, open_tar, HAS_WEBDATASET),
    "MosaicML MDS": (write_mosaic, open_mosaic, HAS_MOSAIC),
}


def stored_films(folder: Path | None, films: int, side: int) -> list[bytes]:
    """PNGs as ingest writes them."""
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
        pictures = [Image.open(file).convert("L") for file in files[:films]]
    else:
        hospital = HOSPITALS["riverside"]
        exams = [sample_patient(hospital, number, 0)[0] for number in range(films)]
        drawn = (render_image(exam, exam.views[0], hospital, side)[0] for exam in exams)
        pictures = [Image.fromarray(np.uint8(255 * film)) for film in drawn]
    return [png_of(np.array(picture.resize((side, side)))) for picture in pictures]


def visits_of(subset: NDArray[np.int64], visits: int) -> list[NDArray[np.int64]]:
    """The stream's order of a subset."""
    order = positions_to_rows(np.arange(visits * len(subset)), len(subset), 0)
    return list(subset[order].reshape(visits, -1))


def check(visit: Visit, rows: NDArray[np.int64], films: list[bytes]) -> None:
    """Every film comes once, whole."""
    found = dict(visit(rows))
    assert sorted(found) == sorted(rows.tolist())
    assert all(film == films[row] for row, film in found.items())


def flush(folder: Path) -> None:
    """To the disk, as ours are written."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def measure(
    name: str, films: list[bytes], folder: Path, visits: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Films a second: written, read at random, read in sequence. Leaves them in ``folder``."""
    write, opened, _ = FORMATS[name]
    folder.mkdir()
    began = time.perf_counter()
    write(films, folder)
    flush(folder)
    seconds = [time.perf_counter() - began]
    visit = opened(str(folder), folder)
    everything = np.arange(len(films))
    check(visit, everything, films)
    for rows in (visits, [everything]):
        began = time.perf_counter()
        for one in rows:
            for _ in visit(one):
                pass
        seconds.append(time.perf_counter() - began)
    return np.array([len(films), sum(map(len, visits)), len(films)]) / seconds


class CountingServer:
    """An S3 server as a WSGI application that counts what it is asked for and what it sends."""

    def __init__(self) -> None:
        self._server = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._counted = np.zeros(2, np.int64)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        """Answer one request."""
        answer = list(self._server(environ, start_response))
        with self._lock:
            self._counted += (1, sum(map(len, answer)))
        return iter(answer)

    def counted(self) -> NDArray[np.int64]:
        """Requests and bytes since this was asked last."""
        with self._lock:
            found, self._counted = self._counted, np.zeros(2, np.int64)
        return found


@contextmanager
def bucket() -> Iterator[tuple[CountingServer, str]]:
    """An empty one, for the block, and the environment in which ``s3://`` means it."""
    application = CountingServer()
    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    fsspec.filesystem("s3").mkdir("shards")
    try:
        yield application, "shards"
    finally:
        server.shutdown()


def upload(folder: Path, url: str) -> None:
    """The same shards as on disk."""
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{root}/{path.relative_to(folder)}", path.read_bytes())


def requests(
    names: list[str], films: list[bytes], place: Path, visits: list[NDArray[np.int64]]
) -> Table:
    """The second table."""
    table = Table(title="from S3, for each film that is wanted: requests, and bytes of its own")
    table.add_column("")
    columns = ("requests to open", "first visit", "next visits", "in sequence", "kept here")
    for column in columns:
        table.add_column(column, justify="right")
    whole = sum(map(len, films))
    with bucket() as (server, name):
        for number, form in enumerate(names):
            url = f"s3://{name}/{number}"
            upload(place / form, url)
            figures = []
            for rows in (visits[:2], [np.arange(len(films))]):
                with tempfile.TemporaryDirectory() as kept:
                    server.counted()
                    visit = FORMATS[form][1](url, Path(kept))
                    to_open = server.counted()[0]
                    for one in rows:
                        check(visit, one, films)
                        asked, sent = server.counted()
                        wanted = sum(len(films[row]) for row in one)
                        figures.append(f"{asked / len(one):.2f}, {sent / wanted:.2f}x")
                    held = sum(path.stat().st_size for path in Path(kept).rglob("*"))
            table.add_row(form, f"{to_open}", *figures, f"{held / whole:.0%}")
    return table


def main() -> None:
    """Write, read, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    for name, value in (("films", 512), ("side", 518), ("rounds", ROUNDS)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    console = Console(width=130)
    films = stored_films(given.folder, given.films, given.side)
    if not films:
        parser.error(f"{given.folder} holds no PNG and no JPEG")
    count = round(SHARE * len(films))
    subset = np.random.default_rng(0).choice(len(films), count, replace=False)
    visits = visits_of(subset, VISITS)
    names = [name for name, (_, _, there) in FORMATS.items() if there]
    best = {name: np.zeros(3) for name in names}
    with tempfile.TemporaryDirectory() as place:
        for number in range(given.rounds):
            for name in names:
                (Path(place) / str(number)).mkdir(exist_ok=True)
                folder = Path(place) / str(number) / name
                best[name] = np.maximum(best[name], measure(name, films, folder, visits))
        began = time.perf_counter()
        for film in films:
            np.array(Image.open(io.BytesIO(film)))
        decoding = (time.perf_counter() - began) / len(films)
        whole = sum(map(len, films))
        table = Table(
            title=f"{len(films)} films of {whole / len(films) / 1e3:.0f} kB, "
            f"{SHARD} to a shard; decoding one takes {1e3 * decoding:.2f} ms"
        )
        for column in (
            *("", "bytes / films'", "objects", "written, films/s", "/ ours"),
            *(f"random {SHARE:.0%}, films/s", "/ ours", "in sequence, films/s", "/ ours"),
        ):
            table.add_column(column, justify="right" if column else "left")
        last = Path(place) / str(given.rounds - 1)
        for name, (_, _, there) in FORMATS.items():
            if not there:
                table.add_row(name, "not installed")
                continue
            files = [path for path in (last / name).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            rates = zip(best[name], best[name] / best[OURS], strict=True)
            figures = (text for rate, ratio in rates for text in (f"{rate:,.0f}", f"{ratio:.2f}"))
            table.add_row(name, f"{size / whole:.4f}", f"{len(files)}", *figures)
        console.print(table)
        if HAS_SERVER:
            console.print(requests(names, films, last, visits))
        else:
            console.print("requests to S3: not counted, moto's server is not installed")


if __name__ == "__main__":
    main()
