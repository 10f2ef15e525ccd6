"""The proof that a corpus may be swept: nothing crosses splits, subsets nest, files are as written.

Each promise is recomputed from the manifest and the stored pictures, and none is taken from the
code that was meant to keep it. Columns are read one question at a time, so that reports never are.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl

from radsweep.corpus.duplicates import least_similarity, near_duplicates
from radsweep.corpus.fingerprint import MapShards, corpus_fingerprints
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.manifest import corpus_file, label_columns
from radsweep.corpus.overlap import TOLD_BY, listed_images, overlap
from radsweep.corpus.split import SPLITS, splits_of
from radsweep.corpus.strata import check_columns, value_sets
from radsweep.corpus.subset import Pool, digest_of, first_images, patient_order, pretrain_pool
from radsweep.errors import SpecError
from radsweep.store import Store

ORDER = pl.Enum((*SPLITS, *TOLD_BY))
"""Of a note's parts."""

EXAMPLES = 5
"""Failures that a finding names."""


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One promise, and whether it is kept."""

    name: str
    claim: str
    """What was looked at, as a sentence that is true if there are no failures."""
    checked: int
    """Patients, images, pairs or whatever the claim is about."""
    failures: int
    examples: tuple[str, ...] = ()
    """Pseudonyms of up to EXAMPLES failures, the first in order."""
    note: str = ""
    """What to know beside it; no failure."""


@final
@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found."""

    corpus: str
    images: int
    patients: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise is kept."""
        return all(finding.failures == 0 for finding in self.findings)


def check_corpus(
    store: Store,
    corpus: str,
    *,
    images: Sequence[int] = (),
    subset_seeds: Sequence[int] = (0,),
    stratify_by: Sequence[str] = (),
    similar: bool = True,
    training_list: Path | None = None,
    patient_key: PatientKey | None = None,
    map_shards: MapShards = map,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check a finished corpus.

    Args:
        store: where it is.
        corpus: ``name@version``.
        images: scales whose subsets must nest; those larger than the corpus are refused.
        subset_seeds: of the patient orders that are checked at every scale.
        stratify_by: columns whose mix the subsets must share, as of ``Subset.stratify_by``.
        similar: whether to look for near duplicates, which decodes every picture the first time.
        training_list: what a starting checkpoint was trained on, as of ``listed_images``.
        patient_key: the corpus's own, to key that list; needed with it.
        map_shards: runs the decoding of shards, here or elsewhere.
        progress: is given (shards done, shards in all) while near duplicates are looked for.

    Raises SpecError if there is no such corpus, a scale exceeds it, it has no column to stratify by
    or a key is missing, StreamError where stored pictures are damaged.
    """
    if training_list is not None and patient_key is None:
        raise SpecError(
            "a list of training images can only be compared under the corpus's own patient key: "
            "the manifest holds keyed hashes"
        )
    card_file = corpus_file(corpus, "card.json")
    if not store.exists(card_file):
        raise SpecError(f"corpus {corpus} is not in the store {store.url}, or was never finished")
    card: dict[str, Any] = store.read_json(card_file)
    manifest = scan_manifest(store, corpus)
    check_columns(stratify_by, label_columns(manifest.collect_schema().names()))
    patients = _patients(manifest)
    findings = [
        _file(store, corpus, card),
        _card(patients, card),
        _crossing(patients),
        _rule(patients, card),
        _repeated(manifest, "image_id", "images", "no image identifier comes twice"),
        _repeated(manifest, "pixels_digest", "pixels", "no two images have the same pixels"),
    ]
    if similar:
        findings.append(_similar(store, manifest, map_shards, progress))
    if images:
        pool = pretrain_pool(manifest, stratify_by)
        findings += _nested(pool, corpus, subset_seeds, images, stratify_by)
    if training_list is not None and patient_key is not None:
        findings.append(_known(manifest, training_list, patient_key))
    return CheckReport(
        corpus=corpus,
        images=int(patients["images"].sum()),
        patients=patients.height,
        findings=tuple(findings),
    )


def scan_manifest(store: Store, corpus: str) -> pl.LazyFrame:
    """The manifest, read by column and only when asked; an object store's file comes whole."""
    name = corpus_file(corpus, "manifest.parquet")
    if store.is_local:
        return pl.scan_parquet(store.full(name))
    return pl.scan_parquet(io.BytesIO(store.read_bytes(name)))


