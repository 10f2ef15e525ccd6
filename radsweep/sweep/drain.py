"""``python -m radsweep.sweep.drain --seconds 100``: this node goes; returns when it may.

For whatever ends a machine with some notice and can run a command first, such as the ``preStop``
hook of a Kubernetes pod. It lets nothing new start here and waits until what ran here has kept a
checkpoint and ended, upon which Ray ends the node by itself, or until the time is over.
"""

import argparse
import logging
import time

import ray

from radsweep.pretrain.nodes import drain_node, living_nodes

LOOK_SECONDS = 1.0


def drain_here(seconds: float) -> bool:
    """Drain the node of the connected cluster on which this process runs.

    Args:
        seconds: until the node is taken away.

    Returns whether the node ended in time. Raises DrainError where the head refuses.
    """
    until = time.monotonic() + seconds
    context = ray.get_runtime_context()
    here = context.get_node_id()
    drain_node(context.gcs_address, here, seconds, "it is about to be stopped")
    while time.monotonic() < until:
        if not any(node["NodeID"] == here for node in living_nodes()):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def main() -> None:
    """Read the one option, connect, drain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="until this machine is gone")
    given = parser.parse_args()
    ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    drain_here(given.seconds)


if __name__ == "__main__":
    main()
