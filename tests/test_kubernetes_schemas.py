"""The manifest against Kubernetes' own schemas and KubeRay's fields, and as Ray reads it."""

import copy
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as derive,
)
from referencing import Registry, Resource

from tests.kuberay_fields import DEFINITIONS, SINCE, schema

TOP = Path(__file__).parent.parent
MANIFEST = TOP / "clusters" / "kuberay.yaml"
VERSIONS = ("1.30.0", "1.37.0")
"""Of Kubernetes: the oldest that a cloud still keeps running, and the newest."""
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
"""As Kubernetes writes amounts; its schema takes any string."""


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return loaded


@cache
def validator(kind: str, version: str) -> Draft202012Validator:
    """Kubernetes' own definitions, unknown fields refused, inside what KubeRay accepts."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{version}-local-strict" / "_definitions.json").read_text()
    registry = Registry().with_resource(DEFINITIONS, Resource.from_contents(json.loads(text)))
    return Draft202012Validator(schema(kind), registry=registry)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything in a manifest, itself included."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@cache
def standing_cluster() -> dict[str, Any]:
    """What the command in the manifest's comment hands to kubectl."""
    (line,) = [line for line in MANIFEST.read_text().splitlines() if "import json" in line]
    command, _, rest = line.removeprefix("#").strip().partition(" | ")
    python, *words = shlex.split(command)
    assert python == "python" and rest == "kubectl apply -f -"
    ran = subprocess.run([sys.executable, *words], cwd=TOP, capture_output=True, check=True)
    made: dict[str, Any] = json.loads(ran.stdout)
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_and_kuberay_accept_the_job(job: dict[str, Any], version: str) -> None:
    assert list(validator("RayJob", version).iter_errors(job)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_in_the_manifest_makes_a_standing_cluster_that_both_accept(
    job: dict[str, Any], version: str
) -> None:
    made = standing_cluster()
    assert list(validator("RayCluster", version).iter_errors(made)) == []
    assert made["spec"] == job["spec"]["rayClusterSpec"]


def test_an_unknown_field_is_refused_at_every_level(job: dict[str, Any]) -> None:
    levels = [path for path in places(job) if isinstance(at(job, path), dict)]
    assert len(levels) > 60
    for path in levels:
        wrong = copy.deepcopy(job)
        at(wrong, path)["notAField"] = {}
        assert not validator("RayJob", VERSIONS[-1]).is_valid(wrong), path


def test_a_value_of_the_wrong_type_is_refused_wherever_it_stands(job: dict[str, Any]) -> None:
    leaves = [path for path in places(job) if not isinstance(at(job, path), dict | list)]
    assert len(leaves) > 100
    for path in leaves:
        wrong = copy.deepcopy(job)
        at(wrong, path[:-1])[path[-1]] = {}
        assert not validator("RayJob", VERSIONS[-1]).is_valid(wrong), path


@pytest.mark.parametrize(
    "path",
    [
        ("kind",),
        ("spec", "rayClusterSpec", "headGroupSpec"),
        ("spec", "rayClusterSpec", "workerGroupSpecs", 1, "maxReplicas"),
        ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers"),
    ],
    ids=lambda path: path[-1],
)
def test_what_is_demanded_may_not_be_left_out(
    job: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    short = copy.deepcopy(job)
    del at(short, path[:-1])[path[-1]]
    assert not validator("RayJob", VERSIONS[-1]).is_valid(short)


def test_amounts_are_written_as_kubernetes_writes_them(job: dict[str, Any]) -> None:
    amounts = [
        (path, str(at(job, path)))
        for path in places(job)
        if path and (path[-1] == "sizeLimit" or path[-2:-1] in (("limits",), ("requests",)))
    ]
    assert len(amounts) > 12
    assert [(path, amount) for path, amount in amounts if not QUANTITY.fullmatch(amount)] == []


def test_rays_autoscaler_reads_its_pools_from_the_cluster() -> None:
    kept = standing_cluster()  # with the namespace that the API server fills in
    read = derive({**kept, "metadata": {**kept["metadata"], "namespace": "default"}})
    pools = read["available_node_types"]
    assert pools["headgroup"]["resources"]["CPU"] == 0
    assert pools["gpu"]["resources"] == {"CPU": 44, "GPU": 4, "memory": 350 * 2**30}
    assert all(pool["min_workers"] == 0 for pool in pools.values())
    assert read["idle_timeout_minutes"] == 10


def test_the_manifest_asks_for_the_kuberay_that_knows_its_fields() -> None:
    asked = re.search(r"KubeRay \((\d+)\.(\d+)\.(\d+) or later", MANIFEST.read_text())
    assert asked and tuple(map(int, asked.groups())) >= SINCE


def test_no_secret_of_ours_has_the_name_that_kuberay_gives_to_a_clusters_token(
    job: dict[str, Any],
) -> None:
    asked = [at(job, path)["name"] for path in places(job) if path and path[-1] == "secretKeyRef"]
    assert asked and job["metadata"]["name"] not in asked
    assert all(f"create secret generic {name} " in MANIFEST.read_text() for name in asked)
