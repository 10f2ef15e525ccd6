"""Hand a sweep to a cluster as a Ray job, which goes on when the laptop closes.

The package itself travels as a wheel-like folder, the sweep file as the working directory; data
does not travel: the store must be a place that the cluster can read.
"""

import asyncio
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

import radsweep
from radsweep.errors import SpecError
from radsweep.keys import canonical, key_of
from radsweep.specs import Sweep
from radsweep.sweep.load import module_name

RUN = ("python", "-m", "radsweep.cli", "run")
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def job_name(sweep: Sweep) -> str:
    """The same sweep has the same name, so that submitting it twice finds the job that is there."""
    return f"radsweep-{sweep.name}-{key_of(canonical(sweep))}"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of a request."""

    job: str
    is_new: bool
    """False where the job of this very sweep was still under way."""
    before: str | None
    """How the job before it ended, such as ``SUCCEEDED``; None for the first."""


def submit(
    sweep: Sweep, named: str, store_url: str, address: str, arguments: tuple[str, ...]
) -> Submission:
    """Submit, or find the job of this very sweep that is still under way.

    A job that ended is followed by another, which does what is still missing.

    Args:
        sweep: what ``named`` holds; checked on this machine already.
        named: the sweep's file or module.
        store_url: as the cluster sees it.
        address: of the cluster's dashboard, such as ``http://127.0.0.1:8265``.
        arguments: passed on to ``radsweep run`` there.

    Raises SpecError where nothing answers at ``address``, or the cluster could not load ``named``.
    """
    client = _client(address)
    name = job_name(sweep)
    taken = {job.submission_id: job.status for job in client.list_jobs()}
    tries, before = 1, None
    while (job := name if tries == 1 else f"{name}-r{tries}") in taken:
        if taken[job] not in ENDED:
            return Submission(job=job, is_new=False, before=before)
        tries, before = tries + 1, taken[job].value
    with tempfile.TemporaryDirectory() as scratch:
        folder = _package(named, Path(scratch))
        target = Path(named).name if named.endswith(".py") else named
        client.submit_job(
            submission_id=job,
            entrypoint=shlex.join(
                [*RUN, target, "--store", store_url, "--address", "auto", *arguments]
            ),
            runtime_env={"working_dir": str(folder), "env_vars": {"PYTHONUNBUFFERED": "1"}},
            metadata={"sweep": sweep.name},
        )
    return Submission(job=job, is_new=True, before=before)


def follow(address: str, job: str, say: Callable[[str], None]) -> bool:
    """Pass the job's log on until it ends; gives whether it succeeded.

    Interrupting leaves the job running.
    """
    client = _client(address)

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            say(lines)

    asyncio.run(tail())
    return client.get_job_status(job) == JobStatus.SUCCEEDED


def _client(address: str) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as fault:
        raise SpecError(
            f"no Ray dashboard answers at {address}; give the address that `ray up` or "
            "`ray start --head` printed, such as http://127.0.0.1:8265, and the same "
            "RAY_AUTH_MODE as the cluster"
        ) from fault


def _package(named: str, folder: Path) -> Path:
    """A working directory with the code and the sweep's file, and nothing else."""
    package = Path(radsweep.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(package, folder / "radsweep", ignore=ignored)
    for part in ("dashboards", "jobs"):
        beside = package / part if (package / part).is_dir() else package.parent / part
        shutil.copytree(beside, folder / "radsweep" / part, ignore=ignored, dirs_exist_ok=True)
    if named.endswith(".py"):
        shutil.copy(named, folder)
    elif not module_name(named).startswith("radsweep."):
        raise SpecError(
            f"module {named} is not part of radsweep and stays on this machine; submit its file, "
            "such as jobs/mine.py"
        )
    return folder
