"""The sweeps that come along: they load on a bare laptop, and none shows films by itself."""

from pathlib import Path

import pytest

from radsweep.sweep.demo_sweep import demo_sweep
from radsweep.sweep.load import load_sweep

JOBS = Path(__file__).parents[2] / "jobs"
SWEEPS = sorted(file for file in JOBS.glob("*.py") if "\nSWEEP = " in file.read_text())


def test_there_are_sweeps_to_load() -> None:
    assert {file.stem for file in SWEEPS} >= {"demo", "hospital", "open_weights", "real_xrays"}


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_loads_and_may_not_show_films(file: Path) -> None:
    sweep = load_sweep(str(file))
    scales = [0, *sweep.images]
    assert sorted({cell.subset.images for cell in sweep.cells()}) == scales
    # Hospitals copy these files: films are shown only where somebody says so.
    assert not sweep.may_show_images


@pytest.mark.parametrize("miniature", [False, True])
def test_the_demo_shows_its_films_since_nobody_is_behind_them(miniature: bool) -> None:
    sweep = demo_sweep(3, miniature)
    assert sweep.may_show_images and sweep.seeds == (3,) and sweep.subset_seed == 3
