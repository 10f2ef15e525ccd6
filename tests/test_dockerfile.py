"""The recipe of the image, as far as that needs no engine."""

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

from radsweep.sweep.cluster import QUIET, TASKS_KEPT

TOP = Path(__file__).parent.parent
DOCKERFILE = TOP / "clusters" / "Dockerfile"
LINES = [line.split() for line in DOCKERFILE.read_text().splitlines()]
SAID = [line for line in LINES if line and not line[0].startswith("#")]
COPIED = [(line[2:-1], line[-1]) for line in SAID if line[0] == "COPY"]


def test_the_linter_of_dockerfiles_and_their_shell_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr


def test_the_image_has_our_ray_and_no_root() -> None:
    pins = (TOP / "constraints.txt").read_text().splitlines()
    (ray,) = [line.partition("==")[2] for line in pins if line.startswith("ray==")]
    assert ["ARG", f"RAY_VERSION={ray}"] in SAID
    assert [line[1] for line in SAID if line[0] == "USER"] == ["1000:100"]
    assert ["ENV", f"{TASKS_KEPT}={QUIET[TASKS_KEPT]}"] in SAID
    (install,) = [" ".join(line) for line in SAID if line[0] == "RUN"]
    assert "-c build/constraints.txt" in install and "--no-cache-dir" in install


def test_what_is_copied_makes_the_whole_package(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for sources, target in COPIED:
        for source in map(TOP.joinpath, sources):
            if source.is_dir():
                copytree(source, tmp_path / target, ignore=ignore_patterns("__pycache__"))
            else:
                copy(source, tmp_path / target)
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"],
        cwd=build,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = build.glob("radsweep-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        f"radsweep/{'' if top == 'radsweep' else top + '/'}{file.relative_to(TOP / top)}"
        for top in ("radsweep", "dashboards", "jobs")
        for file in (TOP / top).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert ours and ours - packed == set()
    assert any(name.endswith("encoder.safetensors") for name in packed)
