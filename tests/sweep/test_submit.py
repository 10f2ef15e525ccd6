"""A sweep as a Ray job: on a head of its own here, followed to its end, and found again."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_cells, read_scores
from radsweep.sweep.submit import LEAVE_SECONDS, job_name
from radsweep.sweep.tell import kept_price
from tests.sweep.commands import CHECKOUT, environment, radsweep
from tests.sweep.test_resume import trained_cells, write_sweep

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

LEAVES = """
import os
print("has", os.environ.get("RAY_JOB_STOP_WAIT_TIME_S"), "s to leave")
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
    with started_head(Path(sys.executable)) as head:
        yield head


@contextmanager
def started_head(python: Path) -> Iterator[Head]:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("the head's processes are found in /proc, which this system lacks")
    # Short, since sockets lie in it and their names may not be long.
    folder = Path(tempfile.mkdtemp(prefix="radsweep-"))
    port, dashboard, client, agent, agent_grpc, metrics = free_ports(6)
    here = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    env = environment(RAY_AUTH_MODE="disabled", PATH=here)
    try:
        started = subprocess.run(
            [
                *(str(python), "-m", "ray.scripts.scripts", "start", "--head"),
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
    # The driver's environment is that of the process which waits for it when it is stopped.
    file.write_text(SWEEP + LEAVES)
    sweep = load_sweep(str(file))
    prices = tmp_path / "ours" / "prices.toml"
    prices.parent.mkdir()
    prices.write_text("[machines.ours]\ndevices=1\ntflops=1\nutilisation=0.5\nusd_per_hour=2\n")
    # Only this machine has the table, and the job reads it there.
    limit = ("--prices", prices, "--machine", "ours", "--max-usd", "1000")
    halves = ("--", "--cpus", "0.5", "--stream-cpus", "0.5", *limit)
    command = ("submit", file, "--store", store.url, "--address", head.address, *halves)
    first = radsweep(*command, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert first.code == 0, first.output + first.errors
    assert f"submitted: {job_name(sweep)} at" in first.output
    assert "2 of 2 cells are missing" in first.output
    assert "2 cells trained" in first.output, "the job's log was not passed on"
    assert f"has {LEAVE_SECONDS} s to leave" in first.output
    assert set(read_cells(sweep, store)["state"]) == {"done"}
    assert kept_price(sweep, store) == 2
    scores = read_scores(sweep, store)
    assert scores.filter("headline").height == 2

    again = radsweep(*command, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert again.code == 0, again.output + again.errors
    assert "before ended: SUCCEEDED" in again.output
    assert f"submitted: {job_name(sweep)}-r2 at" in again.output
    assert "0 of 2 cells are missing: 0.00 device-hours, 0.00 USD on ours" in again.output
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


def test_a_job_is_stopped_in_the_middle_and_nobody_waits_for_what_it_held(
    head: Head, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    store, file = new_store(), write_sweep(tmp_path / "stopped.py", '(recipe("clip"),)', steps=9000)
    (cell,) = trained_cells(file)
    corner = CellStore(store, cell.name)
    env = {"RAY_AUTH_MODE": "disabled", "folder": tmp_path}
    stop = ("stop", file, "--address", head.address)
    nothing = radsweep(*stop, **env)
    assert nothing.code == 1 and "no job of this sweep" in nothing.errors
    submitted = radsweep(
        *("submit", file, "--store", store.url, "--address", head.address, "--no-follow"),
        *("--", "--cpus", "0.5", "--stream-cpus", "0.5", "--checkpoint-steps", "20"),
        **env,
    )
    assert submitted.code == 0, submitted.output + submitted.errors
    deadline = time.monotonic() + 180
    while not store.names(corner.path("checkpoints")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.2)
    assert corner.state()["state"] == "running"

    stopped = radsweep(*stop, **env)
    assert stopped.code == 0 and "ended: STOPPED" in stopped.output, stopped.errors
    assert not store.exists(corner.path("lease.json")), "another driver would wait for it"
    assert corner.state()["state"] == "preempted"
    # The task ended with its driver: nothing is written any more.
    deadline = time.monotonic() + 30
    kept: list[str] = []
    while (found := store.names(corner.path("checkpoints"))) != kept:
        assert time.monotonic() < deadline, "the cell trains on"
        kept = found
        time.sleep(3)
    assert kept
    again = radsweep(*stop, **env)
    assert again.code == 0 and "ended before: STOPPED" in again.output


def test_the_docs_plain_ray_job_runs_a_sweep_of_the_jobs_folder(
    head: Head, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    store = new_store()
    (tmp_path / "jobs").mkdir()
    file = write_sweep(tmp_path / "jobs" / "mine.py", '(recipe("clip"),)', steps=5)
    docs = (CHECKOUT / "docs" / "cluster.md").read_text()
    (said,) = re.findall(r"^ray job submit (?:.*\\\n)*.*", docs, re.MULTILINE)
    command = said.replace("http://127.0.0.1:8265", head.address)
    command = command.replace("s3://YOUR-BUCKET/radsweep", store.url)
    assert head.address in command and store.url in command
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=head.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 cells trained" in ran.stdout
    assert CellStore(store, trained_cells(file)[0].name).is_done


def test_a_job_with_pinned_packages_runs_in_an_environment_that_ray_made_of_them(
    new_store: Callable[[], Store], tmp_path: Path
) -> None:
    # Ray clones the environment that a node runs in: a small one, which sees this one's packages.
    venv.create(tmp_path / "node", symlinks=True)
    (site,) = (tmp_path / "node" / "lib").glob("python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib"))
    store, seen = new_store(), tmp_path / "seen.txt"
    file = write_sweep(tmp_path / "pinned.py", '(recipe("clip"),)', steps=5)
    note = f"import sys\nwith open({str(seen)!r}, 'a') as seen:\n    print(sys.prefix, file=seen)\n"
    file.write_text(note + file.read_text())
    with started_head(tmp_path / "node" / "bin" / "python") as head:
        ran = radsweep(
            *("submit", file, "--store", store.url, "--address", head.address),
            *("--install", "pip", "--", "--cpus", "0.5", "--stream-cpus", "0.5"),
            folder=tmp_path,
            RAY_AUTH_MODE="disabled",
        )
    assert ran.code == 0, ran.output + ran.errors
    assert "2 cells trained" in ran.output
    here, there = seen.read_text().splitlines()
    assert here == sys.prefix
    assert "runtime_resources/pip/" in there and there.endswith("/virtualenv")
