"""What would stop or spoil a run on a cluster, found before anything costs money.

Each check gives a finding: what was looked at, whether it is well, and what to do where it is not.
"""

import importlib.metadata
import os
import platform
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich import box
from rich.markup import escape
from rich.table import Table

from radsweep.corpus.identity import VARIABLE as PATIENT_KEY
from radsweep.errors import RadsweepError, SpecError, StoreError
from radsweep.pretrain.nodes import living_nodes, most_resources
from radsweep.pretrain.place import Workers
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.sweep.plan import check
from radsweep.sweep.room import cells_room, process_fault
from radsweep.sweep.starts import lacks_licence, missing_start

SAME_EVERYWHERE = ("radsweep", "ray", "torch", "timm", "transformers", "numpy", "polars")
"""Packages whose versions must agree: objects travel between nodes, and numbers must not differ."""

NODE_SECONDS = 120.0
"""How long one node may take to answer; a worker process imports PyTorch first."""

WELL, BAD = "well", "bad"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check."""

    checked: str
    state: str
    """``well`` or ``bad``."""
    said: str
    """The fact with its values and, where it is bad, the remedy."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What one node says of itself, from inside a task that runs there."""

    host: str
    versions: dict[str, str]
    """Python's and each of ``SAME_EVERYWHERE``; a package that is missing is ``missing``."""
    cpus: float
    gpus: float
    store_fault: str | None
    """Why the store cannot be written from there, or None."""
    missing_starts: tuple[str, ...]
    """Starting weights that cannot be seen from there, each with its remedy."""
    unlicensed_starts: tuple[str, ...]
    """Starting weights beside which no word was found on what may be done with them, and why."""
    asks_for_token: bool
    """Whether Ray's token authentication is on there; without a token nothing joins it."""
    has_patient_key: bool
    """Whether the environment of its workers holds the secret of patient hashes."""


