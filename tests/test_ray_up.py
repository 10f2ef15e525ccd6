"""A whole ``ray up`` of cluster.yaml against a cloud that is played by moto; no machine starts."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None
        or importlib.util.find_spec("testfixtures") is None,
        reason='a mocked cloud needs: pip install "moto[ec2,iam]" testfixtures',
    ),
]
TOP = Path(__file__).parent.parent

UP = """
import json, sys
import boto3, yaml
from click.testing import CliRunner
from moto import mock_aws
from testfixtures import Replacer
from testfixtures.popen import MockPopen, PopenBehaviour
from ray.scripts.scripts import up

file, copy = sys.argv[1:]

def answer(command, stdin):
    asked = command if isinstance(command, str) else " ".join(map(str, command))
    return PopenBehaviour(stdout=b"{}" if ".Config.Env" in asked else b"played")

with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
    ec2 = boto3.client("ec2", "us-west-2")
    iam = boto3.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for name in ("radsweep-head", "radsweep-worker"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    cluster = yaml.safe_load(open(file))
    for node in cluster["available_node_types"].values():
        node["node_config"]["ImageId"] = image
    yaml.safe_dump(cluster, open(copy, "w"))
    commands = MockPopen()
    commands.set_default(behaviour=answer)
    with Replacer() as replaced:
        replaced.replace("subprocess.Popen", commands)
        ran = CliRunner().invoke(
            up, [copy, "--no-config-cache", "-y", "--log-style=pretty", "--log-color", "False"]
        )
    machines = [
        machine
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
    ]
    ports = [
        rule.get("FromPort")
        for group in ec2.describe_security_groups()["SecurityGroups"]
        for rule in group["IpPermissions"]
        if rule.get("IpRanges")
    ]
    print("\\nSEEN " + json.dumps({
        "exit": ran.exit_code,
        "said": ran.output[-2000:] + repr(ran.exception),
        "commands": [repr(call) for call in commands.all_calls],
        "machines": [
            {
                "type": machine["InstanceType"],
                "market": machine.get("InstanceLifecycle", "on-demand"),
                "profile": machine.get("IamInstanceProfile", {}).get("Arn"),
                "tags": {tag["Key"]: tag["Value"] for tag in machine["Tags"]},
            }
            for machine in machines
        ],
        "open_ports": ports,
    }))
"""


def test_ray_up_starts_a_head_with_its_role_tags_and_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("not a secret, a test")
    (tmp_path / "dist").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", UP, str(TOP / "cluster.yaml"), str(tmp_path / "copy.yaml")],
        cwd=tmp_path,
        env=os.environ
        | {
            "HOME": str(home),
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
    seen = json.loads(lines[0].removeprefix("SEEN "))
    assert seen["exit"] == 0, seen["said"]
    (head,) = seen["machines"]
    assert (head["type"], head["market"]) == ("m6i.2xlarge", "on-demand")
    assert head["profile"].endswith("radsweep-head")
    assert head["tags"]["project"] == "radsweep"
    assert head["tags"]["ray-cluster-name"] == "radsweep"
    assert set(seen["open_ports"]) <= {22}
    starts = [command for command in seen["commands"] if "ray start" in command]
    assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert any("radsweep-dist" in command and "rsync" in command for command in seen["commands"])
    assert any("constraints.txt" in command for command in seen["commands"])
