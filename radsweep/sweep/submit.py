"""Hand a sweep to a cluster as a Ray job, which goes on when the laptop closes.

The package itself travels as a wheel-like folder, the sweep file as the working directory; data
does not travel: the store must be a place that the cluster can read.
"""

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

import radsweep
from radsweep.errors import SpecError
from radsweep.keys import canonical, key_of
from radsweep.specs import Sweep
from radsweep.sweep.load import module_name

RUN = ("python", "-m", "radsweep.cli", "run")
STOP_SECONDS = 60.0
LEAVE_SECONDS = 30
"""What a stopped job has to give its leases back, one after another; Ray kills it after 3 s."""
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def job_name(sweep: Sweep) -> str:
    """The same sweep has the same name, so that submitting it twice finds the job that is there."""
    return f"radsweep-{sweep.name}-{key_of(canonical(sweep))}"


@contextmanager
def _with_its_token() -> Iterator[None]:
    """Raises SpecError where the cluster asks for a token that was not sent, or not its own."""
    try:
        yield
    except AuthenticationError as fault:
        raise SpecError(
            "the cluster asks for its token: `export RAY_AUTH_MODE=token` in this shell, and keep "
            "in ~/.ray/auth_token (or RAY_AUTH_TOKEN) what it was started with"
        ) from fault


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The newest job of a sweep."""

    job: str
    ended: str | None
    """How, such as ``SUCCEEDED``; None while it is under way."""


@_with_its_token()
def newest(sweep: Sweep, address: str) -> Submission | None:
    """The job that a cluster had last of this very sweep; None where it had none.

    Args:
        sweep: what was submitted.
        address: of the cluster's dashboard, such as ``http://127.0.0.1:8265``.

    Raises SpecError where nothing answers at ``address``, or what does asks for a token.
    """
    taken = {job.submission_id: job.status for job in _client(address).list_jobs()}
    tries, found = 1, None
    while (job := _numbered(sweep, tries)) in taken:
        status = taken[job]
        found = Submission(job=job, ended=status.value if status in ENDED else None)
        tries += 1
    return found


def _numbered(sweep: Sweep, tries: int) -> str:
    return job_name(sweep) if tries == 1 else f"{job_name(sweep)}-r{tries}"


@_with_its_token()
def submit(
    sweep: Sweep,
    named: str,
    store_url: str,
    address: str,
    arguments: tuple[str, ...],
    prices: Path | None = None,
    installs: dict[str, Any] | None = None,
) -> str:
    """Submit a job that does what is still missing; gives its name.

    Args:
        sweep: what ``named`` holds; checked on this machine already.
        named: the sweep's file or module.
        store_url: as the cluster sees it.
        address: of the cluster's dashboard, such as ``http://127.0.0.1:8265``.
        arguments: passed on to ``radsweep run`` there.
        prices: a price table of this machine that ``arguments`` name; it goes along.
        installs: of ``pinned.environment``; None runs in the nodes' own.

    Raises SpecError where nothing answers at ``address`` or what does asks for a token, or the
    cluster could not load ``named``.
    """
    client = _client(address)
    taken = {job.submission_id for job in client.list_jobs()}
    job = next(name for tries in count(1) if (name := _numbered(sweep, tries)) not in taken)
    if prices is not None:
        # Of an option that is given twice, the last counts.
        arguments = (*arguments, "--prices", prices.name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = _package(named, Path(scratch))
        if prices is not None:
            shutil.copy(prices, folder)
        target = Path(named).name if named.endswith(".py") else named
        client.submit_job(
            submission_id=job,
            entrypoint=shlex.join(
                [*RUN, target, "--store", store_url, "--address", "auto", *arguments]
            ),
            runtime_env={
                "working_dir": str(folder),
                "env_vars": {
                    "PYTHONUNBUFFERED": "1",
                    # Read by the process that Ray sets beside the job, in the job's environment.
                    "RAY_JOB_STOP_WAIT_TIME_S": str(LEAVE_SECONDS),
                },
                **(installs or {}),
            },
            metadata={"sweep": sweep.name},
        )
    return job


@_with_its_token()
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


@_with_its_token()
def stop(address: str, job: str) -> str:
    """End a job and wait until it has ended; gives how.

    Its driver gives its leases back, and Ray ends the tasks that it began.

    Raises SpecError where it has not ended after ``STOP_SECONDS``.
    """
    client = _client(address)
    client.stop_job(job)
    until = time.monotonic() + STOP_SECONDS
    while (status := client.get_job_status(job)) not in ENDED:
        if time.monotonic() > until:
            raise SpecError(
                f"job {job} was told to stop and is {status.value} after {STOP_SECONDS:g} s; look "
                f"at `ray job logs {job}`, and stop it again"
            )
        time.sleep(0.5)
    return status.value


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
