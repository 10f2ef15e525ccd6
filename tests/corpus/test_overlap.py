"""Training lists name SOP instances, files or paths; each finds its films, and no other's."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radsweep.corpus.check import check_corpus
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus, corpus_file
from radsweep.corpus.overlap import file_name, listed_images, overlap, path_end
from radsweep.errors import SpecError
from radsweep.store import Store

KEY = PatientKey(b"not a secret, a test")
PATIENTS = 12

NAMES = {
    "chexpert": "train/patient{n:05}/study1/view1_frontal.png",
    "nih": "images_001/images/{n:08}_000.png",
    "mimic": "files/p10/p1000{n:04}/s5041{n:04}/02aa804e-bde0afdd-{n:08x}.png",
    "archive": "{n}/1.2.840.113619.2.{n}",
}
"""Where each lays its files, here and in its list alike."""


def corpus_of(root: Path, *names: str, images: int = 1) -> Corpus:
    """Films of PATIENTS patients, ``images`` each, under each layout's names (by patient)."""
    random = np.random.default_rng(0)
    table = []
    for name in names:
        for number in range(PATIENTS * images):
            path = root / "films" / NAMES[name].format(n=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            ramp = np.add.outer(np.arange(64) * 2, np.arange(64)) + random.integers(0, 3, (64, 64))
            Image.fromarray(ramp.astype(np.uint8)).save(path, "PNG")
            table.append((str(path.relative_to(root / "films")), f"P{number // images}"))
    pl.DataFrame(table, schema=["path", "patient_id"], orient="row").write_csv(root / "who.csv")
    spec = IngestSpec(
        corpus="set@1",
        sources=(str(root / "films"),),
        labels=(str(root / "who.csv"),),
        size=48,
        fractions=(0.5, 0.2, 0.1, 0.2),
    )
    store = Store(str(root / "store"))
    card = ingest(spec, store, KEY)
    assert card["images"] == len(table)
    return Corpus.open(store, "set@1")


def patients_of(found: pl.DataFrame, corpus: Corpus) -> set[str]:
    return set(corpus.manifest.join(found, on="image_id", how="semi")["patient_id"])


def keyed(*numbers: int) -> set[str]:
    return {KEY.pseudonym("patient", f"P{number}") for number in numbers}


@pytest.mark.parametrize(
    ("layout", "entry", "by"),
    [
        ("chexpert", "CheXpert-v1.0-small/train/patient{n:05}/study1/view1_frontal.jpg", "path"),
        ("nih", "{n:08}_000.png", "file name"),
        ("nih", "{n:08}_000", "file name"),
        ("mimic", "02aa804e-bde0afdd-{n:08x}", "file name"),
        ("mimic", "files/p10/p1000{n:04}/s5041{n:04}/02aa804e-bde0afdd-{n:08x}.dcm", "path"),
        ("mimic", r"D:\mine\02aa804e-bde0afdd-{n:08x}.jpg", "file name"),
        ("archive", "1.2.840.113619.2.{n}", "file name"),
    ],
)
def test_a_list_finds_its_films_however_it_names_them(
    tmp_path: Path, layout: str, entry: str, by: str
) -> None:
    corpus = corpus_of(tmp_path, layout)
    listed = tmp_path / "list.csv"
    lines = [entry.format(n=number) for number in (1, 5, 7, 90_000)]
    listed.write_text("\n".join(["number,image", *(f"{n},{line}" for n, line in enumerate(lines))]))
    found = overlap(corpus.manifest.lazy(), listed_images(listed), KEY)
    assert patients_of(found, corpus) == keyed(1, 5, 7)
    assert set(found["by"]) == {by}
    assert overlap(corpus.manifest.lazy(), listed_images(listed), PatientKey(b"k" * 16)).is_empty()


def test_a_name_that_films_of_several_patients_bear_tells_nothing(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "chexpert", "nih")
    listed = tmp_path / "list.txt"
    listed.write_text("view1_frontal.jpg\n00000003_000.png\n")
    found = overlap(corpus.manifest.lazy(), listed_images(listed), KEY)
    assert patients_of(found, corpus) == keyed(3)
    assert found.height == 1


def test_a_film_that_is_listed_twice_is_found_once_by_the_surest(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "mimic")
    listed = tmp_path / "list.csv"
    name, path = (text.format(n=2) for text in ("02aa804e-bde0afdd-{n:08x}", NAMES["mimic"]))
    listed.write_text(f"dicom_id,path\n{name},{path}\n")
    found = overlap(corpus.manifest.lazy(), listed_images(listed), KEY)
    assert found["by"].to_list() == ["path"]


def test_the_check_counts_matches_by_name_and_fails_for_films_that_are_scored(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, "nih", images=2)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(f"{number:08}_000.png" for number in range(2 * PATIENTS)))
    report = check_corpus(
        corpus.store, "set@1", similar=False, training_list=listed, patient_key=KEY
    )
    counts = {name: part["images"] for name, part in corpus.card["splits"].items()}
    assert counts["pretrain"] and counts["test"]
    found = report.findings[-1]
    assert found.failures == 2 * PATIENTS - counts["pretrain"]
    assert found.note.startswith(f"{counts['pretrain']} in pretrain, ")
    assert found.note.endswith(f"; {2 * PATIENTS} by file name")


