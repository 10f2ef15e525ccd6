"""Splits, subsets and leakage checks of a large manifest against pandas: seconds and peak memory.

``python benchmarks/corpus_scale.py [--images N] [--films N]`` writes a manifest of N images (3.5
million; give 35000000 for ten times that), does each job both ways, every one in a process of its
own that reads the file itself, and prints one table. Pandas is written as its users write it: a
function mapped over the patient column, groupby, merge, sort. Both must give the same answer. The
search for near duplicates has no counterpart in pandas: it runs on ``--films`` synthetic
fingerprints, among which copies are planted.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from radsweep.corpus.check import check_corpus, scan_manifest
from radsweep.corpus.duplicates import least_similarity, near_duplicates
from radsweep.corpus.fingerprint import FINGERPRINT_BYTES, Fingerprints
from radsweep.corpus.manifest import corpus_file
from radsweep.corpus.split import DEFAULT_FRACTIONS, SPLITS, patient_number, split_of, splits_of
from radsweep.corpus.subset import digest_of, first_images, patient_order, pretrain_pool
from radsweep.store import Store

CORPUS = "scale@1"
IMAGES_PER_PATIENT = 4
PATIENTS_AT_A_TIME = 125_000
SHARES = (0.005, 0.05, 0.3, 0.6)
"""Subsets, as shares of all images."""
PLANTED = (0.93, 0.95, 0.97, 0.98, 0.99, 0.999)
COPIES = 500
"""Planted at each similarity."""
SPECTRUM = 1.1
"""Variances of synthetic fingerprints fall with this power, so that strangers are somewhat alike. A
choice, not a fit: real films are a little more alike, and their bar lies higher."""


def keyed(word: str, numbers: range) -> list[str]:
    """Twenty hex digits each, as a corpus has."""
    return [hashlib.blake2b(f"{word}{n}".encode(), digest_size=10).hexdigest() for n in numbers]


def write_manifest(store: Store, images: int) -> None:
    """A manifest with the columns that count here, reports included, and its card.

    Rows are sorted by patient, as an ingest leaves them.
    """
    store.write_json(corpus_file(CORPUS, "ingest.json"), {})
    path = store.full(corpus_file(CORPUS, "manifest.parquet"))
    patients = images // IMAGES_PER_PATIENT
    counts = {name: {"images": 0, "patients": 0} for name in SPLITS}
    schema = pa.schema(
        (name, pa.string())
        for name in ("image_id", "patient_id", "split", "report", "pixels_digest", "view", "sex")
    )
    blocks = [
        range(first, min(patients, first + PATIENTS_AT_A_TIME))
        for first in range(0, patients, PATIENTS_AT_A_TIME)
    ]
    everyone = pl.concat([pl.Series("patient_id", keyed("patient", people)) for people in blocks])
    everyone = everyone.sort()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for people in blocks:
            films = range(people.start * IMAGES_PER_PATIENT, people.stop * IMAGES_PER_PATIENT)
            ids = everyone[people.start : people.stop]
            split = splits_of(ids, DEFAULT_FRACTIONS, 0).cast(pl.String)
            for name, count in split.value_counts().iter_rows():
                counts[name]["patients"] += count
                counts[name]["images"] += count * IMAGES_PER_PATIENT
            generator = np.random.default_rng(people.start)
            view = pl.Series(["frontal", "lateral", None], dtype=pl.String)
            sex = pl.Series(["F", "M"])
            repeated = np.repeat(np.arange(len(people)), IMAGES_PER_PATIENT)
            block = pl.DataFrame(
                {
                    "image_id": keyed("image", films),
                    "patient_id": ids.gather(repeated),
                    "split": split.gather(repeated),
                    "report": [f"FINDINGS: number {n}. IMPRESSION: none. " * 5 for n in films],
                    "pixels_digest": keyed("pixels", films),
                    "view": view.gather(generator.choice(3, len(films), p=[0.7, 0.25, 0.05])),
                    "sex": sex.gather(generator.integers(0, 2, len(people))).gather(repeated),
                }
            )
            writer.write_table(block.to_arrow().cast(schema))
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = {
        "manifest_digest": digest,
        "splits": counts,
        "fractions": dict(zip(SPLITS, DEFAULT_FRACTIONS, strict=True)),
        "split_seed": 0,
    }
    store.write_json(corpus_file(CORPUS, "card.json"), card)


def scales(images: int) -> list[int]:
    """Of the subsets."""
    return [round(images * share) for share in SHARES]


def ours_splits(store: Store, images: int) -> Any:
    """Images of each split, from the identifiers alone."""
    counts = scan_manifest(store, CORPUS).group_by("patient_id").len().collect(engine="streaming")
    split = splits_of(counts["patient_id"], DEFAULT_FRACTIONS, 0)
    per_split = counts.with_columns(split=split).group_by("split").agg(pl.col("len").sum())
    return dict(per_split.sort("split").iter_rows())


def pandas_splits(store: Store, images: int) -> Any:
    """The same."""
    frame = _read(store, ["patient_id"])
    frame["split"] = frame["patient_id"].map(lambda name: split_of(name, DEFAULT_FRACTIONS, 0))
    counted = frame["split"].value_counts()
    return {name: int(counted[name]) for name in SPLITS}


def ours_subsets(store: Store, images: int) -> Any:
    """Digest of the images of each subset."""
    pool = pretrain_pool(scan_manifest(store, CORPUS))
    order = patient_order(pool, 0)
    found = (first_images(pool, order, scale) for scale in scales(images))
    return [digest_of(rows["image_id"]) for rows in found]


def ours_stratified(store: Store, images: int) -> Any:
    """The same of subsets by view and sex; there is no usual way to do it in pandas."""
    columns = ("sex", "view")
    pool = pretrain_pool(scan_manifest(store, CORPUS), columns)
    order = patient_order(pool, 0, columns)
    found = (first_images(pool, order, scale) for scale in scales(images))
    return [digest_of(rows["image_id"]) for rows in found]


def pandas_subsets(store: Store, images: int) -> Any:
    """The same."""
    frame = _read(store, ["split", "patient_id", "image_id"])
    pool = frame[frame["split"] == "pretrain"]
    order = pool.groupby("patient_id").size().rename("len").reset_index()
    order["turn"] = order["patient_id"].map(lambda name: patient_number(name, "subset", 0))
    order = order.sort_values(["turn", "patient_id"])
    order["before"] = order["len"].cumsum() - order["len"]
    digests = []
    for scale in scales(images):
        taken = order[order["before"] < scale]
        rows = pool.merge(taken[["patient_id", "turn"]], on="patient_id")
        rows = rows.sort_values(["turn", "patient_id", "image_id"])
        digests.append(hashlib.sha256("\n".join(rows["image_id"]).encode()).hexdigest())
    return digests


def ours_leakage(store: Store, images: int) -> Any:
    """The whole check but for near duplicates: it answers more than pandas is asked."""
    report = check_corpus(store, CORPUS, images=scales(images), similar=False)
    kept = {finding.name: finding.failures for finding in report.findings}
    return [kept["patients"], kept["split rule"], kept["images"], kept["pixels"], kept["subsets"]]


def pandas_leakage(store: Store, images: int) -> Any:
    """Patients over splits, the split rule, repeated images and pixels, subsets that nest."""
    frame = _read(store, ["image_id", "patient_id", "split", "pixels_digest"])
    crossing = int((frame.groupby("patient_id")["split"].nunique() > 1).sum())
    rule = frame["patient_id"].map(lambda name: split_of(name, DEFAULT_FRACTIONS, 0))
    wrong = int((rule != frame["split"]).sum())
    doubled = [int(frame[name].duplicated().sum()) for name in ("image_id", "pixels_digest")]
    digests = pandas_subsets(store, images)
    return [crossing, wrong, *doubled, len(SHARES) - len(digests)]


def _read(store: Store, columns: list[str]) -> pd.DataFrame:
    return pd.read_parquet(store.full(corpus_file(CORPUS, "manifest.parquet")), columns=columns)


JOBS: dict[str, tuple[Callable[[Store, int], Any], Callable[[Store, int], Any] | None]] = {
    "splits": (ours_splits, pandas_splits),
    "subsets": (ours_subsets, pandas_subsets),
    "stratified": (ours_stratified, None),
    "leakage": (ours_leakage, pandas_leakage),
}
TITLES = {
    "splits": "split of every patient",
    "subsets": f"{len(SHARES)} nested subsets",
    "stratified": f"{len(SHARES)} nested subsets by view and sex",
    "leakage": "corpus check (splits, repeats, nesting)",
}


def synthetic(films: int, generator: np.random.Generator) -> Fingerprints:
    """Fingerprints of strangers, and COPIES pairs at each similarity of PLANTED at the front."""
    spread = (np.arange(1, FINGERPRINT_BYTES + 1) ** (-SPECTRUM / 2)).astype(np.float32)
    found = np.empty((films, FINGERPRINT_BYTES), np.int8)
    copies = COPIES * len(PLANTED)
    step = 100_000
    for at in range(0, films, step):
        rows = generator.standard_normal((min(step, films - at), len(spread)), np.float32) * spread
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if at == 0:
            alike = np.repeat(np.float32(PLANTED), COPIES)[:, None]
            other = rows[copies : 2 * copies]
            other -= (other * rows[:copies]).sum(axis=1, keepdims=True) * rows[:copies]
            other /= np.linalg.norm(other, axis=1, keepdims=True)
            # Half of them are negatives.
            sign = np.where(np.arange(copies) % 2, np.float32(1), np.float32(-1))[:, None]
            rows[copies : 2 * copies] = sign * (
                alike * rows[:copies] + np.sqrt(1 - alike**2) * other
            )
        rows *= 127 / np.abs(rows).max(axis=1, keepdims=True)
        found[at : at + len(rows)] = np.rint(rows)
    return found


def search(films: int) -> Any:
    """Seconds, the bar, share of the planted copies found at each similarity, and strangers."""
    fingerprints = synthetic(films, np.random.default_rng(0))
    patients = np.arange(films)
    began = time.perf_counter()
    bar = least_similarity(fingerprints, patients)
    pairs = near_duplicates(fingerprints, patients, bar)
    seconds = time.perf_counter() - began
    copies = COPIES * len(PLANTED)
    planted = pairs.right - pairs.left == copies
    planted &= pairs.left < copies
    at = pairs.left[planted] // COPIES
    shares = {
        f"{alike:g}": float((at == n).mean() * len(at) / COPIES) if len(at) else 0.0
        for n, alike in enumerate(PLANTED)
    }
    return [seconds, bar, shares, int((~planted).sum())]


def peak_gib() -> float:
    """Most resident memory of this process so far; ``getrusage`` would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 2**20


