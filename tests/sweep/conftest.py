"""A small hospital's corpus, ingested once without Ray; each test copies it to its own store."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.store import Store

CORPUS = "little@1"
SIZE = 48


@pytest.fixture(scope="session")
def little_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("little")
    films = folder / "films"
    write_hospital(films, HOSPITALS["riverside"], 80, 64, 3, processes=1, broken=0)
    spec = IngestSpec(
        corpus=CORPUS,
        sources=(str(films / "dicom"),),
        reports=(str(films / "reports.csv"),),
        labels=(str(films / "labels.csv"),),
        masks=(str(films / "masks.csv"),),
        size=SIZE,
        fractions=(0.3, 0.35, 0.05, 0.3),
    )
    ingest(spec, Store(str(folder / "store")), PatientKey(b"not a secret, a test"))
    return folder / "store"


@pytest.fixture(scope="session")
def new_store(little_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    """Makes a store with the corpus and nothing else."""

    def make() -> Store:
        folder = tmp_path_factory.mktemp("store")
        shutil.copytree(little_corpus, folder, dirs_exist_ok=True)
        return Store(str(folder))

    return make
