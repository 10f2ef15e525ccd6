"""The Kubernetes manifest, held to our own rules."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).parent.parent
MANIFEST = TOP / "clusters" / "kuberay.yaml"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""A DNS label, which Kubernetes wants of names (RFC 1123)."""


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return loaded


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    found = {"head": cluster["headGroupSpec"]["template"]["spec"]}
    for group in cluster["workerGroupSpecs"]:
        found[group["groupName"]] = group["template"]["spec"]
    return found


def pin(package: str) -> str:
    for line in (TOP / "constraints.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2]
    raise AssertionError(f"{package} is not pinned")


def test_it_is_a_rayjob_that_ends_its_cluster_and_tries_again(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert NAME.fullmatch(job["metadata"]["name"])
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] == "K8sJobMode" and spec["backoffLimit"] > 0
    assert spec["rayClusterSpec"]["rayVersion"] == pin("ray")


def test_autoscaler_v2_shrinks_every_group_to_nothing(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for group in cluster["workerGroupSpecs"]:
        assert NAME.fullmatch(group["groupName"])
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]


def test_every_rayjob_asks_for_the_token_and_no_head_runs_work(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    start = cluster["headGroupSpec"]["rayStartParams"]
    assert start["num-cpus"] == "0"
    # Start parameters are strings in KubeRay's definition.
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_every_container_gets_what_it_asks_for_and_no_more(job: dict[str, Any]) -> None:
    for name, pod in pods(job).items():
        (container,) = pod["containers"]
        assert NAME.fullmatch(container["name"]) and container["image"]
        resources = container["resources"]
        # Ray counts the limits as what the node has.
        assert resources["requests"] == resources["limits"], name
        assert {"cpu", "memory"} <= resources["limits"].keys()


def test_nothing_runs_as_root_or_may_become_it(job: dict[str, Any]) -> None:
    for pod in pods(job).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            allowed = container["securityContext"]
            assert allowed["allowPrivilegeEscalation"] is False and "privileged" not in allowed
            assert allowed["capabilities"] == {"drop": ["ALL"]}


def test_every_mount_has_its_volume_and_secrets_come_from_secrets(job: dict[str, Any]) -> None:
    for pod in pods(job).values():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert all("value" not in variable for variable in container["env"])


def test_a_pod_that_goes_drains_its_node_within_its_time_of_grace(job: dict[str, Any]) -> None:
    for name, pod in pods(job).items():
        if name == "head":
            continue
        (container,) = pod["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:3] == ["python", "-m", "radsweep.sweep.drain"]
        assert (TOP / "radsweep" / "sweep" / "drain.py").exists()
        assert float(command[-1]) < pod["terminationGracePeriodSeconds"]


def test_only_spot_nodes_have_workers_and_only_others_the_head(job: dict[str, Any]) -> None:
    for name, pod in pods(job).items():
        market = "on-demand" if name == "head" else "spot"
        assert pod["nodeSelector"] == {"radsweep/market": market}


def test_what_has_gpus_takes_the_image_with_cuda(job: dict[str, Any]) -> None:
    for pod in pods(job).values():
        (container,) = pod["containers"]
        has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert container["image"].endswith("-cpu") != has_gpu
