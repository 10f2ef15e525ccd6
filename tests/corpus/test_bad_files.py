"""Malformed and odd files of the field, each through the real ingest."""

import csv
from pathlib import Path

import polars as pl
import pytest

from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.sources import list_files
from radsweep.store import Store

ACCEPTED = "accepted"
MAY = {
    "ok": {ACCEPTED},
    "first": {ACCEPTED},
    "default": {ACCEPTED},
    "flag": {"garbled", "blank"},
    "duplicate": {"duplicate"},
    "filter": {ACCEPTED, "not_a_radiograph"},
}


@pytest.fixture(scope="module")
def outcomes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File name -> ``accepted``, or the reason of its quarantine."""
    folder, store = shared / "dicom/bad", Store(str(tmp_path_factory.mktemp("store")))
    ingest(
        IngestSpec(corpus="bad@1", sources=(str(folder),), size=48),
        store,
        PatientKey(b"not a secret, a test"),
    )
    names = list_files((str(folder),), set())["path_in_source"].to_pylist()
    refused = store.read_table("corpora/bad@1/quarantine.parquet")
    reasons = dict(refused.select("file_index", "reason").iter_rows())
    files = store.read_table("corpora/bad@1/files.parquet")
    assert files.filter(pl.col("image_id").is_null())["reason"].to_list() == [
        reasons[index] for index in sorted(reasons)
    ]
    return {name: reasons.get(index, ACCEPTED) for index, name in enumerate(names)}


def test_every_bad_file_is_handled_as_it_should_be(outcomes: dict[str, str], shared: Path) -> None:
    with open(shared / "dicom/bad.csv", newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(outcomes) == 31
    for row in rows:
        outcome = outcomes[row["path"].removeprefix("bad/")]
        words = row["expect"].replace("first-frame", "first").split("-or-")
        refused = outcome not in (ACCEPTED, "duplicate", "fault", "timeout", "decoder_crashed")
        allowed = {one for word in words for one in MAY.get(word, set())}
        assert outcome in allowed or ("reject" in words and refused), (row["path"], outcome)
