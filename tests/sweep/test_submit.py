"""A sweep as a Ray job: on a head of its own here, followed to its end, and found again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from radsweep.store import Store
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_cells, read_scores
from radsweep.sweep.submit import job_name
from tests.sweep.commands import environment, radsweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SWEEP = """
from radsweep import Budget, Protocol, Recipe, Sweep

SWEEP = Sweep(
    name="submitted",
    corpus="little@1",
    recipes=(
        Recipe(
            paradigm="clip",
            encoder="vit_tiny_patch16_224",
            encoder_settings={
                "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1
            },
            image_size=32,
            learning_rate=1e-3,
            settings={
                "text_width": 32, "text_layers": 1, "text_heads": 2, "text_length": 24,
                "embed_dim": 16, "vocabulary_size": 200,
            },
        ),
    ),
    images=(20,),
    budget=Budget(steps=10, batch_size=8),
    protocol=Protocol(tasks=("findings",), search_trials=1, bootstraps=100),
)
"""


@dataclass(frozen=True)
class Head:
    address: str
    """Of the dashboard."""
    environment: dict[str, str]


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def kill_processes_of(folder: Path) -> None:
    """Those whose command line names the folder, and no others; waits until they are gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if int(process.name) != os.getpid() and str(folder).encode() in _command_line(process)
        ]
        if not found:
            return
        for number in found:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.3)
    raise AssertionError(f"{len(found)} processes of the head do not end")


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("the head's processes are found in /proc, which this system lacks")
    # Short, since sockets lie in it and their names may not be long.
    folder = Path(tempfile.mkdtemp(prefix="radsweep-"))
    port, dashboard, client, agent, agent_grpc, metrics = free_ports(6)
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment(RAY_AUTH_MODE="disabled", PATH=here)
    try:
        started = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
                *(f"--temp-dir={folder}", f"--port={port}", f"--dashboard-port={dashboard}"),
                *(f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"),
                f"--dashboard-agent-listen-port={agent}",
                f"--dashboard-agent-grpc-port={agent_grpc}",
                *("--include-dashboard=true", "--num-cpus=2", "--disable-usage-stats"),
                *("--node-ip-address=127.0.0.1", "--object-store-memory=500000000"),
            ],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.returncode == 0, started.stdout + started.stderr
        yield Head(f"http://127.0.0.1:{dashboard}", env)
    finally:
        kill_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_sweep_is_followed_to_its_end_and_is_done_when_submitted_again(
    head: Head, new_store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    file, store = tmp_path / "submitted.py", new_store()
    file.write_text(SWEEP)
    sweep = load_sweep(str(file))
    halves = ("--", "--cpus", "0.5", "--stream-cpus", "0.5")
    command = ("submit", file, "--store", store.url, "--address", head.address, *halves)
    first = radsweep(*command, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert first.code == 0, first.output + first.errors
    assert f"submitted: {job_name(sweep)} at" in first.output
    assert "2 of 2 cells are missing" in first.output
    assert "2 cells trained" in first.output, "the job's log was not passed on"
    assert set(read_cells(sweep, store)["state"]) == {"done"}
    scores = read_scores(sweep, store)
    assert scores.filter("headline").height == 2

    again = radsweep(*command, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert again.code == 0, again.output + again.errors
    assert "before ended: SUCCEEDED" in again.output
    assert f"submitted: {job_name(sweep)}-r2 at" in again.output
    assert "0 of 2 cells are missing: 0.00 device-hours, 0.00 USD on" in again.output
    assert "0 cells trained" in again.output
    assert read_scores(sweep, store).equals(scores)

    client = JobSubmissionClient(head.address)
    jobs = {job.submission_id: job for job in client.list_jobs()}
    assert {name: job.status for name, job in jobs.items()} == {
        job_name(sweep): JobStatus.SUCCEEDED,
        f"{job_name(sweep)}-r2": JobStatus.SUCCEEDED,
    }


def test_a_job_that_fails_is_an_error_here_too(
    head: Head, new_store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    file, store = tmp_path / "large.py", new_store()
    # More images than the corpus has: the job finds out, where nobody looked before.
    file.write_text(SWEEP.replace("images=(20,)", "images=(20_000,)"))
    command = ("submit", file, "--store", store.url, "--address", head.address)
    planned = radsweep(*command, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert planned.code == 1 and "asks for 20,000 images" in planned.errors
    jobs = JobSubmissionClient(head.address).list_jobs()
    assert job_name(load_sweep(str(file))) not in {job.submission_id for job in jobs}
    ran = radsweep(*command, "--no-plan", folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert ran.code == 1
    assert "asks for 20,000 images" in ran.output
    assert "did not succeed" in ran.errors and "Traceback" not in ran.errors
