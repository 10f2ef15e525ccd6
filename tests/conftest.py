"""What tests of several floors need."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real x-rays and odd DICOM beside a checkout; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RADSWEEP_SHARED", beside))
    if not (folder / "dicom").is_dir():
        pytest.skip("the shared images are not here; RADSWEEP_SHARED names their folder")
    return folder
