"""A Ray head of one's own on this machine, and the processes that belong to it. Linux only."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Head:
    """A Ray head that only we know of."""

    address: str
    folder: Path


def environment() -> dict[str, str]:
    """Of every process that is started here."""
    top = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([top, *filter(None, [os.environ.get("PYTHONPATH")])])
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PYTHONPATH": path, "PATH": here, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    return dict(os.environ) | ours


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def command_line(process: Path) -> bytes:
    """Of ``/proc/<number>``; empty where the process is gone."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def processes(of: bytes) -> list[int]:
    """Numbers of the other processes whose command line has these bytes in it."""
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if int(process.name) != os.getpid() and of in command_line(process)
    ]


def raylets_of(head: Head) -> set[int]:
    """Of its node and of those that joined it."""
    return {
        number
        for number in processes(str(head.folder).encode())
        if command_line(Path(f"/proc/{number}")).split(b"\0")[0].endswith(b"raylet")
    }


def nodes_of(head: Head) -> set[int]:
    """The raylets of the nodes that joined the head."""
    return {
        number
        for number in raylets_of(head)
        if b"node:__internal_head__" not in command_line(Path(f"/proc/{number}"))
    }


def _workers(head: Head) -> Iterator[tuple[int, int, bytes]]:
    """Ray's processes, each with the raylet whose child it is and what it is called."""
    raylets = raylets_of(head)
    for number in processes(b"ray::"):
        try:
            stat = Path(f"/proc/{number}/stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent in raylets:
            yield number, parent, command_line(Path(f"/proc/{number}"))


def busy_workers(head: Head) -> dict[int, int]:
    """Ray's processes that run something of ours, each with the raylet whose child it is.

    Not its agents: a raylet ends with them, and a node with its raylet.
    """
    return {
        number: parent
        for number, parent, name in _workers(head)
        if not (b"ray::IDLE" in name or b"Agent" in name)
    }


def idle_workers(head: Head) -> list[int]:
    """Ray's processes that wait for something to do."""
    return [number for number, _, name in _workers(head) if b"ray::IDLE" in name]


def kill(number: int) -> bool:
    """SIGKILL; whether there was anybody."""
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def ray_head(
    cpus: int,
    autoscaling: Callable[[str], dict[str, Any]] | None = None,
    more_environment: Mapping[str, str] = MappingProxyType({}),
    gpus: int = 0,
) -> Iterator[Head]:
    """A head for the block, with ports and a folder of its own.

    Args:
        cpus: of the head.
        autoscaling: makes the autoscaler's configuration from the head's address.
        more_environment: of its processes.
        gpus: of the head, on paper.
    """
    folder = Path(tempfile.mkdtemp(prefix="radsweep-"))
    port, dashboard, client, metrics, agent, agent_grpc = free_ports(6)
    address, scaling = f"127.0.0.1:{port}", list[str]()
    if autoscaling is not None:
        (folder / "autoscaling.json").write_text(json.dumps(autoscaling(address)))
        scaling = [f"--autoscaling-config={folder / 'autoscaling.json'}"]
    try:
        started = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
                *(f"--temp-dir={folder}", f"--port={port}", f"--dashboard-port={dashboard}"),
                *(f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"),
                f"--dashboard-agent-listen-port={agent}",
                f"--dashboard-agent-grpc-port={agent_grpc}",
                *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--disable-usage-stats"),
                "--include-dashboard=true",
                *("--node-ip-address=127.0.0.1", "--object-store-memory=300000000"),
                *scaling,
            ],
            env={**environment(), **more_environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode:
            raise RuntimeError(started.stdout + started.stderr)
        yield Head(address, folder)
    finally:
        deadline = time.monotonic() + 30
        while (left := processes(str(folder).encode())) and time.monotonic() < deadline:
            for number in left:
                kill(number)
            time.sleep(0.3)
        shutil.rmtree(folder, ignore_errors=True)
