"""Which packages a job's environment is made of: this machine's, and none that the cluster has."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from ray.runtime_env import RuntimeEnv

from radsweep.errors import SpecError
from radsweep.sweep.pinned import environment, pinned


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    """As far as anybody can see who asks what is installed."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a radsweep of three packages, and extras."""
    monkeypatch.syspath_prepend(str(tmp_path))
    install(
        *(tmp_path, "radsweep", "9.0", "ray[data]>=2", "arrays>=1", "Grad_Lib[fast]>=2"),
        *('bucket>=1; extra == "s3"', 'tracker; extra == "mlflow"'),
    )
    install(tmp_path, "arrays", "1.5", 'old; python_version < "3"')
    install(
        *(tmp_path, "grad-lib", "2.15.0+cu128", "arrays", 'kernels; extra == "fast"'),
        *('slow; extra == "slow"', 'driver-libs==13; sys_platform == "linux"'),
    )
    install(tmp_path, "kernels", "0.1", "grad_lib")
    install(tmp_path, "bucket", "3.0", "bucket-core==7")
    install(tmp_path, "bucket-core", "7")
    return tmp_path


def test_everything_that_is_needed_is_pinned_but_ray_other_systems_and_builds(
    machine: Path,
) -> None:
    assert pinned() == ("arrays==1.5", "grad-lib==2.15.0", "kernels==0.1")


def test_the_stores_protocol_says_what_else_is_needed(machine: Path) -> None:
    extra = {"bucket==3.0", "bucket-core==7"}
    assert environment("pip", "/mnt/store")["pip"]["packages"] == list(pinned())
    with_bucket = environment("pip", "s3://bucket/radsweep")["pip"]["packages"]
    assert set(with_bucket) == {*pinned(), *extra}


def test_a_package_that_is_not_here_is_named(machine: Path) -> None:
    with pytest.raises(SpecError, match=r"tracker is not installed here.*leave --install out"):
        pinned(["mlflow"])
    with pytest.raises(SpecError, match="--install is 'conda'; give pip or uv"):
        environment("conda", "/mnt/store")


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_ray_takes_the_list_as_it_is_and_names_the_environment_by_it(installer: str) -> None:
    said = environment(installer, "s3://bucket/radsweep")
    taken = RuntimeEnv(**said)
    config = taken.pip_config() if installer == "pip" else taken.uv_config()
    assert config["packages"] == said[installer]["packages"]
    again, other = environment(installer, "s3://bucket/radsweep"), environment(installer, "/mnt")
    uri = {"pip": RuntimeEnv.pip_uri, "uv": RuntimeEnv.uv_uri}[installer]
    assert uri(RuntimeEnv(**again)) == uri(taken) != uri(RuntimeEnv(**other))


def test_pip_finds_on_this_machine_what_was_pinned_on_it(tmp_path: Path) -> None:
    listed = pinned(["s3"])
    assert f"torch=={importlib.metadata.version('torch').partition('+')[0]}" in listed
    assert not {one for one in listed if one.startswith(("ray==", "radsweep=="))}
    (tmp_path / "pinned.txt").write_text("\n".join(listed))
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--no-index"),
            *("-r", str(tmp_path / "pinned.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "Would install" not in asked.stdout
