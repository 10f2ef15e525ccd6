"""The files a cloud would read, checked by Ray's own validator: no cloud is asked."""

import copy
import re
import shlex
from fnmatch import fnmatch
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import boto3
import cfnlint.api
import pytest
import yaml
from moto import mock_aws
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from radsweep.corpus.copies import VARIABLE
from radsweep.sweep.cluster import QUIET, TASKS_KEPT

TOP = Path(__file__).parent.parent
FILES = {
    "aws": TOP / "cluster.yaml",
    "gcp": TOP / "clusters" / "gcp.yaml",
    "azure": TOP / "clusters" / "azure.yaml",
}
EXTRA = {"aws": "[s3]", "gcp": "[gcs]", "azure": "[azure]"}
"""With which the package is installed, so that it can read the cloud's own store."""


@pytest.fixture(params=sorted(FILES))
def cloud(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def cluster(cloud: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILES[cloud].read_text())
    return loaded


def is_spot(node: dict[str, Any]) -> bool:
    """By what the cloud reads, and not by our label."""
    config = node["node_config"]
    return (
        config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or config.get("scheduling", {}).get("provisioningModel") == "SPOT"
        or config.get("azure_arm_parameters", {}).get("priority") == "Spot"
    )


def test_rays_validator_accepts_the_cluster(cloud: str, cluster: dict[str, Any]) -> None:
    assert cluster["provider"]["type"] == cloud
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_rays_validator_would_catch_a_typing_error(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu_spot"]["max_worker"] = 1
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(cluster))


def test_the_head_runs_no_work_and_every_pool_shrinks_to_nothing(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert not is_spot(head)
    pools = [node for name, node in cluster["available_node_types"].items() if name != "head"]
    assert pools and all(node["min_workers"] == 0 for node in pools)
    assert cluster["idle_timeout_minutes"] <= 15


def test_labels_say_what_the_cloud_is_asked_for(cluster: dict[str, Any]) -> None:
    for name, node in cluster["available_node_types"].items():
        assert (node["labels"]["market"] == "spot") == is_spot(node), name
    roles = {node["labels"]["role"] for node in cluster["available_node_types"].values()}
    assert roles == {"head", "data", "train"}


def test_spot_is_tried_before_on_demand(cluster: dict[str, Any]) -> None:
    training = [
        node
        for node in cluster["available_node_types"].values()
        if node["labels"]["role"] == "train"
    ]
    spot = [node["priority"] for node in training if is_spot(node)]
    on_demand = [node["priority"] for node in training if not is_spot(node)]
    assert spot and on_demand and min(spot) > max(on_demand)


def test_every_ray_asks_for_the_token_no_head_opens_its_dashboard_or_keeps_all_tasks(
    cluster: dict[str, Any],
) -> None:
    starts = [
        command
        for name in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in cluster[name]
        if "ray start" in command
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0] and "dashboard" not in starts[1]
    assert f"{TASKS_KEPT}={QUIET[TASKS_KEPT]} " in starts[0]
    # Only who reads images keeps copies of them.
    assert VARIABLE not in starts[0] and f"{VARIABLE}=/tmp/radsweep-copies" in starts[1]
    assert cluster["file_mounts"]["/home/ray/.ray"] == "~/.ray"


def test_images_are_pinned_and_of_the_ray_that_we_pin(cluster: dict[str, Any]) -> None:
    pins = (TOP / "constraints.txt").read_text().splitlines()
    (version,) = [line.split("==")[1] for line in pins if line.startswith("ray==")]
    images = [cluster["docker"]["image"], cluster["docker"]["head_image"]]
    images += [
        node["docker"]["worker_image"]
        for node in cluster["available_node_types"].values()
        if "docker" in node
    ]
    assert len(images) == 3
    assert all(image.startswith(f"rayproject/ray:{version}-py311-") for image in images)


def test_the_code_comes_from_our_wheel_with_our_versions(
    cloud: str, cluster: dict[str, Any]
) -> None:
    (setup,) = cluster["setup_commands"]
    assert "-c /home/ray/radsweep-dist/constraints.txt" in setup and EXTRA[cloud] in setup
    assert cluster["file_mounts"]["/home/ray/radsweep-dist"] == "dist"


def test_a_container_on_aws_may_read_spot_notices() -> None:
    nodes = yaml.safe_load(FILES["aws"].read_text())["available_node_types"]
    for node in nodes.values():
        options = node["node_config"]["MetadataOptions"]
        assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}


class Template(yaml.SafeLoader):
    """CloudFormation's short forms, as the text that they hold."""


Template.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node))


@pytest.fixture
def made() -> dict[str, Any]:
    """What the template of roles makes."""
    loaded: dict[str, Any] = yaml.load((TOP / "clusters" / "aws-roles.yaml").read_text(), Template)
    resources: dict[str, Any] = loaded["Resources"]
    return resources


