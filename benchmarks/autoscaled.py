"""A cluster on this machine under Ray's real autoscaler, whose nodes are processes. Linux only."""

from contextlib import AbstractContextManager
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from benchmarks.ray_head import Head, ray_head

# As ``ray.cluster_utils.AutoscalingCluster`` does it, which needs a file that Ray's wheel lacks and
# begins by stopping every Ray on the machine.
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD_TYPE = "ray.head.default"
"""The provider says so of its head, whatever it is called here."""


def _configuration(
    address: str, cpus_per_node: int, max_nodes: int, idle_minutes: float
) -> dict[str, Any]:
    lists = (
        *("initialization_commands", "setup_commands", "head_setup_commands"),
        *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
        *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
    )
    return {
        "cluster_name": "here",
        "max_workers": max_nodes,
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": address,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "pool": {
                "resources": {"CPU": cpus_per_node, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": max_nodes,
            },
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
    }


def autoscaled_head(
    *, cpus_per_node: int, max_nodes: int, idle_seconds: float
) -> AbstractContextManager[Head]:
    """A head that runs no work, for the block; nodes come when asked for and go when idle.

    One that does not answer is given up after seconds, and not after half a minute.
    """
    return ray_head(
        0,
        lambda address: _configuration(address, cpus_per_node, max_nodes, idle_seconds / 60),
        {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        },
    )
