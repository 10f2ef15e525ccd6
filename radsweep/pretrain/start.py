"""Bring the weights that a recipe starts from to this machine."""

import tempfile
from importlib import resources
from pathlib import Path

import fsspec

from radsweep.errors import SpecError
from radsweep.models.weights import StartWeights, load_start
from radsweep.specs import CELL_START, PACKAGE_START, RANDOM_START
from radsweep.store import Store
from radsweep.store.layout import cell_folder
from radsweep.store.record import CellStore

ENCODER_FILES = ("encoder.safetensors", "paradigm.safetensors", "tokenizer.json")
"""What a finished cell leaves for others to start from; only the first is always there."""


def fetch_cell(store: Store, cell: str, folder: Path) -> None:
    """Copy a finished cell's weights from the store into ``folder``.

    Raises StoreError if it is not done.
    """
    CellStore(store, cell).record()
    present = set(store.names(cell_folder(cell)))
    for name in ENCODER_FILES:
        if name in present:
            (folder / name).write_bytes(store.read_bytes(f"{cell_folder(cell)}/{name}"))


def start_weights(store: Store, start_from: str) -> StartWeights | None:
    """The weights named by ``Recipe.start_from``; None for ``random``.

    Raises SpecError where a folder or URL holds no layout that is known, StoreError where a cell is
    not done.
    """
    if start_from == RANDOM_START:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if start_from.startswith(CELL_START):
            fetch_cell(store, start_from.removeprefix(CELL_START), folder)
            return load_start(folder)
        if start_from.startswith(PACKAGE_START):
            package, _, inside = start_from.removeprefix(PACKAGE_START).partition("/")
            with resources.as_file(resources.files(package).joinpath(inside)) as found:
                return load_start(found)
        fs, path = fsspec.core.url_to_fs(start_from)
        if not fs.exists(path):
            raise SpecError(
                f"start_from {start_from!r} is not there; give a folder or URL with weights, "
                "cell:NAME, package:PACKAGE/FOLDER, or random"
            )
        if "file" in fs.protocol:
            return load_start(Path(path))
        fs.get(path.rstrip("/") + "/", str(folder) + "/", recursive=True)
        return load_start(folder)
