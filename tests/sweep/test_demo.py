"""The demo's folder: one demo in one folder, and a drawing that was interrupted begins again."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from radsweep.errors import SpecError
from radsweep.store import Store
from radsweep.sweep.demo import FULL, HOSPITAL, MINIATURE, Size, _draw, run_demo
from radsweep.sweep.demo_sweep import demo_sweep

QUIET = Console(quiet=True)


def test_a_folder_of_another_demo_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    films = tmp_path / HOSPITAL
    films.mkdir()
    for patients, seed in ((FULL.patients, 1), (MINIATURE.patients, 0)):
        (films / "phantom.json").write_text(json.dumps({"patients": patients, "seed": seed}))
        with pytest.raises(SpecError, match=f"a demo of {patients:,} patients at seed {seed}"):
            run_demo(tmp_path, Store(str(tmp_path / "store")), 0, QUIET, miniature=False)
    assert [path.name for path in tmp_path.iterdir()] == [HOSPITAL]


def test_a_drawing_that_was_interrupted_begins_again(tmp_path: Path) -> None:
    films = tmp_path / HOSPITAL
    half = tmp_path / f"{HOSPITAL}.unfinished"
    (half / "dicom").mkdir(parents=True)
    (half / "dicom" / "half.dcm").write_text("half a film")
    size = Size(patients=2, fractions=(0.5, 0.2, 0.1, 0.2))
    _draw(films, size, demo_sweep(0, True), 0, QUIET)
    assert json.loads((films / "phantom.json").read_text())["patients"] == 2
    assert not half.exists() and not list(films.rglob("half.dcm"))
    drawn = (films / "phantom.json").stat().st_mtime_ns
    _draw(films, size, demo_sweep(0, True), 0, QUIET)
    assert (films / "phantom.json").stat().st_mtime_ns == drawn
