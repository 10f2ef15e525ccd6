"""Take a finished encoder out of the store in a layout that other software loads."""

import tempfile
from pathlib import Path

from radsweep.models.weights import export
from radsweep.pretrain.start import fetch_cell
from radsweep.store import Store


def export_cell(store: Store, cell: str, layout: str, out: Path) -> None:
    """Write the encoder of ``cell`` to the folder ``out``.

    Raises StoreError where the cell is not done, SpecError where the layout does not fit the
    encoder.
    """
    if layout == "radsweep":
        out.mkdir(parents=True, exist_ok=True)
        fetch_cell(store, cell, out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        fetch_cell(store, cell, Path(scratch))
        export(Path(scratch), layout, out)