def examine(sweep: Sweep, store: Store, workers: Workers, at_once: int) -> tuple[Finding, ...]:
    """All checks, on the cluster that is connected.

    Args:
        sweep: what is to be run.
        store: as the cluster sees it.
        workers: what each cell gets.
        at_once: cells side by side.
    """
    starts = tuple(sorted({recipe.start_from for recipe in sweep.recipes}))
    nodes = _ask_nodes(store, starts)
    here = _versions()
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = most_resources()
    return (
        _sweep_finding(sweep, store),
        _nodes_finding(nodes),
        _token_finding(nodes, is_token_auth_enabled()),
        _patient_key_finding(nodes, socket.gethostname()),
        *_version_findings(here, nodes),
        *_store_findings(nodes),
        *_start_findings(nodes),
        _licence_finding(nodes),
        _room_finding(workers, at_once, has, most),
        *_process_findings(workers, living_nodes(), most),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in SAME_EVERYWHERE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def _facts(store: Store, starts: tuple[str, ...], cpus: float, gpus: float) -> NodeFacts:
    """Runs on the node."""
    fault = None
    try:
        store.check_writable()
    except StoreError as said:
        fault = str(said)
    faults = {start: _start_fault(start, store) for start in starts}
    seen = [start for start, fault in faults.items() if fault is None]
    return NodeFacts(
        host=socket.gethostname(),
        versions=_versions(),
        cpus=cpus,
        gpus=gpus,
        store_fault=fault,
        missing_starts=tuple(fault for fault in faults.values() if fault is not None),
        unlicensed_starts=tuple(said for said in map(_licence_fault, seen) if said is not None),
        asks_for_token=is_token_auth_enabled(),
        has_patient_key=PATIENT_KEY in os.environ,
    )


def _start_fault(start: str, store: Store) -> str | None:
    try:
        return missing_start(start, store)
    except Exception as fault:
        # A library that is missing, a right that is missing: whatever it is, it is the finding.
        return f"{start} cannot be looked up ({type(fault).__name__}: {fault})"


def _licence_fault(start: str) -> str | None:
    try:
        lacks = lacks_licence(start)
    except Exception as fault:
        # Some may read the weights that they name, and not list what lies beside them.
        return f"what lies beside {start} could not be looked up ({type(fault).__name__}: {fault})"
    return f"nothing beside {start} says what may be done with the weights" if lacks else None


def _ask_nodes(store: Store, starts: tuple[str, ...]) -> tuple[NodeFacts, ...]:
    """Every node that lives. Raises SpecError where one does not answer."""
    ask = ray.remote(_facts)
    asked = []
    for node in living_nodes():
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        resources: dict[str, float] = node["Resources"]
        answer = ask.options(num_cpus=0, scheduling_strategy=here).remote(
            store, starts, resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        )
        asked.append(answer)
    try:
        facts: list[NodeFacts] = ray.get(asked, timeout=NODE_SECONDS)
    except ray.exceptions.GetTimeoutError as fault:
        raise SpecError(
            f"not all of the {len(asked)} nodes answered within {NODE_SECONDS:.0f} s; look at "
            "`ray status`, and end the nodes that hang"
        ) from fault
    return tuple(facts)


def _well(checked: str, said: str) -> Finding:
    return Finding(checked=checked, state=WELL, said=said)


def _bad(checked: str, said: str) -> Finding:
    return Finding(checked=checked, state=BAD, said=said)


def _sweep_finding(sweep: Sweep, store: Store) -> Finding:
    try:
        card = check(sweep, store)
    except RadsweepError as fault:
        return _bad("sweep and corpus", str(fault))
    except OSError as fault:
        # A store that cannot be reached fails in its library's own way.
        return _bad("sweep and corpus", f"cannot be read ({type(fault).__name__}: {fault})")
    images = card["splits"]["pretrain"]["images"]
    return _well("sweep and corpus", f"{sweep.corpus} has {images:,} images for pretraining")


def _nodes_finding(nodes: tuple[NodeFacts, ...]) -> Finding:
    gpus = sum(node.gpus for node in nodes)
    cpus = sum(node.cpus for node in nodes)
    return _well("nodes", f"{len(nodes)} answer, with {cpus:g} CPUs and {gpus:g} GPUs")


def _token_finding(nodes: tuple[NodeFacts, ...], here: bool) -> Finding:
    """Ray runs what it is sent, and listens at every address of a node, also of a local one."""
    bare = sorted({node.host for node in nodes if not node.asks_for_token})
    if here and not bare:
        return _well("token", f"asked for here and on all {len(nodes)} nodes")
    return _bad(
        "token",
        f"none is asked for by {', '.join(bare) or 'this machine'}: who reaches a port runs code "
        "there. `ray get-auth-token --generate` once; its file and RAY_AUTH_MODE=token on every "
        "node and here",
    )


def _patient_key_finding(nodes: tuple[NodeFacts, ...], here: str) -> Finding:
    """The one secret by which pseudonyms become patients; this machine may have made the corpus."""
    holders = sorted({node.host for node in nodes if node.has_patient_key and node.host != here})
    if not holders:
        return _well("patient key", "on no other machine; ingest and corpus check alone need it")
    return _bad(
        "patient key",
        f"{PATIENT_KEY} is set on {', '.join(holders)}: no run needs it, and whoever has it links "
        "pseudonyms to patients; unset it where Ray is started, and keep it in the hospital's safe",
    )


def _version_findings(here: dict[str, str], nodes: tuple[NodeFacts, ...]) -> list[Finding]:
    """Python may differ in its last number, packages in nothing."""
    found = []
    for name, version in here.items():
        wanted = _comparable(name, version)
        odd = sorted(
            {
                f"{node.host} has {node.versions[name]}"
                for node in nodes
                if _comparable(name, node.versions[name]) != wanted
            }
        )
        if odd:
            found.append(
                _bad(
                    f"version of {name}",
                    f"{version} here, and {'; '.join(odd)}: use one image, or "
                    "`pip install -c constraints.txt` on every node",
                )
            )
    return found or [_well("versions", f"the same on all {len(nodes)} nodes and here")]


def _comparable(name: str, version: str) -> str:
    return version.rpartition(".")[0] if name == "python" else version


def _store_findings(nodes: tuple[NodeFacts, ...]) -> list[Finding]:
    faults = [
        _bad("store", f"from {node.host}: {node.store_fault}") for node in nodes if node.store_fault
    ]
    return faults or [_well("store", f"written and deleted a file from all {len(nodes)} nodes")]


def _start_findings(nodes: tuple[NodeFacts, ...]) -> list[Finding]:
    faults = [
        _bad("starting weights", f"from {node.host}: {said}")
        for node in nodes
        for said in node.missing_starts
    ]
    return faults or [_well("starting weights", "seen from every node")]


def _licence_finding(nodes: tuple[NodeFacts, ...]) -> Finding:
    """Said, and no reason to refuse: terms may lie in another place than the weights."""
    bare = sorted({said for node in nodes for said in node.unlicensed_starts})
    if not bare:
        return _well("licences", "none is missing beside starting weights")
    return _well(
        "licences",
        f"{'; '.join(bare)}: keep the publisher's LICENSE or model card there",
    )


def _room_finding(
    workers: Workers, at_once: int, now: dict[str, float], most: dict[str, float]
) -> Finding:
    is_enough, said = cells_room(workers, at_once, now, most)
    return _well("room", said) if is_enough else _bad("room", said)


def _process_findings(
    workers: Workers, nodes: list[dict[str, Any]], most: dict[str, float]
) -> list[Finding]:
    """Whether one training process fits on a node; of those that may yet come nothing is known."""
    wanted = {"CPU": workers.cpus, "GPU": workers.gpus}
    fault = process_fault("training", wanted, "--cpus or --gpus", nodes)
    if fault is None:
        return []
    if most:
        return [_well("training process", "fits on no node yet; the autoscaler is to bring one")]
    return [_bad("training process", fault)]


def doctor_table(findings: tuple[Finding, ...]) -> Table:
    """One line per check, for a terminal."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("checked", no_wrap=True)
    table.add_column("", overflow="fold")
    for finding in findings:
        style = "green" if finding.state == WELL else "red"
        table.add_row(f"[{style}]{finding.state}[/{style}]", finding.checked, escape(finding.said))
    return table
