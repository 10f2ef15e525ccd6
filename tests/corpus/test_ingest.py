import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radsweep.corpus.chunk import ChunkResult
from radsweep.corpus.contained import Containment
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.ingest_ray import ingest_with_ray
from radsweep.corpus.manifest import SCHEMA, Corpus, index_table
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.corpus.reader import Reader
from radsweep.errors import SpecError
from radsweep.store import Store

KEY = PatientKey(b"not a secret, a test")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(folder, HOSPITALS["riverside"], 24, 64, 3, processes=1)
    return folder


def spec_of(hospital: Path, **changes: object) -> IngestSpec:
    return IngestSpec(
        **{
            "corpus": "ph@1",
            "sources": (str(hospital / "dicom"),),
            "reports": (str(hospital / "reports.csv"),),
            "labels": (str(hospital / "labels.csv"),),
            "masks": (str(hospital / "masks.csv"),),
            "size": 48,
            "chunk_files": 10,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def done(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    store = Store(str(tmp_path_factory.mktemp("done")))
    ingest(spec_of(hospital), store, KEY)
    return Corpus.open(store, "ph@1")


def files_of(store: Store) -> dict[str, bytes]:
    root = Path(store.url)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "card.json"
    }


def pictures(folder: Path, count: int, patients: int = 3) -> Path:
    """PNG files of a smooth picture each, and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,patient_id,view,sex,age,report,finding_effusion,mask_tube"]
    for n in range(count):
        picture = np.add.outer(np.arange(64) * 2, np.arange(64) + n).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{n}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[:, n + 10] = 7
        Image.fromarray(mask).save(folder / f"{n}-mask.png")
        patient, age = n % patients + 4000, 95 if n == 0 else 40
        lines.append(
            f"{n}.png,{patient},PA,F,{age},No effusion. Patient number {patient}.,"
            f"{n % 2},{n}-mask.png"
        )
    (folder / "images.csv").write_text("\n".join(lines))
    return folder


def picture_spec(folder: Path, **changes: object) -> IngestSpec:
    return IngestSpec(
        **{
            "corpus": "pics@1",
            "sources": (str(folder),),
            "labels": (str(folder / "images.csv"),),
            "size": 64,
            **changes,
        }
    )


def test_a_synthetic_hospital_becomes_a_corpus(done: Corpus, hospital: Path) -> None:
    card, manifest = done.card, done.manifest
    truth = json.loads((hospital / "phantom.json").read_text())
    assert manifest.columns == [*SCHEMA, *done.labels()]
    assert card["images"] == manifest.height == truth["images"]
    assert card["quarantined"] == {
        "not_a_radiograph": 1,
        "empty": 1,
        "not_an_image": 1,
        "truncated": 1,
    }
    assert card["patients"] == 24
    assert card["warnings"] == []
    assert done.mask_classes == ("ett", "ngt", "cvc", "chest_tube")
    assert len(done.labels("finding_")) == 7
    assert manifest["report"].null_count() == 0
    assert (
        card["masks"]
        == manifest.filter(pl.col("mask_offset").is_not_null()).height
        == truth["frontal_images"]
    )
    assert sum(split["images"] for split in card["splits"].values()) == manifest.height
    assert manifest.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1


def test_stored_pictures_and_masks_are_those_of_the_manifest(done: Corpus) -> None:
    reader = Reader(done.store, index_table(done.manifest))
    examples = reader.examples(range(done.manifest.height))
    assert {example.pixels.shape for example in examples} == {(48, 48)}
    assert min(float(example.pixels.std()) for example in examples) > 10
    with_masks = np.flatnonzero(done.manifest["mask_offset"].is_not_null())
    masks = reader.masks(with_masks)
    labels = done.manifest[with_masks.tolist()]
    for place, name in enumerate(done.mask_classes):
        drawn = masks[:, place].any(axis=(1, 2))
        stated = labels[f"tube_{name}"]
        assert all(bool(d) == (s == 1) for d, s in zip(drawn, stated, strict=True) if s in (0, 1))


def decompressed(store: Store) -> Iterator[tuple[str, bytes]]:
    """Every byte of every file, and the values inside the compressed tables."""
    for name, data in files_of(store).items():
        yield name, data
        if name.endswith(".parquet"):
            yield name, pl.read_parquet(io.BytesIO(data)).write_csv().encode()
    yield "card.json", Path(store.full("corpora/ph@1/card.json")).read_bytes()


def test_no_planted_identifier_is_in_any_byte_that_is_written(done: Corpus, hospital: Path) -> None:
    planted = json.loads((hospital / "planted_identifiers.json").read_text())
    source = b"".join(path.read_bytes() for path in hospital.glob("*.csv"))
    assert sum(text.encode() in source for text in planted) > 50, "the test can no longer fail"
    assert KEY.__repr__() == "PatientKey(<withheld>)"
    for name, data in decompressed(done.store):
        lowered = data.lower()
        # A string of three letters or fewer would be in any compressed bytes by chance.
        leaked = [text for text in planted if len(text) > 3 and text.lower().encode() in lowered]
        assert leaked == [], name
        assert str(hospital).encode() not in data, name


def test_an_interrupted_ingest_leaves_no_identifier_either(hospital: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def stop_after_two(
        function: Callable[[int], ChunkResult], chunks: range
    ) -> Iterator[ChunkResult]:
        yield from map(function, chunks[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(spec_of(hospital), store, KEY, map_chunks=stop_after_two)
    planted = json.loads((hospital / "planted_identifiers.json").read_text())
    written = files_of(store)
    assert any("chunks/" in name for name in written)
    for data in [
        *written.values(),
        *(
            pl.read_parquet(io.BytesIO(d)).write_json().encode()
            for n, d in written.items()
            if n.endswith("parquet")
        ),
    ]:
        assert [text for text in planted if len(text) > 3 and text.encode() in data] == []


def test_the_order_in_which_chunks_come_back_changes_no_byte(
    done: Corpus, hospital: Path, tmp_path: Path
) -> None:
    def backwards(function: Callable[[int], ChunkResult], chunks: range) -> list[ChunkResult]:
        return [function(number) for number in reversed(chunks)]

    store = Store(str(tmp_path))
    ingest(spec_of(hospital), store, KEY, map_chunks=backwards)
    assert files_of(store) == files_of(done.store)


def test_an_interrupted_ingest_goes_on_without_reading_again(
    done: Corpus, hospital: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    asked: list[tuple[int, int]] = []

    def stop(files: int, total: int) -> None:
        asked.append((files, total))
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(spec_of(hospital), store, KEY, progress=stop)
    shard = Path(store.full("corpora/ph@1/shards/00000.pack"))
    before = shard.stat().st_mtime_ns
    with pytest.raises(SpecError, match="corpus ph@1 is not in the store"):
        Corpus.open(store, "ph@1")
    ingest(spec_of(hospital), store, KEY)
    assert shard.stat().st_mtime_ns == before
    assert files_of(store) == files_of(done.store)
    assert asked[0] == (10, done.card["files"])


def test_a_finished_corpus_is_left_alone_and_another_spec_needs_another_version(
    done: Corpus, hospital: Path
) -> None:
    before = files_of(done.store)
    assert ingest(spec_of(hospital), done.store, KEY) == done.card
    for other, key in (
        (spec_of(hospital, size=32), KEY),
        (spec_of(hospital), PatientKey(b"another secret key")),
    ):
        with pytest.raises(SpecError, match="use @2"):
            ingest(other, done.store, key)
    assert files_of(done.store) == before


def test_another_key_gives_other_pseudonyms_and_splits(
    done: Corpus, hospital: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    ingest(spec_of(hospital), store, PatientKey(b"another secret key"))
    other = Corpus.open(store, "ph@1").manifest
    for column in ("patient_id", "exam_id", "image_id", "pixels_digest"):
        assert not set(other[column]) & set(done.manifest[column])


def test_a_folder_of_pictures_with_one_table_is_ingested(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    card = ingest(picture_spec(pictures(tmp_path / "in", 6)), store, KEY)
    corpus = Corpus.open(store, "pics@1")
    assert (card["files"], card["images"], card["patients"], card["quarantined"]) == (6, 6, 3, {})
    assert corpus.manifest["age_years"].to_list().count(90) == 1
    assert set(corpus.manifest["report"]) == {"No effusion. Patient number ___."}
    assert set(corpus.manifest["projection"]) == {"PA"}
    masks = Reader(store, index_table(corpus.manifest)).masks(range(6))
    assert masks.sum(axis=(1, 2, 3)).tolist() == [64] * 6


def test_what_cannot_be_used_is_quarantined_by_reason_and_never_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 4)
    (folder / "Jane Doe.png").write_bytes((folder / "3.png").read_bytes()[:60])
    Image.fromarray(np.asarray(Image.open(folder / "1.png")).T).save(folder / "orphan.png")
    # Of the four, two lose their mask: one is of another size, one is gone.
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "2-mask.png")
    os.remove(folder / "3-mask.png")
    store = Store(str(tmp_path / "store"))
    card = ingest(picture_spec(folder), store, KEY)
    assert card["quarantined"] == {"bad_mask": 2, "no_patient": 1, "undecodable": 1}
    quarantine = store.read_table("corpora/pics@1/quarantine.parquet")
    assert quarantine.columns == ["file_key", "source", "file_index", "reason", "detail"]
    assert "Jane" not in quarantine.write_csv()


def test_the_same_picture_counts_once_and_under_two_patients_it_is_flagged(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 3)
    for copy, patient in (("zz.png", 4000), ("zy.png", 4777)):
        (folder / copy).write_bytes((folder / "0.png").read_bytes())
        with open(folder / "images.csv", "a") as table:
            table.write(f"\n{copy},{patient},PA,F,40,,0,")
    card = ingest(picture_spec(folder), Store(str(tmp_path / "store")), KEY)
    assert card["quarantined"] == {"duplicate": 2}
    assert card["images"] == 3
    assert card["same_pixels_in_different_patients"] == 1
    assert "under two patients" in card["warnings"][0]


def test_a_table_that_knows_few_images_by_few_of_its_rows_is_warned_of(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 3)
    (tmp_path / "odd.csv").write_text("patient_id,finding_a\n04000,1\n04001,1\n4002,1\n")
    card = ingest(
        picture_spec(folder, reports=(str(tmp_path / "odd.csv"),)), Store(str(tmp_path / "s")), KEY
    )
    [warning] = card["warnings"]
    assert "keyed by patient_id knows 1 of 3 images by 1 of its 3 rows" in warning


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("patient_id,finding_a\n4001,1\n", id="few rows, each of which has its images"),
        pytest.param(
            "file_name,finding_a\n" + "\n".join(f"{n}.png,1" for n in range(99)),
            id="the rows of a whole archive, of which a part is ingested",
        ),
    ],
)
def test_a_table_that_is_small_or_large_by_design_is_not_warned_of(
    tmp_path: Path, rows: str
) -> None:
    folder = pictures(tmp_path / "in", 6)
    (tmp_path / "right.csv").write_text(rows)
    spec = picture_spec(folder, reports=(str(tmp_path / "right.csv"),))
    assert ingest(spec, Store(str(tmp_path / "s")), KEY)["warnings"] == []


def test_faults_of_the_user_are_found_before_anything_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with pytest.raises(SpecError, match="source 1 of 1 holds no file"):
        ingest(IngestSpec(corpus="a@1", sources=(str(tmp_path / "none"),)), store, KEY)
    with pytest.raises(SpecError, match="name@version"):
        IngestSpec(corpus="a", sources=("x",))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hello")
    with pytest.raises(SpecError, match="none of 1 files can be used: 1 not_an_image"):
        ingest(IngestSpec(corpus="a@1", sources=(str(tmp_path / "in"),)), store, KEY)


def test_a_patient_key_is_asked_for_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RADSWEEP_PATIENT_KEY", raising=False)
    with pytest.raises(SpecError, match="openssl rand -hex 32"):
        PatientKey.load()
    monkeypatch.setenv("RADSWEEP_PATIENT_KEY", "short")
    with pytest.raises(SpecError, match="has 5 bytes") as caught:
        PatientKey.load()
    assert "short" not in str(caught.value)
    (tmp_path / "key").write_bytes(b"not a secret, a test\n")
    assert PatientKey.load(tmp_path / "key").pseudonym("patient", "x") == KEY.pseudonym(
        "patient", "x"
    )


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_makes_the_same_corpus_byte_for_byte(
    small_ray: None, done: Corpus, hospital: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    seen: list[tuple[int, int]] = []
    ingest_with_ray(
        spec_of(hospital), store, KEY, progress=lambda files, total: seen.append((files, total))
    )
    assert files_of(store) == files_of(done.store)
    assert seen[-1] == (done.card["files"], done.card["files"])


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_loses_a_file_that_kills_its_decoder_and_nothing_else(
    small_ray: None, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "in", 4)
    (folder / "deadly.dcm").write_bytes(b"exit")
    card = ingest_with_ray(
        picture_spec(folder, chunk_files=2),
        Store(str(tmp_path / "store")),
        KEY,
        containment=Containment(module="crashing_decoder"),
    )
    assert (card["images"], card["quarantined"]) == (4, {"decoder_crashed": 1})
