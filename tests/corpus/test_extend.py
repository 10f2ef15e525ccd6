"""Versions that share what is unchanged, interrupted ingests whose files change, and strictness."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from radsweep.corpus import contained
from radsweep.corpus.earlier import PLACE
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus, index_table
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.corpus.reader import Reader
from radsweep.errors import SpecError
from radsweep.store import Store

KEY = PatientKey(b"not a secret, a test")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(folder, HOSPITALS["riverside"], 12, 64, 5, processes=1)
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that are decoded from here on."""
    sizes: list[int] = []
    decode = contained.ContainedDecoder.decode

    def counting(self: contained.ContainedDecoder, data: bytes) -> object:
        sizes.append(len(data))
        return decode(self, data)

    monkeypatch.setattr(contained.ContainedDecoder, "decode", counting)
    return sizes


def spec_of(hospital: Path, **changes: object) -> IngestSpec:
    return IngestSpec(
        **{
            "corpus": "ph@1",
            "sources": (str(hospital / "dicom"),),
            "reports": (str(hospital / "reports.csv"),),
            "labels": (str(hospital / "labels.csv"),),
            "size": 48,
            "chunk_files": 7,
            **changes,
        }
    )


def halves(hospital: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A copy of the hospital without its last third of files, and those files."""
    copy = tmp_path / "hospital"
    shutil.copytree(hospital, copy)
    files = sorted(path for path in (copy / "dicom").rglob("*") if path.is_file())
    late = files[2 * len(files) // 3 :]
    (tmp_path / "late").mkdir()
    for number, path in enumerate(late):
        shutil.move(path, tmp_path / "late" / str(number))
    return copy, late


def arrive(late: list[Path], tmp_path: Path) -> None:
    for number, path in enumerate(late):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "late" / str(number), path)


def test_a_new_version_shares_what_is_unchanged_and_equals_one_made_afresh(
    hospital: Path, tmp_path: Path, counted: list[int]
) -> None:
    copy, late = halves(hospital, tmp_path)
    store, fresh = Store(str(tmp_path / "store")), Store(str(tmp_path / "fresh"))
    first = ingest(spec_of(copy), store, KEY)
    arrive(late, tmp_path)
    # Between the versions a report is rewritten: tables are read anew for all files.
    table = pl.read_csv(copy / "reports.csv", infer_schema=False)
    table.with_columns(report=pl.lit("Clear lungs.")).write_csv(copy / "reports.csv")
    counted.clear()
    card = ingest(spec_of(copy, corpus="ph@2", extends="ph@1"), store, KEY)
    assert card["shared_images"] == {"ph@1": first["images"]}
    # Beside the new files, those that are refused for a fault of decoding get another chance.
    assert len(late) <= len(counted) <= len(late) + 1
    packs = Path(store.full("corpora/ph@2/shards"))
    assert sum(path.stat().st_size for path in packs.iterdir()) < card["bytes"] / 2
    ingest(spec_of(copy, corpus="ph@2"), fresh, KEY)
    shared, whole = Corpus.open(store, "ph@2"), Corpus.open(fresh, "ph@2")
    assert set(shared.manifest["report"]) == {"Clear lungs."}
    assert_frame_equal(shared.manifest.drop(PLACE), whole.manifest.drop(PLACE))
    rows = range(whole.manifest.height)
    one = Reader(store, index_table(shared.manifest)).examples(rows)
    two = Reader(fresh, index_table(whole.manifest)).examples(rows)
    assert all((a.pixels == b.pixels).all() for a, b in zip(one, two, strict=True))
    assert_frame_equal(
        store.read_table("corpora/ph@2/quarantine.parquet"),
        fresh.read_table("corpora/ph@2/quarantine.parquet"),
    )


def test_a_third_version_refers_to_the_first_and_a_changed_file_is_read_again(
    hospital: Path, tmp_path: Path, counted: list[int]
) -> None:
    copy = tmp_path / "hospital"
    shutil.copytree(hospital, copy)
    store = Store(str(tmp_path / "store"))
    ingest(spec_of(copy), store, KEY)
    ingest(spec_of(copy, corpus="ph@2", extends="ph@1"), store, KEY)
    changed = max(
        (path for path in (copy / "dicom").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    os.utime(changed, ns=(1, 1))
    counted.clear()
    card = ingest(spec_of(copy, corpus="ph@3", extends="ph@2"), store, KEY)
    assert changed.stat().st_size in counted
    assert len(counted) <= 2
    assert card["shared_images"] == {"ph@1": card["images"] - 1}


def test_another_size_or_key_or_a_version_that_is_not_there_cannot_be_extended(
    hospital: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    ingest(spec_of(hospital), store, KEY)
    for spec, key in (
        (spec_of(hospital, corpus="ph@2", extends="ph@1", size=32), KEY),
        (spec_of(hospital, corpus="ph@2", extends="ph@1"), PatientKey(b"another secret key")),
    ):
        with pytest.raises(SpecError, match="cannot be shared"):
            ingest(spec, store, key)
    with pytest.raises(SpecError, match="ph@7 is not in the store"):
        ingest(spec_of(hospital, corpus="ph@8", extends="ph@7"), store, KEY)
    with pytest.raises(SpecError, match="cannot extend"):
        spec_of(hospital, extends="ph@1")


def test_films_with_masks_are_read_again(
    hospital: Path, tmp_path: Path, counted: list[int]
) -> None:
    store = Store(str(tmp_path))
    masks = {"masks": (str(hospital / "masks.csv"),)}
    first = ingest(spec_of(hospital), store, KEY)
    card = ingest(spec_of(hospital, corpus="ph@2", extends="ph@1", **masks), store, KEY)
    assert card["masks"] > 0
    assert card["shared_images"].get("ph@1", 0) == first["images"] - card["masks"]


def test_files_that_change_after_an_interruption_are_not_taken_for_those_before(
    hospital: Path, tmp_path: Path
) -> None:
    copy, late = halves(hospital, tmp_path)
    store, fresh = Store(str(tmp_path / "store")), Store(str(tmp_path / "fresh"))
    calls: list[int] = []

    def stop(files: int, total: int) -> None:
        calls.append(files)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(spec_of(copy), store, KEY, progress=stop)
    arrive(late, tmp_path)
    # All others move up by one place in the sorted list.
    (copy / "dicom" / "0000-first.dcm").write_bytes(b"")
    ingest(spec_of(copy), store, KEY)
    ingest(spec_of(copy), fresh, KEY)
    for name in ("manifest", "quarantine", "files"):
        path = f"corpora/ph@1/{name}.parquet"
        assert_frame_equal(store.read_table(path), fresh.read_table(path))


def test_strict_stops_at_the_first_refusal_and_finishes_nothing(
    hospital: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(SpecError, match=r"file [\d,]+ of [\d,]+ in the sorted list .* is refused"):
        ingest(spec_of(hospital), store, KEY, strict=True)
    with pytest.raises(SpecError, match="not in the store"):
        Corpus.open(store, "ph@1")


def test_strict_finds_duplicates_and_passes_a_clean_folder(hospital: Path, tmp_path: Path) -> None:
    loose = Store(str(tmp_path / "loose"))
    ingest(spec_of(hospital), loose, KEY)
    refused = set(loose.read_table("corpora/ph@1/quarantine.parquet")["file_index"])
    files = sorted(path for path in (hospital / "dicom").rglob("*") if path.is_file())
    clean = tmp_path / "clean"
    clean.mkdir()
    for index, path in enumerate(files):
        if index not in refused:
            shutil.copy(path, clean / f"{index:04}.dcm")
    spec = spec_of(hospital, corpus="clean@1", sources=(str(clean),))
    assert ingest(spec, Store(str(tmp_path / "a")), KEY, strict=True)["quarantined"] == {}
    shutil.copy(next(clean.iterdir()), clean / "copy.dcm")
    with pytest.raises(SpecError, match="duplicate"):
        ingest(spec, Store(str(tmp_path / "b")), KEY, strict=True)
