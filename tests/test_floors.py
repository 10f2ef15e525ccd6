"""Imports go down only; Ray, torch and polars stay on their floors (ARCHITECTURE.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "radsweep"
FLOORS = {
    "errors": 0, "keys": 0,
    "parts": 1, "specs": 1,
    "store": 2,
    "corpus": 3, "models": 3, "laws": 3,
    "paradigms": 4, "tasks": 4, "probes": 4, "loggers": 4,
    "pretrain": 5, "evaluate": 5,
    "dashboards": 5,
    "sweep": 6,
    "commands": 7,
    "cli": 8,
}  # fmt: skip
RAY_FILES = {
    "corpus/stream.py", "corpus/ingest_ray.py", "pretrain/worker.py", "pretrain/nodes.py",
    "pretrain/metrics.py", "pretrain/width.py",
    "evaluate/embed.py", "evaluate/grid.py",
    "sweep/cluster.py", "sweep/submit.py", "sweep/doctor.py", "sweep/drain.py", "sweep/watch.py",
}  # fmt: skip
SIDEWAYS = {("specs", "parts")}
"""The one import within a floor between two rooms: a recipe checks that its paradigm exists."""


def _imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or file.parent.name == "dashboards", f"relative import in {file}"
            if node.module and node.level == 0:
                names.add(node.module)
                if node.module == "radsweep":
                    names |= {f"radsweep.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def _room(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path) -> None:
    relative = file.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in _imports(file):
        if not name.startswith("radsweep.") or _room(name) not in FLOORS:
            continue
        other = _room(name)
        if other == room or (room, other) in SIDEWAYS:
            continue
        assert FLOORS[other] < FLOORS[room], f"{relative} (floor {FLOORS[room]}) imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_ray_stays_in_its_few_files(file: Path) -> None:
    relative = str(file.relative_to(PACKAGE))
    uses_ray = any(name == "ray" or name.startswith("ray.") for name in _imports(file))
    assert uses_ray == (relative in RAY_FILES), f"{relative}: imports Ray is {uses_ray}"


def test_the_page_of_the_house_names_the_files_that_import_ray() -> None:
    page = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    named = {name for found in re.findall(r"\[Ray: ([^\]]+)\]", page) for name in found.split(", ")}
    assert named == {Path(file).stem for file in RAY_FILES}


CHARTS = sorted((PACKAGE.parent / "dashboards").rglob("*.py"))


@pytest.mark.parametrize("file", CHARTS, ids=lambda file: file.name)
def test_charts_import_only_what_lies_below_them(file: Path) -> None:
    for name in _imports(file):
        assert not (name == "ray" or name.startswith(("ray.", "torch"))), f"{file.name}: {name}"
        if name.startswith("radsweep.") and _room(name) not in ("dashboards", "__version__"):
            assert FLOORS[_room(name)] < FLOORS["dashboards"], f"{file.name} imports {name}"


def test_every_file_that_may_import_ray_exists() -> None:
    assert {str(file.relative_to(PACKAGE)) for file in FILES} >= RAY_FILES


def test_nothing_imports_jobs_benchmarks_or_tests() -> None:
    for file in FILES:
        for name in _imports(file):
            assert name.split(".")[0] not in {"jobs", "benchmarks", "tests"}, (
                f"{file} imports {name}"
            )
            assert not name.startswith("radsweep.jobs"), f"{file} imports {name}"


HEAVY = {"torch", "ray", "polars", "pydicom", "timm", "transformers", "scipy", "dash"}
IMPORT = """
import importlib, sys
for module in sys.argv[1:]:
    # Ours afresh, so that each is imported first; theirs take seconds and stay.
    for name in [name for name in sys.modules if name.split(".")[0] == "radsweep"]:
        del sys.modules[name]
    importlib.import_module(module)
    print(module, *sys.modules)
"""


def _loaded_by(*modules: str) -> dict[str, set[str]]:
    """By module, in turn: the heavy packages that a fresh interpreter has once it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *modules], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {module: HEAVY & set(loaded) for module, *loaded in lines}


def test_floors_0_and_1_need_the_standard_library_only() -> None:
    modules = ["radsweep.errors", "radsweep.keys", "radsweep.specs", "radsweep.parts"]
    assert _loaded_by(*modules) == {module: set() for module in modules}


def test_the_command_line_opens_without_the_gpu_stack() -> None:
    loaded = _loaded_by("radsweep.cli", "radsweep.sweep.plan", "radsweep.sweep.load")
    assert set.union(*loaded.values()) <= {"polars"}


def test_a_bare_pytorch_machine_can_import_what_trains() -> None:
    modules = [
        "radsweep.probes.linear", "radsweep.probes.segment", "radsweep.probes.report",
        "radsweep.models.backbone", "radsweep.paradigms.clip", "radsweep.paradigms.unicl",
        "radsweep.paradigms.dinov2", "radsweep.pretrain.loop",
    ]  # fmt: skip
    loaded = _loaded_by(*modules)
    assert list(loaded) == modules
    assert "torch" in loaded["radsweep.probes.linear"]
    for module, those in loaded.items():
        assert not those & {"ray", "polars", "pydicom"}, module


def test_laws_need_neither_torch_nor_ray() -> None:
    assert not _loaded_by("radsweep.laws.answers")["radsweep.laws.answers"] & {"torch", "ray"}