def test_machines_on_aws_have_only_the_roles_that_the_template_makes(made: dict[str, Any]) -> None:
    profiles = {
        part["Properties"]["InstanceProfileName"]
        for part in made.values()
        if part["Type"] == "AWS::IAM::InstanceProfile"
    }
    nodes = yaml.safe_load(FILES["aws"].read_text())["available_node_types"]
    used = {node["node_config"]["IamInstanceProfile"]["Name"] for node in nodes.values()}
    assert used == profiles


def test_the_head_can_make_no_machine_its_own_that_it_did_not_start(made: dict[str, Any]) -> None:
    (policy,) = made["HeadRole"]["Properties"]["Policies"]
    name = yaml.safe_load(FILES["aws"].read_text())["cluster_name"]
    ours = {"aws:ResourceTag/ray-cluster-name": name}
    conditions: dict[str, list[Any]] = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            conditions.setdefault(action, []).append(statement.get("Condition"))
    assert conditions["ec2:CreateTags"] == [
        {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        {"StringEquals": ours},
    ]
    for action in ("Terminate", "Stop", "Start"):
        assert conditions[f"ec2:{action}Instances"] == [{"StringEquals": ours}]
    assert not any("*" in action for action in conditions if action != "ec2:Describe*")


def test_the_head_may_read_the_parameter_that_names_the_image(made: dict[str, Any]) -> None:
    (policy,) = made["HeadRole"]["Properties"]["Policies"]
    (may,) = [
        statement["Resource"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "ssm:GetParameters"
    ]
    nodes = yaml.safe_load(FILES["aws"].read_text())["available_node_types"]
    for node in nodes.values():
        parameter = node["node_config"]["ImageId"].removeprefix("resolve:ssm:")
        # Public parameters belong to no account.
        arn = f"arn:aws:ssm:us-west-2::parameter{parameter}"
        assert fnmatch(arn, may.replace("${AWS::Partition}", "aws"))


def test_amazon_knows_the_machines_and_offers_them_in_every_zone_that_is_asked() -> None:
    """By the lists that moto keeps of ``describe-instance-types`` and ``-offerings``."""
    cluster = yaml.safe_load(FILES["aws"].read_text())
    provider = cluster["provider"]
    with mock_aws():
        ec2 = boto3.client("ec2", provider["region"])
        offered = {
            (each["InstanceType"], each["Location"])
            for page in ec2.get_paginator("describe_instance_type_offerings").paginate(
                LocationType="availability-zone"
            )
            for each in page["InstanceTypeOfferings"]
        }
        for name, node in cluster["available_node_types"].items():
            kind = node["node_config"]["InstanceType"]
            (known,) = ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
            assert node["labels"]["market"] in known["SupportedUsageClasses"]
            assert ("GpuInfo" in known) == (node["labels"]["role"] == "train"), name
            for zone in provider["availability_zone"].split(","):
                assert (kind, zone) in offered


def test_the_template_of_roles_passes_amazons_linter() -> None:
    matches = cfnlint.api.lint_file(TOP / "clusters" / "aws-roles.yaml")
    assert matches == []


def test_googles_image_has_a_driver_for_the_cuda_that_pytorch_comes_with() -> None:
    """https://docs.nvidia.com/deploy/cuda-compatibility: CUDA 12 from 525 on, 13 from 580 on."""
    needs = [re.match(r"cuda-toolkit.*==(\d+)", need) for need in requires("torch") or []]
    found = [match[1] for match in needs if match is not None]
    if not found:
        pytest.skip("this PyTorch comes without CUDA")
    (cuda,) = set(found)
    text = FILES["gcp"].read_text()
    drivers = [int(driver) for driver in re.findall(r"-nvidia-(\d+)\b", text)]
    assert drivers and min(drivers) >= {"12": 525, "13": 580}[cuda]


def test_googles_disks_are_of_a_kind_that_its_gpu_machines_take_and_of_the_zone() -> None:
    """g2 takes pd-balanced, pd-ssd and hyperdisks; what is not named becomes pd-standard."""
    cluster = yaml.safe_load(FILES["gcp"].read_text())
    zone = cluster["provider"]["availability_zone"]
    for node in cluster["available_node_types"].values():
        (disk,) = node["node_config"]["disks"]
        assert disk["initializeParams"]["diskType"] == f"zones/{zone}/diskTypes/pd-balanced"


CLIENTS = {
    "aws": {"boto3"},
    "gcp": {"google-api-python-client", "google-auth"},
    "azure": {"azure-mgmt-resource", "msrest"},
}
"""Of the cloud itself, some of them: with these Ray's autoscaler starts machines."""


def test_the_head_installs_what_ray_needs_in_the_versions_that_the_tests_have(
    cloud: str, cluster: dict[str, Any]
) -> None:
    (install,) = cluster["head_setup_commands"]
    assert "-c /home/ray/radsweep-dist/constraints.txt" in install
    wanted = [Requirement(word) for word in shlex.split(install)[5:]]
    assert CLIENTS[cloud] <= {need.name for need in wanted}
    for need in wanted:
        assert need.specifier.contains(version(need.name)), need
