"""AWS as moto plays it, with the roles that our CloudFormation template makes."""

import sys
from pathlib import Path
from typing import Any

import boto3
import yaml
from moto import mock_aws

from tests.clouds.launch import launch

ROLES = Path(__file__).parents[2] / "clusters" / "aws-roles.yaml"


def running() -> list[dict[str, Any]]:
    ec2 = boto3.client("ec2", "us-west-2")
    open_ports = {
        rule.get("FromPort")
        for group in ec2.describe_security_groups()["SecurityGroups"]
        for rule in group["IpPermissions"]
        if rule.get("IpRanges")
    }
    found = []
    for reservation in ec2.describe_instances()["Reservations"]:
        for machine in reservation["Instances"]:
            if machine["State"]["Name"] == "running":
                tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
                (disk,) = machine["BlockDeviceMappings"]
                volume = ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"][0]
                found.append(
                    {
                        "pool": tags["ray-user-node-type"],
                        "type": machine["InstanceType"],
                        "market": machine.get("InstanceLifecycle", "on-demand"),
                        "identity": machine["IamInstanceProfile"]["Arn"].split("/")[-1],
                        "disk": volume["Size"],
                        "tags": tags,
                        "open_ports": sorted(open_ports),
                    }
                )
    return found


def main(file: str, copy: str) -> None:
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        made = boto3.client("cloudformation", "us-west-2").create_stack(
            StackName="radsweep",
            TemplateBody=ROLES.read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "a-bucket"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        assert made["StackId"]
        # The public parameter that names the image is not known to moto.
        image = boto3.client("ec2", "us-west-2").describe_images()["Images"][0]["ImageId"]
        cluster = yaml.safe_load(Path(file).read_text())
        for node in cluster["available_node_types"].values():
            assert node["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/")
            node["node_config"]["ImageId"] = image
        launch(cluster, Path(copy), running)


if __name__ == "__main__":
    main(*sys.argv[1:])
