"""The weights that a sweep starts from: are they there, and are they the same for all its cells?

A recipe's key holds their name alone, since a name can be hashed on a laptop and gigabytes cannot.
"""

import re
from importlib import resources
from pathlib import PurePosixPath

import fsspec

from radsweep.errors import SpecError
from radsweep.specs import CELL_START, PACKAGE_START, RANDOM_START, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore, finished_records


def missing_start(start_from: str, store: Store) -> str | None:
    """Why a cell cannot start from here, as seen from this machine; None where it can.

    Args:
        start_from: of a recipe.
        store: holds the cells that others start from.
    """
    if start_from == RANDOM_START:
        return None
    if start_from.startswith(CELL_START):
        name = start_from.removeprefix(CELL_START)
        is_done = CellStore(store, name).is_done
        why = f"starts from cell {name}, which is not done; run its sweep first"
        return None if is_done else why
    if start_from.startswith(PACKAGE_START):
        package, _, inside = start_from.removeprefix(PACKAGE_START).partition("/")
        try:
            is_there = resources.files(package).joinpath(inside).is_dir()
        except ModuleNotFoundError:
            is_there = False
    else:
        fs, path = fsspec.core.url_to_fs(start_from)
        is_there = fs.exists(path)
    return None if is_there else f"starts from {start_from}, which is not there; correct start_from"


LICENCE_FILE = re.compile(r"(licen[cs]e|copying)", re.IGNORECASE)
CARD_HEAD = re.compile(r"---\s*\n(.*?\n)---\s*$", re.DOTALL | re.MULTILINE)
"""Of a model card, as Hugging Face's are: YAML between two lines."""
CARD_LICENCE = re.compile(r"^license:", re.IGNORECASE | re.MULTILINE)


def lacks_licence(start_from: str) -> bool:
    """Whether a folder or URL of weights says nothing of what may be done with them.

    A licence file beside them says it, or a model card's head. What no publisher's terms bind needs
    none: random weights, a cell of one's own and what comes with a package.

    Args:
        start_from: of a recipe; it is there (``missing_start``).
    """
    if start_from == RANDOM_START or start_from.startswith((CELL_START, PACKAGE_START)):
        return False
    fs, folder = fsspec.core.url_to_fs(start_from)
    names = {PurePosixPath(path).name: path for path in fs.ls(folder, detail=False)}
    if any(LICENCE_FILE.match(name) for name in names):
        return False
    card = names.get("README.md")
    if card is None:
        return True
    lines = fs.cat_file(card).decode("utf-8-sig", errors="replace").splitlines()
    head = CARD_HEAD.match("\n".join(lines))
    return head is None or not CARD_LICENCE.search(head[1])


def require_one_start(sweep: Sweep, store: Store) -> None:
    """Refuse cells of one baseline that started from different weights under one name.

    Raises SpecError: a curve through them would compare two things.
    """
    first: dict[str, tuple[str, str]] = {}
    cells = [cell for cell in sweep.cells() if cell.recipe.start_from != RANDOM_START]
    for cell, record in finished_records(store, cells).items():
        start_from, digest = cell.recipe.start_from, record.start_digest
        name, expected = first.setdefault(cell.baseline.key, (cell.name, digest))
        if digest != expected:
            raise SpecError(
                f"cells {name} and {cell.name} started from different weights, and both call them "
                f"{start_from}: they were replaced in between. Give the new weights a name of "
                "their own, or delete the cells that started from the old ones"
            )