def _patients(manifest: pl.LazyFrame) -> pl.DataFrame:
    """patient_id, images, and the first and the last (in some order) of their splits.

    A word that is no split is null, and counted as ``unknown``.
    """
    split = pl.col("split")
    return (
        manifest.select("patient_id", split.cast(pl.Enum(SPLITS), strict=False))
        .group_by("patient_id")
        .agg(images=pl.len(), split=split.min(), last=split.max(), unknown=split.null_count())
        .collect(engine="streaming")
    )


def _finding(name: str, claim: str, checked: int, failed: pl.Series, note: str = "") -> Finding:
    examples = tuple(str(value) for value in failed.head(EXAMPLES))
    return Finding(
        name=name, claim=claim, checked=checked, failures=len(failed), examples=examples, note=note
    )


def _file(store: Store, corpus: str, card: dict[str, Any]) -> Finding:
    name = corpus_file(corpus, "manifest.parquet")
    if store.is_local:
        with open(store.full(name), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        digest = hashlib.sha256(store.read_bytes(name)).hexdigest()
    return Finding(
        name="manifest",
        claim="the manifest is the file whose SHA-256 the card holds",
        checked=1,
        failures=int(digest != card["manifest_digest"]),
    )


def _card(patients: pl.DataFrame, card: dict[str, Any]) -> Finding:
    counted = {
        split: (images, people)
        for split, images, people in patients.group_by("split")
        .agg(pl.col("images").sum(), pl.len().alias("people"))
        .iter_rows()
    }
    wrong = [
        split
        for split in SPLITS
        if counted.get(split, (0, 0))
        != (card["splits"][split]["images"], card["splits"][split]["patients"])
    ]
    claim = "images and patients of each split are as many as the card says"
    return _finding("card", claim, len(SPLITS), pl.Series(wrong, dtype=pl.String))


def _crossing(patients: pl.DataFrame) -> Finding:
    some_unknown = (pl.col("unknown") > 0) & (pl.col("unknown") < pl.col("images"))
    failed = patients.filter((pl.col("split") != pl.col("last")) | some_unknown)
    claim = "no patient is in two splits"
    return _finding("patients", claim, patients.height, failed["patient_id"].sort())


def _rule(patients: pl.DataFrame, card: dict[str, Any]) -> Finding:
    fractions = [card["fractions"][split] for split in SPLITS]
    expected = splits_of(patients["patient_id"], fractions, card["split_seed"])
    failed = patients.filter(pl.col("split").ne_missing(expected) | (pl.col("unknown") > 0))
    claim = "each patient is in the split that the keyed hash and the card's shares give"
    return _finding("split rule", claim, patients.height, failed["patient_id"].sort())


def _repeated(manifest: pl.LazyFrame, column: str, name: str, claim: str) -> Finding:
    """Failures are the image identifiers of all but the first of equal values."""
    known = manifest.select(column).drop_nulls().select(pl.col(column).hash())
    hashes = np.sort(known.collect(engine="streaming").to_series().to_numpy())
    # Values with as many hashes as there are values differ; where hashes repeat, values may.
    if (hashes[1:] != hashes[:-1]).all():
        return _finding(name, claim, len(hashes), pl.Series(dtype=pl.String))
    rows = manifest.select("image_id", pl.col(column).alias("value")).collect()
    twice = pl.col("value").is_not_null() & ~pl.col("value").is_first_distinct()
    return _finding(name, claim, len(hashes), rows.sort("image_id").filter(twice)["image_id"])


def _similar(
    store: Store,
    manifest: pl.LazyFrame,
    map_shards: MapShards,
    progress: Callable[[int, int], None] | None,
) -> Finding:
    """Pairs across patients; those across splits are failures, the others a note."""
    rows = manifest.select(
        "image_id", "corpus", "shard", "offset", "length", "crc32",
        pl.col("split").cast(pl.Enum(SPLITS)),
        pl.col("patient_id").rank("dense").alias("patient"),
    ).collect()  # fmt: skip
    rows, fingerprints = corpus_fingerprints(store, rows, map_shards=map_shards, progress=progress)
    patients = rows["patient"].cast(pl.Int64).to_numpy()
    similarity = least_similarity(fingerprints, patients)
    pairs = near_duplicates(fingerprints, patients, similarity)
    split = rows["split"].to_physical().to_numpy()
    crossing = np.flatnonzero(split[pairs.left] != split[pairs.right])
    within = len(pairs.left) - len(crossing)
    shown = crossing[:EXAMPLES]
    examples = tuple(
        f"{one} ~ {two} ({alike:.3f})"
        for one, two, alike in zip(
            rows["image_id"].gather(pairs.left[shown]),
            rows["image_id"].gather(pairs.right[shown]),
            pairs.similarity[shown],
            strict=True,
        )
    )
    return Finding(
        name="near duplicates",
        claim=f"no two films of different splits correlate by {similarity:.3f} or more",
        checked=rows.height,
        failures=len(crossing),
        examples=examples,
        note=f"{within:,} more pairs of different patients within one split" if within else "",
    )


def _nested(
    pool: Pool,
    corpus: str,
    seeds: Sequence[int],
    images: Sequence[int],
    stratify_by: Sequence[str],
) -> list[Finding]:
    """Each subset is taken by itself, then compared with the next larger one, image by image."""
    known = pool.images.height
    if max(images) > known:
        raise SpecError(
            f"a subset of {max(images):,} is larger than corpus {corpus} ({known:,} images for "
            "pretraining); leave it out of the check"
        )
    findings = []
    for seed in seeds:
        order = patient_order(pool, seed, stratify_by)
        if stratify_by:
            findings.append(_mixed(pool, order, seed, images, stratify_by))
        wrong, digests = [], []
        larger: pl.Series | None = None
        for scale in sorted(set(images), reverse=True):
            taken = first_images(pool, order, scale)
            ids = taken["image_id"]
            last = taken.filter(pl.col("turn") == pl.col("turn").max()).height
            shortest = taken.height - last < scale <= taken.height
            if not shortest or (larger is not None and not ids.equals(larger.head(len(ids)))):
                wrong.append(f"{scale:,}")
            digests.append(f"{scale:,} images {digest_of(ids)[:10]}")
            larger = ids
        claim = f"seed {seed}: each subset is whole patients, the shortest, a prefix of the next"
        note = ", ".join(reversed(digests))
        failed = pl.Series(wrong, dtype=pl.String)
        findings.append(_finding("subsets", claim, len(digests), failed, note))
    return findings


def _mixed(
    pool: Pool,
    order: pl.DataFrame,
    seed: int,
    images: Sequence[int],
    columns: Sequence[str],
) -> Finding:
    """The bound follows from one patient more or less in each stratum, all of them the largest."""
    strata = order.sort("first")
    strata = strata.hstack(value_sets(pool.images, strata["first"], columns))
    whole = strata.group_by(columns).agg(pl.col("len").sum().alias("whole"))
    share = pl.col("whole") / pl.col("whole").sum()
    bound = int(order["len"].max()) * (1 + whole.height * share)  # type: ignore[arg-type]
    wrong, most = [], 0.0
    for scale in sorted(set(images)):
        taken = strata.filter(pl.col("before") < scale).group_by(columns)
        mix = whole.join(
            taken.agg(pl.col("len").sum().alias("taken")), on=columns, how="left"
        ).with_columns(pl.col("taken").fill_null(0))
        total = max(1, mix["taken"].sum())
        off = (pl.col("taken") - share * total).abs()
        if mix.select((off > bound).any()).item():
            wrong.append(f"{scale:,}")
        most = max(most, mix.select(off.max()).item() / total)
    return _finding(
        "strata",
        f"seed {seed}: each subset has of each of {whole.height:,} strata ({', '.join(columns)}) "
        "its share of the images, give or take whole patients",
        len(set(images)),
        pl.Series(wrong, dtype=pl.String),
        f"the farthest share is off by {most:.2%} of a subset's images",
    )


def _known(manifest: pl.LazyFrame, training_list: Path, patient_key: PatientKey) -> Finding:
    """Images to pretrain on may be known to a checkpoint, images to score on may not."""
    listed = listed_images(training_list)
    found = overlap(manifest, listed, patient_key)
    evaluated = found.filter(pl.col("split") != "pretrain")
    note = "; ".join(
        ", ".join(f"{count:,} {word} {name}" for name, count in counts)
        for column, word in (("split", "in"), ("by", "by"))
        if (counts := found.group_by(column).len().sort(pl.col(column).cast(ORDER)).rows())
    )
    claim = "no image outside pretrain is in the list that the starting checkpoint was trained on"
    return _finding("training list", claim, len(listed.names), evaluated["image_id"], note)
