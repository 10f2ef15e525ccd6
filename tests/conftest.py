"""What tests of several floors need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# What whoever runs the tests has set for their own work; some of it is read as typer is imported.
for name in (
    "RADSWEEP_COPIES", "RADSWEEP_JUDGE_KEY", "RADSWEEP_PATIENT_KEY", "RADSWEEP_STORE",
    "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "RAY_ADDRESS",
):  # fmt: skip
    os.environ.pop(name, None)
os.environ |= {"COLUMNS": "100", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
if "PYTEST_XDIST_WORKER" in os.environ:
    # Side by side, each with as many threads as there are cores, they would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real x-rays and odd DICOM beside a checkout; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RADSWEEP_SHARED", beside))
    if not (folder / "dicom").is_dir():
        pytest.skip("the shared images are not here; RADSWEEP_SHARED names their folder")
    return folder


@pytest.fixture(scope="module")
def no_tokens() -> Iterator[None]:
    """For whoever starts Ray in this process: none of its nodes asks for a token.

    The process remembers a mode once it had it: with tokens in one test, what the nodes of the next
    one tell it is refused, and its actors pass for dead. Commands in their own processes need none.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield
