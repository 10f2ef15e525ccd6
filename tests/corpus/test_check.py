"""The check of a corpus: a sound one passes, and each way to break one is found and named."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from radsweep.corpus.check import CheckReport, check_corpus
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.manifest import SCHEMA, corpus_file, shard_file
from radsweep.corpus.split import DEFAULT_FRACTIONS, SPLITS, split_of, splits_of
from radsweep.errors import SpecError, StreamError
from radsweep.store import Store
from radsweep.sweep.show_corpus import check_table

NAME = "sound@1"
KEY = PatientKey(b"a secret of the tests")
PATIENTS = 60


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(store: Store, manifest: pl.DataFrame) -> None:
    """The manifest, and a card that agrees with it."""
    buffer = io.BytesIO()
    manifest.write_parquet(buffer)
    store.write_bytes(corpus_file(NAME, "manifest.parquet"), buffer.getvalue())
    splits = {}
    for name in SPLITS:
        rows = manifest.filter(pl.col("split") == name)
        splits[name] = {"images": rows.height, "patients": rows["patient_id"].n_unique()}
    card = {
        "manifest_digest": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "splits": splits,
        "fractions": dict(zip(SPLITS, DEFAULT_FRACTIONS, strict=True)),
        "split_seed": 0,
    }
    store.write_json(corpus_file(NAME, "card.json"), card)


def sound(root: Path, copy_of: tuple[int, int] | None = None) -> tuple[Store, pl.DataFrame]:
    """Two images a patient, in two shards; optionally image [1] is a darker copy of image [0]."""
    store, random = Store(str(root)), np.random.default_rng(0)
    films = [random.integers(0, 256, (72, 72), np.uint8) for _ in range(2 * PATIENTS)]
    if copy_of is not None:
        films[copy_of[1]] = (films[copy_of[0]] * 0.8).astype(np.uint8)
    packs: list[bytearray] = [bytearray(), bytearray()]
    rows = []
    for number, film in enumerate(films):
        patient = KEY.pseudonym("patient", f"P{number // 2}")
        data, shard = png(film), number % 2
        rows.append(
            {
                "image_id": KEY.pseudonym("image", f"1.2.{number}"),
                "patient_id": patient,
                "split": split_of(patient, DEFAULT_FRACTIONS, 0),
                "corpus": NAME,
                "shard": shard,
                "offset": len(packs[shard]),
                "length": len(data),
                "crc32": zlib.crc32(data),
                "pixels_digest": f"d{number}",
            }
        )
        packs[shard] += data
    for shard, pack in enumerate(packs):
        store.write_bytes(shard_file(NAME, shard), bytes(pack))
    manifest = pl.DataFrame(rows, schema=SCHEMA)
    write(store, manifest)
    return store, manifest


def failures(report: CheckReport) -> dict[str, int]:
    return {finding.name: finding.failures for finding in report.findings if finding.failures}


def test_a_sound_corpus_passes_and_every_promise_is_looked_at(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    report = check_corpus(store, NAME, images=(5, 20, 41), subset_seeds=(0, 1))
    assert report.passed
    assert (report.images, report.patients) == (manifest.height, PATIENTS)
    names = [finding.name for finding in report.findings]
    assert names == [
        "manifest", "card", "patients", "split rule", "images", "pixels", "near duplicates",
        "subsets", "subsets",
    ]  # fmt: skip
    assert all(finding.checked for finding in report.findings)


def test_a_patient_in_two_splits_is_named(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    victim = manifest.filter(pl.col("split") == "pretrain")["patient_id"][0]
    moved = (pl.col("patient_id") == victim) & pl.col("patient_id").is_first_distinct()
    write(
        store, manifest.with_columns(split=pl.when(moved).then(pl.lit("test")).otherwise("split"))
    )
    report = check_corpus(store, NAME, similar=False)
    crossing = next(finding for finding in report.findings if finding.name == "patients")
    assert crossing.examples == (victim,)
    assert not report.passed


def test_a_whole_patient_moved_to_another_split_breaks_the_rule(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    victim = manifest.filter(pl.col("split") == "pretrain")["patient_id"][0]
    there = pl.col("patient_id") == victim
    write(
        store, manifest.with_columns(split=pl.when(there).then(pl.lit("test")).otherwise("split"))
    )
    assert failures(check_corpus(store, NAME, similar=False)) == {"split rule": 1}


def test_a_word_that_is_no_split_is_a_failure_of_the_rule_and_half_a_patient_of_it_crosses(
    tmp_path: Path,
) -> None:
    store, manifest = sound(tmp_path)
    one, two = manifest["patient_id"].unique(maintain_order=True)[:2]
    wrong = (pl.col("patient_id") == one) | (
        (pl.col("patient_id") == two) & ~pl.col("patient_id").is_first_distinct()
    )
    write(store, manifest.with_columns(split=pl.when(wrong).then(pl.lit("x")).otherwise("split")))
    report = check_corpus(store, NAME, similar=False)
    found = {finding.name: finding.examples for finding in report.findings if finding.failures}
    assert found["patients"] == (two,)
    assert found["split rule"] == tuple(sorted((one, two)))


def test_repeated_images_and_pixels_are_counted(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    first, digest = manifest["image_id"][0], manifest["pixels_digest"][5]
    here = pl.int_range(pl.len())
    write(
        store,
        manifest.with_columns(
            image_id=pl.when(here == 1).then(pl.lit(first)).otherwise("image_id"),
            pixels_digest=pl.when(here >= 118).then(pl.lit(digest)).otherwise("pixels_digest"),
        ),
    )
    assert failures(check_corpus(store, NAME, similar=False)) == {"images": 1, "pixels": 2}


def test_a_manifest_that_was_edited_after_the_ingest_is_seen(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    store.write_table(corpus_file(NAME, "manifest.parquet"), manifest.head(100))
    found = failures(check_corpus(store, NAME, similar=False))
    assert found["manifest"] == 1
    assert found["card"] >= 1


def test_a_copy_in_another_split_is_a_failure_and_one_within_a_split_a_note(tmp_path: Path) -> None:
    _, manifest = sound(tmp_path / "plain")
    split = manifest["split"].to_list()
    across = next(n for n in range(2, 120) if split[n] != split[0])
    within = next(n for n in range(2, 120) if split[n] == split[0])
    store, _ = sound(tmp_path / "across", copy_of=(0, across))
    report = check_corpus(store, NAME)
    assert failures(report) == {"near duplicates": 1}
    (example,) = report.findings[-1].examples
    assert set(example.split()[:3:2]) == {manifest["image_id"][0], manifest["image_id"][across]}
    store, _ = sound(tmp_path / "within", copy_of=(0, within))
    report = check_corpus(store, NAME)
    assert report.passed
    assert report.findings[-1].note.startswith("1 more pairs")


def test_fingerprints_are_stored_so_that_a_second_check_reads_no_pixels(tmp_path: Path) -> None:
    store, _ = sound(tmp_path)
    first = check_corpus(store, NAME)
    store.delete(corpus_file(NAME, "shards"))
    assert check_corpus(store, NAME) == first


def test_a_damaged_shard_is_not_passed_over(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    pack = bytearray(store.read_bytes(shard_file(NAME, 1)))
    pack[manifest["offset"][3] + 60] ^= 1
    store.write_bytes(shard_file(NAME, 1), bytes(pack))
    with pytest.raises(StreamError, match=r"00001\.pack is damaged"):
        check_corpus(store, NAME)


@pytest.mark.parametrize("as_csv", [True, False])
def test_images_that_a_checkpoint_was_trained_on_are_counted_by_split(
    tmp_path: Path, as_csv: bool
) -> None:
    store, manifest = sound(tmp_path)
    split = manifest["split"].to_list()
    known = [split.index("pretrain"), split.index("test")]
    listed = tmp_path / "training_images.csv"
    uids = [f"1.2.{n}" for n in (*known, 9_999)]
    listed.write_text(
        "dataset,image\n" + "\n".join(f"x,files/{uid}.dcm" for uid in uids)
        if as_csv
        else "\n".join(uids)
    )
    report = check_corpus(store, NAME, similar=False, training_list=listed, patient_key=KEY)
    found = report.findings[-1]
    assert (found.name, found.failures) == ("training list", 1)
    assert found.examples == (manifest["image_id"][known[1]],)
    assert found.note == "1 in pretrain, 1 in test; 2 by SOP instance"
    with pytest.raises(SpecError, match="patient key"):
        check_corpus(store, NAME, similar=False, training_list=listed)


def test_the_mix_of_stratified_subsets_is_looked_at_and_an_order_without_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = sound(tmp_path)
    sex = pl.when(pl.col("patient_id") < "8").then(pl.lit("F")).otherwise(pl.lit("M"))
    write(store, manifest.with_columns(sex=sex))
    given = {"similar": False, "images": (30, 60), "subset_seeds": (0, 1), "stratify_by": ("sex",)}
    report = check_corpus(store, NAME, **given)
    mixes = [finding for finding in report.findings if finding.name == "strata"]
    assert report.passed and [mix.checked for mix in mixes] == [2, 2]
    assert "2 strata (sex)" in mixes[0].claim
    # Women first, then men: no subset but the last has the corpus's share.
    monkeypatch.setattr(
        "radsweep.corpus.subset.stratified_order",
        lambda patients, _: patients.sort("sex", "number"),
    )
    assert failures(check_corpus(store, NAME, **given))["strata"] >= 1
    with pytest.raises(SpecError, match="stratified by 'report'; known: age_years, projection"):
        check_corpus(store, NAME, similar=False, stratify_by=("report",))


def test_a_scale_beyond_the_corpus_is_refused_with_both_numbers(tmp_path: Path) -> None:
    store, _ = sound(tmp_path)
    with pytest.raises(SpecError, match=r"subset of 1,000 is larger than corpus sound@1 \(\d+ "):
        check_corpus(store, NAME, similar=False, images=(10, 1_000))


def test_the_table_names_what_failed(tmp_path: Path) -> None:
    store, manifest = sound(tmp_path)
    store.write_table(corpus_file(NAME, "manifest.parquet"), manifest.head(100))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(check_table(check_corpus(store, NAME, similar=False)))
    text = console.export_text()
    assert "not all kept" in text
    assert "SHA-256" in text


@settings(max_examples=30, deadline=None)
@given(
    people=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True),
    weights=st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_splits_of_many_patients_are_those_of_each_whatever_the_order(
    people: list[str], weights: list[int], seed: int, order: object
) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    shuffled = list(people)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    found = dict(zip(shuffled, splits_of(pl.Series(shuffled), fractions, seed), strict=True))
    assert found == {name: split_of(name, fractions, seed) for name in people}
