import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from radsweep.evaluate.local import run_grid_locally
from radsweep.store import Store
from tests.evaluate import toy


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fresh(folder: Path) -> Store:
    """A corpus and the two finished cells of the toy sweep, nothing scored."""
    store = Store(str(folder))
    toy.write_corpus(store)
    for seed, cell in enumerate(toy.sweep().cells()):
        toy.write_cell(store, cell, seed)
    return store


@pytest.fixture(scope="session")
def scored_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    store = fresh(folder)
    sweep = toy.sweep()
    assert run_grid_locally(store, sweep, sweep.cells(), progress=lambda done, total: None) == []
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fresh(tmp_path)


@pytest.fixture
def scored(scored_folder: Path, tmp_path: Path) -> Store:
    """A copy of a store in which the toy sweep is scored."""
    shutil.copytree(scored_folder, tmp_path / "copy")
    return Store(os.fspath(tmp_path / "copy"))