def in_child(folder: str, images: int, job: str) -> list[Any]:
    """Run one job in a process of its own."""
    command = [sys.executable, __file__, "--folder", folder, "--images", str(images), "--job", job]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: list[Any] = json.loads(done.stdout)
    return answer


def compared(ours: float, theirs: float, our_cpu: float, their_cpu: float) -> list[str]:
    """Their seconds, and how many times ours those are, by the clock and by CPU time."""
    return [f"{theirs:.1f}", f"{theirs / ours:.1f}", f"{their_cpu / our_cpu:.1f}"]


def main() -> None:
    """Write, run each job both ways, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3_500_000)
    parser.add_argument("--films", type=int, help="fingerprints; as many as images if not given")
    parser.add_argument("--no-pandas", action="store_true", help="ours alone")
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    films = given.images if given.films is None else given.films
    if given.job:
        name, _, side = given.job.partition(":")
        began, cpu = time.perf_counter(), time.process_time()
        if name == "search":
            answer = search(given.images)
        else:
            run = JOBS[name][side == "pandas"]
            assert run is not None
            answer = run(Store(given.folder), given.images)
        print(
            json.dumps([time.perf_counter() - began, peak_gib(), answer, time.process_time() - cpu])
        )
        return
    table = Table(
        title=f"{given.images:,} images of {given.images // IMAGES_PER_PATIENT:,} patients"
    )
    table.add_column("job")
    for name in (
        "ours, s",
        "pandas, s",
        "pandas / ours",
        "by CPU time",
        "ours, GiB",
        "pandas, GiB",
    ):
        table.add_column(name, justify="right")
    total = np.zeros(4)
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Store(folder), given.images)
        for name, (_, theirs) in JOBS.items():
            seconds, peak, answer, cpu = in_child(folder, given.images, f"{name}:ours")
            row = [TITLES[name], f"{seconds:.1f}", "", "", "", f"{peak:.2f}", ""]
            if theirs is not None and not given.no_pandas:
                their_seconds, their_peak, their_answer, their_cpu = in_child(
                    folder, given.images, f"{name}:pandas"
                )
                if answer != their_answer:
                    raise SystemExit(f"{name}: {answer} is not {their_answer}")
                row[2:5] = compared(seconds, their_seconds, cpu, their_cpu)
                row[6] = f"{their_peak:.2f}"
                total += seconds, their_seconds, cpu, their_cpu
            table.add_row(*row)
    if total.any():
        table.add_row("all that both do", f"{total[0]:.1f}", *compared(*total))
    if films:
        _, peak, (seconds, bar, shares, strangers), _ = in_child("", films, "search:ours")
        table.add_row(
            f"near duplicates among {films:,} films", f"{seconds:.1f}", "", "", "", f"{peak:.2f}"
        )
    console = Console(width=120)
    console.print(table)
    if films:
        found = ", ".join(f"{share:.1%} at {alike}" for alike, share in shares.items())
        console.print(f"bar {bar:.3f}; planted copies found: {found}; strangers: {strangers}")


if __name__ == "__main__":
    main()
