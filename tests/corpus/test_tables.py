from pathlib import Path

import fsspec
import polars as pl
import pytest

from radsweep.corpus.tables import FileKeys, load_tables
from radsweep.errors import SpecError

FILE = FileKeys(
    path="/data/a/x.png",
    path_in_source="a/x.png",
    sop_instance_uid="1.2",
    accession_number="0012",
    patient_id="P",
)


def table(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [("sop_instance_uid", "1.2"), ("accession_number", "0012"), ("patient_id", "P"),
     ("file_name", "x.png"), ("path", "a/x.png"),
     ("path", "/data/a/x.png"), ("path", "./a//x.png")],
)  # fmt: skip
def test_a_file_is_found_by_any_key(tmp_path: Path, key: str, value: str) -> None:
    tables = load_tables(
        [table(tmp_path, "t.csv", f"{key},finding_a,tube_b\nother,0,1\n{value},1,\n")]
    )
    known, found = tables.find(FILE)
    assert (known["finding_a"], "tube_b" in known, found) == ("1", False, (0,))


def test_the_narrowest_key_counts_and_leading_zeros_stay(tmp_path: Path) -> None:
    tables = load_tables(
        [table(tmp_path, "t.csv", "patient_id,accession_number,report\nP,0012,Clear\nP,12,Other\n")]
    )
    assert tables.tables[0].key == "accession_number"
    assert tables.find(FILE)[0]["report"] == "Clear"


def test_what_one_table_names_is_the_key_of_the_next(tmp_path: Path) -> None:
    images = table(tmp_path, "images.csv", "path,patient_id,accession_number\nb.png,Q,77\n")
    reports = table(tmp_path, "reports.csv", "accession_number,report\n77,Normal\n")
    known, found = load_tables([reports, images]).find(
        FileKeys(path="/b.png", path_in_source="b.png")
    )
    assert (known["patient_id"], known["report"], found) == ("Q", "Normal", (0, 1))


def test_masks_are_known_only_where_every_table_of_masks_has_the_row(tmp_path: Path) -> None:
    one = table(tmp_path, "one.csv", "sop_instance_uid,mask_ett\n1.2,m/e.png\n1.3,\n")
    two = table(tmp_path, "two.csv", "sop_instance_uid,mask_ngt\n1.2,\n")
    tables = load_tables([one, two])
    assert tables.mask_classes == ("ett", "ngt")
    assert tables.find(FILE)[0]["masks"] == {"ett": f"{tmp_path}/m/e.png", "ngt": None}
    other = FileKeys(path="/y", path_in_source="y", sop_instance_uid="1.3")
    assert "masks" not in tables.find(other)[0]
    assert tables.mask_paths() == {f"{tmp_path}/m/e.png"}


def test_masks_beside_a_table_in_object_storage_are_found_there() -> None:
    fs, text = fsspec.filesystem("memory"), "sop_instance_uid,mask_ett\n1.2,m/e.png\n"
    fs.pipe({"/masks/t.csv": text.encode(), "/masks/m/e.png": b"a picture"})
    tables = load_tables(["memory://masks/t.csv"])
    place = tables.find(FILE)[0]["masks"]["ett"]
    with fsspec.open(place) as file:
        assert file.read() == b"a picture"
    assert tables.mask_paths() == {"/masks/m/e.png"}
    tables.check_masks()


def test_a_whole_path_of_a_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe({"/elsewhere/e.png": b"a picture"})
    text = "sop_instance_uid,mask_ett\n1.2,memory://elsewhere/e.png\n"
    tables = load_tables([table(tmp_path, "t.csv", text)])
    assert tables.find(FILE)[0]["masks"] == {"ett": "memory://elsewhere/e.png"}
    assert tables.mask_paths() == {"/elsewhere/e.png"}
    tables.check_masks()


def test_a_table_of_which_no_mask_is_there_is_refused_before_it_costs_its_images(
    tmp_path: Path,
) -> None:
    rows = "".join(f"1.{n},m/{n}.png\n" for n in range(50))
    tables = load_tables([table(tmp_path, "t.csv", f"sop_instance_uid,mask_ett\n{rows}")])
    with pytest.raises(SpecError, match=r"of 50 mask files .* 25 were looked for and none is"):
        tables.check_masks()
    (tmp_path / "m").mkdir()
    (tmp_path / "m/4.png").touch()
    tables.check_masks()


def test_parquet_and_json_lines_are_read_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"accession_number": ["0012"], "finding_a": [-1]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    for name in ("t.parquet", "t.jsonl"):
        assert load_tables([str(tmp_path / name)]).find(FILE)[0]["finding_a"] == "-1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mrn,finding_a\nP,1\n", "table 1 has no key column"),
        ("patient_id,finding_a\nSecret,1\nSecret,0\n", "1 rows repeat a patient_id"),
        ("patient_id,finding_a\nSecret,yes\n", "finding_a: 1 values are not 1, 0, -1 or blank"),
        ("patient_id,y_effusion\nSecret,1\n", "nothing to read beside patient_id"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_without_quoting_it(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_tables([table(tmp_path, "private.csv", text)])
    assert "Secret" not in str(caught.value)
    assert "private" not in str(caught.value)


def test_a_table_that_is_not_there_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="table 1 is not there"):
        load_tables([str(tmp_path / "none.csv")])
