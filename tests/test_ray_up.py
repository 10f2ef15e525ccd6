"""``ray up`` and ``ray down`` of each cloud's file against that cloud, played; no machine starts.

What is asked of the cloud goes through the cloud's own client, and is held to its own schema.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
TOP = Path(__file__).parent.parent
FILES = {"aws": "cluster.yaml", "google": "clusters/gcp.yaml", "azure": "clusters/azure.yaml"}
WORKER = {"aws": "radsweep-worker", "google": "radsweep-worker", "azure": "msi"}
HEAD = {"aws": "radsweep-head", "google": "ray-autoscaler-sa-v1", "azure": "msi"}

OPENS = {"aws": [22], "google": [], "azure": [22]}
"""Ports that Ray asks to be open to the world; Google's network is used as it is."""


@pytest.fixture(params=sorted(FILES))
def cloud(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ray_up(cloud: str, file: Path, folder: Path) -> dict[str, Any]:
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_rsa").write_text("not a key, a test")
    (home / ".ssh" / "id_rsa.pub").write_text("ssh-rsa not-a-key a-test")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("not a secret, a test")
    (folder / "dist").mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", f"tests.clouds.{cloud}", str(file), str(folder / "copy.yaml")],
        cwd=folder,
        env=os.environ
        | {
            "HOME": str(home),
            "TMPDIR": str(folder),  # where Ray keeps what it found out of a cluster
            "PYTHONPATH": str(TOP),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-west-2",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("SEEN ")]
    assert lines, ran.stdout[-2000:] + ran.stderr[-2000:]
    seen: dict[str, Any] = json.loads(lines[0].removeprefix("SEEN "))
    return seen


def test_ray_up_starts_a_head_every_pool_can_start_and_ray_down_leaves_no_machine(
    cloud: str, tmp_path: Path
) -> None:
    file = TOP / FILES[cloud]
    seen = ray_up(cloud, file, tmp_path)
    assert seen["exit"] == [0, 0] and not seen["refused"], seen["said"] + seen["refused"]
    assert seen["left"] == []
    declared = yaml.safe_load(file.read_text())["available_node_types"]
    assert sorted(machine["pool"] for machine in seen["machines"]) == sorted(declared)
    for machine in seen["machines"]:
        pool = machine["pool"]
        assert machine["market"] == declared[pool]["labels"]["market"], pool
        assert machine["identity"] == (HEAD if pool == "head" else WORKER)[cloud], pool
        # Room for the image, the packages and copies of what was read.
        least = {"head": 200, "data": 300, "train": 500}[declared[pool]["labels"]["role"]]
        assert machine["disk"] >= least, pool
        assert machine["tags"]["project"] == machine["tags"]["ray-cluster-name"] == "radsweep"
        assert machine["open_ports"] == OPENS[cloud], pool
    starts = [command for command in seen["commands"] if "ray start" in command]
    assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)
    ran = "\n".join(seen["commands"])
    assert 0 < ran.index("usermod -aG docker") < ran.index("docker pull") < ran.index("ray start")
    assert any("radsweep-dist" in command and "rsync" in command for command in seen["commands"])
    assert any("constraints.txt" in command for command in seen["commands"])


@pytest.mark.parametrize(
    ("cloud", "right", "wrong"),
    [
        ("aws", "HttpPutResponseHopLimit", "HttpPutResponseHops"),
        ("google", "provisioningModel: SPOT", "provisioningModel: SPOTS"),
        pytest.param("google", "diskSizeGb", "diskSizeGB", marks=pytest.mark.slow),
        ("azure", "osDiskSize", "osDiskSizeGB"),
        pytest.param(
            "azure", "billingProfile: {maxPrice: -1}", "billingProfile: -1", marks=pytest.mark.slow
        ),
    ],
)
def test_a_typing_error_in_a_machine_is_refused(
    cloud: str, right: str, wrong: str, tmp_path: Path
) -> None:
    written = (TOP / FILES[cloud]).read_text()
    assert right in written
    (tmp_path / "wrong.yaml").write_text(written.replace(right, wrong))
    seen = ray_up(cloud, tmp_path / "wrong.yaml", tmp_path)
    assert seen["exit"][0] != 0 or seen["refused"]
    assert wrong.split(":")[0] in seen["said"] + seen["refused"]
