"""The commands of docs/cluster.md: each is one that its program knows, and the demo's do run."""

import re
import shlex
from pathlib import Path

import boto3
import pytest
import typer
import yaml
from botocore import xform_name
from ray.autoscaler._private.aws.config import SECURITY_GROUP_TEMPLATE, key_pair

from radsweep.cli import app
from radsweep.jobs.demo import SWEEP
from radsweep.sweep.demo import FULL
from radsweep.sweep.load import module_name
from tests.sweep.commands import CHECKOUT, radsweep
from tests.sweep.s3 import s3_server
from tests.sweep.test_submit import free_ports

PAGE = (CHECKOUT / "docs" / "cluster.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S)
FEWER = """
import dataclasses
from radsweep.jobs import demo
SWEEP = dataclasses.replace(demo.SWEEP, images=(50, 100))
"""
"""The demo's sweep, for as many patients as are drawn within seconds."""
LINES = [line for block in BLOCKS for line in re.split("\n|&&", block.replace("\\\n", " "))]


def said(program: str) -> list[list[str]]:
    """Every command of that program, as its words."""
    words = [shlex.split(line, comments=True) for line in LINES]
    return [line[1:] for line in words if line and line[0] == program]


def parse(words: list[str]) -> None:
    """As the command line would, and no further: raises for what it does not know."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    command.commands[words[0]].make_context(words[0], list(words[1:]))


def test_an_option_that_is_not_there_is_refused() -> None:
    with pytest.raises(Exception, match="No such option: --gpu"):
        parse(["run", "jobs/demo.py", "--gpu", "1"])


@pytest.mark.parametrize("words", said("radsweep"), ids=" ".join)
def test_radsweep_knows_the_command_and_what_it_hands_on(words: list[str]) -> None:
    parse(words)
    if "--" in words:
        parse(["run", "jobs/demo.py", *words[words.index("--") + 1 :]])


def test_the_doctor_that_the_head_is_to_run_is_a_command_and_its_sweep_comes_with_the_wheel() -> (
    None
):
    (remote,) = [words[-1] for words in said("ray") if words[0] == "exec"]
    variable, program, *words = shlex.split(remote)
    assert (variable, program, words[0]) == ("RAY_AUTH_MODE=token", "radsweep", "doctor")
    parse(words)
    assert module_name(words[1]) == "radsweep.jobs.demo"
    (submitted,) = [w for w in said("radsweep") if w[:2] == ["submit", "jobs/demo.py"]]
    for option in ("--at-once", "--gpus", "--stream-cpus"):
        place = submitted.index(option)
        assert submitted[place + 1] == words[words.index(option) + 1]


@pytest.mark.parametrize(
    "words", [w for w in said("aws") if w[0] != "s3" and w[1] != "deploy"], ids=" ".join
)
def test_amazons_own_client_knows_the_command_and_its_options(words: list[str]) -> None:
    service, operation, *options = words
    model = boto3.client(service, "us-west-2").meta.service_model
    shapes = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}
    known = {xform_name(name, "-") for name in shapes[operation].input_shape.members}
    asked = {word.removeprefix("--") for word in options if word.startswith("--")}
    assert asked - {"query", "region"} <= known


def test_what_is_deleted_at_the_end_is_what_ray_made() -> None:
    cluster = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text())
    region = cluster["provider"]["region"]
    name, file = key_pair(0, region, None)
    there = ["--region", region]
    assert ["ec2", "delete-key-pair", *there, "--key-name", name] in said("aws")
    assert f"~/.ssh/{Path(file).name}" in PAGE
    group = SECURITY_GROUP_TEMPLATE.format(cluster["cluster_name"])
    assert ["ec2", "delete-security-group", *there, "--group-name", group] in said("aws")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_a_block_needs_no_variable_of_another_shell(block: str) -> None:
    words = {line.split()[0] for line in block.splitlines() if line.strip()}
    exported = "\n".join(line for line in block.splitlines() if line.startswith("export "))
    assert "aws" not in words or "AWS_DEFAULT_REGION=us-west-2" in exported
    assert "ray" not in words or "RAY_AUTH_MODE=token" in exported


def test_the_demos_hospital_is_as_large_as_that_of_the_demo() -> None:
    size = str(SWEEP.recipes[0].image_size)
    (draw,) = [words for words in said("radsweep") if words[0] == "phantom"]
    assert draw[2:] == ["--patients", str(FULL.patients), "--size", size]
    (ingest,) = [words for words in said("radsweep") if words[0] == "ingest"]
    options = dict(zip(ingest[2::2], ingest[3::2], strict=True))
    assert (options["--corpus"], options["--size"]) == (SWEEP.corpus, size)
    assert tuple(map(float, options["--fractions"].split(","))) == FULL.fractions


def test_the_quotas_are_those_of_the_machines() -> None:
    nodes = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text())["available_node_types"]
    cores = {
        **{"m6i.2xlarge": 8, "m6i.8xlarge": 32},
        **{"g6e.4xlarge": 16, "g6e.12xlarge": 48, "g6e.48xlarge": 192},
    }

    def most(*pools: str) -> int:
        return sum(
            nodes[pool].get("max_workers", 1) * cores[nodes[pool]["node_config"]["InstanceType"]]
            for pool in pools
        )

    assert f"a head ({most('head')})" in PAGE and f"for {most('data')} more" in PAGE
    assert f"{most('gpu_spot_one', 'gpu_spot', 'gpu_spot_eight')} of spot GPUs" in PAGE
    assert f"{most('gpu_on_demand')} of GPUs on demand" in PAGE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demos_corpus_gets_into_a_bucket_and_its_sweep_is_planned(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "demo.py").write_text(FEWER)
    env = {"RADSWEEP_PATIENT_KEY": "0" * 64, "RADSWEEP_STORE": "s3://your-bucket/demo"}
    with s3_server(free_ports(1)[0]) as server:
        boto3.client("s3").create_bucket(Bucket="your-bucket")
        ran = {}
        for words in said("radsweep")[:3]:
            fewer = ["120" if word == str(FULL.patients) else word for word in words]
            ran[words[0]] = radsweep(*fewer, folder=tmp_path, **server, **env)
            assert ran[words[0]].code == 0, ran[words[0]].output + ran[words[0]].errors
    assert list(ran) == ["phantom", "ingest", "plan"]
    assert "of 9" in ran["plan"].output
