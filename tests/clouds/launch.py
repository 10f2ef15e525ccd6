"""A whole ``ray up`` and ``ray down`` by Ray's own code, and a machine of every pool between them.

Run by tests/test_ray_up.py in a process of its own, with a home of its own. Processes that Ray
would start (ssh, rsync) are played; the cloud is played by the module beside this one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.sdk import bootstrap_config
from ray.autoscaler.tags import (
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)
from ray.scripts.scripts import down, up
from testfixtures import Replacer
from testfixtures.popen import MockPopen, PopenBehaviour


def answer(command: str | list[str], stdin: object) -> PopenBehaviour:
    asked = command if isinstance(command, str) else " ".join(map(str, command))
    return PopenBehaviour(stdout=b"{}" if ".Config.Env" in asked else b"played")


def start_one_of_each_pool(cluster: dict[str, Any]) -> str:
    """What Ray's autoscaler does on the head, without waiting for work; why it could not."""
    full = bootstrap_config(prepare_config(cluster), no_config_cache=True)
    provider = _get_node_provider(full["provider"], full["cluster_name"], use_cache=False)
    for name, node in full["available_node_types"].items():
        if name != full["head_node_type"]:
            tags = {
                TAG_RAY_NODE_KIND: "worker",
                TAG_RAY_NODE_NAME: f"ray-{full['cluster_name']}-worker",
                TAG_RAY_NODE_STATUS: "uninitialized",
                TAG_RAY_USER_NODE_TYPE: name,
            }
            try:
                provider.create_node(node["node_config"], tags, 1)
            except Exception as error:  # each cloud's client has its own kinds
                return f"{name}: {error!r}"
    return ""


def launch(
    cluster: dict[str, Any], copy: Path, machines: Callable[[], list[dict[str, Any]]]
) -> None:
    """Up, a machine of every pool, and down; says on standard output what was seen.

    Args:
        cluster: what a file of ours says, with a user's own names filled in
        copy: where it is written for Ray
        machines: those that the played cloud has running; asked before and after ``ray down``
    """
    copy.write_text(yaml.safe_dump(cluster))
    words = [str(copy), "--log-style=pretty", "--log-color", "False", "-y"]
    commands = MockPopen()
    commands.set_default(behaviour=answer)
    with Replacer() as replaced:
        replaced.replace("subprocess.Popen", commands)
        began = CliRunner().invoke(up, [*words, "--no-config-cache"])
        refused = start_one_of_each_pool(cluster) if began.exit_code == 0 else ""
        running = machines()
        ended = CliRunner().invoke(down, words) if began.exit_code == 0 else began
    seen = {
        "exit": [began.exit_code, ended.exit_code],
        "refused": refused,
        "said": began.output[-2000:] + repr(began.exception) + ended.output[-1000:],
        "commands": [repr(call) for call in commands.all_calls],
        "machines": running,
        "left": machines(),
    }
    print("\nSEEN " + json.dumps(seen))