def test_a_corpus_without_names_is_refused_and_its_next_version_shares_its_pictures(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, "nih")
    store = corpus.store
    old = corpus.manifest.drop("file_id", "path_id")
    store.write_table(corpus_file("set@1", "manifest.parquet"), old)
    listed = tmp_path / "list.txt"
    listed.write_text("00000001_000.png")
    given = {"similar": False, "training_list": listed, "patient_key": KEY}
    with pytest.raises(SpecError, match=r"made before files' names were kept .* with --extends"):
        check_corpus(store, "set@1", **given)
    spec = IngestSpec(
        corpus="set@2",
        sources=(str(tmp_path / "films"),),
        labels=(str(tmp_path / "who.csv"),),
        size=48,
        fractions=(0.5, 0.2, 0.1, 0.2),
        extends="set@1",
    )
    card = ingest(spec, store, KEY)
    assert card["shared_images"] == {"set@1": PATIENTS}
    assert check_corpus(store, "set@2", **given).findings[-1].note.endswith("1 by file name")


def test_no_file_name_is_written_into_the_store(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "mimic")
    names = re.compile(rb"02aa804e|p1000000|s5041000")
    files = [path for path in Path(corpus.store.url).rglob("*") if path.is_file()]
    assert len(files) > 3
    assert corpus.manifest["file_id"].n_unique() == PATIENTS
    assert not any(names.search(path.read_bytes()) for path in files)
    text = corpus.manifest.select(pl.exclude("report").cast(pl.String)).write_csv()
    assert not names.search(text.encode())


@pytest.mark.parametrize(
    ("path", "name", "end"),
    [
        ("a/b/c.dcm", "c", "a/b/c"),
        ("/x/a/b/c.d.jpeg", "c.d", "a/b/c.d"),
        ("b/c.png", "c", None),
        ("1.2.840.113619.2.17", "1.2.840.113619.2.17", None),
        ("1.2.840.dcm", "1.2.840", None),
        (r"C:\a\b\.hidden", ".hidden", "a/b/.hidden"),
        ("a//b/c/", "c", "a/b/c"),
        ("", "", None),
    ],
)
def test_names_lose_folder_and_suffix_and_uids_lose_nothing(
    path: str, name: str, end: str | None
) -> None:
    assert (file_name(path), path_end(path)) == (name, end)


def test_lists_that_are_missing_or_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not there"):
        listed_images(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(SpecError, match="names no image"):
        listed_images(tmp_path / "empty.txt")
