"""Connect to a Ray cluster, or start one on this machine, with the settings that a sweep needs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from radsweep.errors import SpecError
from radsweep.pretrain.nodes import keep_helpers_here

TASKS_KEPT = "RAY_task_events_max_num_task_in_gcs"

QUIET = {
    # Ray Train looks at its workers every 2 s and ends a run a look later: on tiny cells that is
    # the run.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A group that finds no room for so long is begun anew, by as many as there is room for then.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # A rank that stands still is waited for so long at Ray Train's barriers, which is for ever
    # unless it is told; at PyTorch's own for ``Workers.hung_seconds``.
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "600",
    # Of a notice that may be 30 s long, Ray Train would lose 5 s before it looks.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "2",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    # Tune's own result files are not read by anyone, and cost a third of a short trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # It would take Ctrl-C for the end of an experiment, and go on with what comes after it.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A head keeps 4 KiB of each of the newest 100,000 tasks, for its dashboard alone.
    TASKS_KEPT: "10000",
}


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """A cluster for the block: the one at ``address``, or one started here and stopped after.

    Args:
        address: ``auto``, ``ray://host:10001`` or None to start one on this machine.
        cpus: of the one that is started; None takes what the machine has.

    Raises SpecError where nothing answers at ``address``.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address or "local",
            num_cpus=cpus if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            # Ray Train's clean-up actor asks the dashboard's state service; without it, it
            # complains once a second.
            include_dashboard=None if address else True,
        )
    except ConnectionError as fault:
        raise SpecError(
            f"no Ray cluster answers at {address}: {fault}; check the address, and that "
            "RAY_AUTH_MODE is the same here and there"
        ) from fault
    if address is not None:
        keep_helpers_here()
    try:
        yield
    finally:
        ray.shutdown()
