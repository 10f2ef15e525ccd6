"""The file a cloud would read, checked by Ray's own validator: no cloud is asked."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_rays_validator_accepts_the_cluster(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_rays_validator_would_catch_a_typing_error(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu_spot"]["max_worker"] = 1
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(cluster))


def test_the_head_runs_no_work_and_every_pool_shrinks_to_nothing(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    pools = [node for name, node in cluster["available_node_types"].items() if name != "head"]
    assert pools and all(node["min_workers"] == 0 for node in pools)


def test_every_ray_that_starts_asks_for_the_token(cluster: dict[str, Any]) -> None:
    starts = [
        command
        for name in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in cluster[name]
        if "ray start" in command
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
