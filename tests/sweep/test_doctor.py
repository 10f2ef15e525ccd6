"""What the doctor makes of what it is told; the last tests ask a real Ray."""

import dataclasses
import importlib.metadata
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from radsweep.errors import SpecError
from radsweep.pretrain.nodes import cpus_left
from radsweep.pretrain.place import Workers
from radsweep.store import Store
from radsweep.sweep import doctor
from radsweep.sweep.cluster import connected
from radsweep.sweep.doctor import BAD, WELL, Finding, NodeFacts, doctor_table, examine
from radsweep.sweep.room import check_room
from tests.evaluate.toy import sweep
from tests.sweep.test_drain import wait_until

HERE = {"python": "3.11.9", "ray": "2.60.0", "torch": "2.15.0"}
NODE = NodeFacts(
    host="a",
    versions=HERE,
    cpus=8,
    gpus=1,
    store_fault=None,
    missing_starts=(),
    unlicensed_starts=(),
    asks_for_token=True,
    has_patient_key=False,
)
SMALL = {"CPU": 4.0}


def node(**changes: object) -> NodeFacts:
    return dataclasses.replace(NODE, **changes)  # type: ignore[arg-type]


def states(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.checked, finding.state) for finding in findings]


def test_a_node_with_another_version_is_named_with_both_and_the_remedy() -> None:
    odd = node(host="b", versions={**HERE, "torch": "2.14.0"})
    (found,) = doctor._version_findings(HERE, (NODE, odd))
    assert (found.checked, found.state) == ("version of torch", BAD)
    assert "2.15.0 here" in found.said and "b has 2.14.0" in found.said
    assert "a has" not in found.said and "constraints.txt" in found.said


def test_python_may_differ_in_its_last_number_and_a_missing_package_is_a_difference() -> None:
    later = node(versions={**HERE, "python": "3.11.15"})
    assert states(doctor._version_findings(HERE, (later,))) == [("versions", WELL)]
    other = node(versions={**HERE, "python": "3.12.1", "ray": "missing"})
    assert states(doctor._version_findings(HERE, (other,))) == [
        ("version of python", BAD),
        ("version of ray", BAD),
    ]


def test_faults_of_nodes_are_told_with_the_node() -> None:
    blind = node(host="b", store_fault="cannot be written", missing_starts=("weights gone",))
    (store,) = doctor._store_findings((NODE, blind))
    (start,) = doctor._start_findings((NODE, blind))
    assert store.state == start.state == BAD
    assert store.said == "from b: cannot be written" and start.said == "from b: weights gone"
    assert doctor._store_findings((NODE,))[0].state == WELL
    assert doctor._start_findings((NODE,))[0].state == WELL


def test_a_cluster_that_asks_for_no_token_is_bad() -> None:
    assert doctor._token_finding((NODE,), True).state == WELL
    assert doctor._token_finding((NODE,), False).state == BAD
    found = doctor._token_finding((NODE, node(host="b", asks_for_token=False)), True)
    assert found.state == BAD and "asked for by b:" in found.said
    assert "RAY_AUTH_MODE=token" in found.said


def test_a_patient_key_on_another_machine_is_a_fault() -> None:
    holder = node(host="b", has_patient_key=True)
    assert doctor._patient_key_finding((NODE, holder), "b").state == WELL
    found = doctor._patient_key_finding((NODE, holder), "a")
    assert found.state == BAD and "RADSWEEP_PATIENT_KEY is set on b" in found.said


def test_weights_without_a_licence_are_told_and_refuse_nothing(tmp_path: Path) -> None:
    bare = node(unlicensed_starts=(doctor._licence_fault(str(tmp_path)),))
    found = doctor._licence_finding((NODE, bare))
    assert found.state == WELL and f"nothing beside {tmp_path} says" in found.said
    assert "none is missing" in doctor._licence_finding((NODE,)).said


def test_a_licence_that_cannot_be_looked_up_is_a_finding_and_ends_no_doctor(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    blind = node(unlicensed_starts=(doctor._licence_fault(str(tmp_path)),))
    found = doctor._licence_finding((blind,))
    assert f"beside {tmp_path} could not be looked up (IsADirectoryError: " in found.said


def test_cells_that_cannot_all_finish_are_refused_for_their_streams_too() -> None:
    # Two cells of two processes with a CPU each would fit; their streams would not.
    workers = Workers(count=2, cpus=1, stream_cpus=1)
    assert doctor._room_finding(workers, 1, SMALL, {}).state == WELL
    found = doctor._room_finding(workers, 2, SMALL, {})
    assert found.state == BAD and "8 CPUs" in found.said and "--stream-cpus" in found.said


def test_room_that_the_autoscaler_may_bring_is_room() -> None:
    workers = Workers(count=4, gpus=1, cpus=2, stream_cpus=6)
    assert doctor._room_finding(workers, 1, {}, {}).state == BAD
    grown = doctor._room_finding(workers, 1, {}, {"CPU": 48.0, "GPU": 4.0})
    assert grown.state == WELL and "may grow to 48 and 4" in grown.said
    assert doctor._room_finding(workers, 2, {}, {"CPU": 96.0, "GPU": 4.0}).state == BAD


def test_a_process_larger_than_any_node_is_found_though_the_sum_would_do() -> None:
    nodes = [{"Resources": {"CPU": 2.0}}, {"Resources": SMALL}]
    assert doctor._process_findings(Workers(cpus=4), nodes, {}) == []
    assert states(doctor._process_findings(Workers(cpus=5), nodes, {})) == [
        ("training process", BAD)
    ]
    assert doctor._process_findings(Workers(cpus=5), nodes, {"CPU": 64.0})[0].state == WELL


def test_what_a_cluster_of_fixed_size_cannot_run_is_refused_before_it_waits_for_ever() -> None:
    nodes = [{"Resources": {"CPU": 2.0}}, {"Resources": {"CPU": 2.0, "GPU": 1.0}}]
    trial = {"CPU": 2.0, "GPU": 0.5}
    check_room([Workers()] * 9, 2, trial, nodes)
    # Three hold 3 of 4 CPUs, and their streams take turns on the last; the second of two others
    # waits for the first one's end.
    check_room([Workers()] * 9, 3, trial, nodes)
    check_room([Workers(cpus=3)] * 2, 2, trial, nodes)
    with pytest.raises(SpecError, match="4 cells side by side hold 4 of 4 CPUs"):
        check_room([Workers()] * 9, 4, trial, nodes)
    check_room([Workers()] * 3, 4, trial, nodes)
    with pytest.raises(SpecError, match=r"1 cells side by side hold 3.5 of 4 CPUs, .* than the 1 "):
        check_room([Workers(cpus=3.5)], 1, {}, nodes)
    check_room([Workers(cpus=3.5, stream_cpus=0.5)], 1, {}, nodes)
    # One has the GPU, and the others hold nothing meanwhile.
    check_room([Workers(gpus=1, cpus=1)] * 4, 4, {}, nodes)
    with pytest.raises(SpecError, match=r"\(--workers 2\) take 6 CPUs and 0 GPUs"):
        check_room([Workers(count=2, cpus=3)], 1, {}, nodes)
    with pytest.raises(SpecError, match="take 1 CPUs and 2 GPUs, and there are 4 and 1"):
        check_room([Workers(), Workers(gpus=2)], 1, {}, nodes)
    with pytest.raises(SpecError, match=r"no node has the 4 CPUs and 0 GPUs .*--trial-cpus"):
        check_room([], 1, {"CPU": 4.0}, nodes)
    with pytest.raises(SpecError, match=r"no node has the 2 CPUs and 2 GPUs .*--trial-gpus"):
        check_room([], 1, {"CPU": 2.0, "GPU": 2.0}, nodes)


def test_the_table_shows_what_was_found_as_it_was_said() -> None:
    page = io.StringIO()
    found = Finding(checked="store", state=BAD, said="from [red]b: s3://bucket is closed")
    Console(file=page, width=100).print(doctor_table((found,)))
    assert "bad" in page.getvalue() and "[red]b: s3://bucket is closed" in page.getvalue()


@pytest.fixture(scope="module")
def two_cpus(no_tokens: None) -> Iterator[None]:
    with connected(None, 2):
        yield


def findings_of(store: Store, workers: Workers, at_once: int = 1) -> dict[str, Finding]:
    return {found.checked: found for found in examine(sweep(), store, workers, at_once)}


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_sound_cluster_is_well_but_for_what_is_wrong_with_the_sweep(
    two_cpus: None, new_store: Callable[[], Store]
) -> None:
    assert ray.is_initialized()
    found = findings_of(new_store(), Workers())
    # The toy sweep's corpus is not in this store, and the tests' own clusters ask for no token.
    bad = {name for name, one in found.items() if one.state == BAD}
    assert bad == {"sweep and corpus", "token"}
    assert "1 answer, with 2 CPUs" in found["nodes"].said
    assert "on no other machine" in found["patient key"].said
    assert "none is missing" in found["licences"].said


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_cpus_are_left_to_streams_unless_others_wait_for_them_alone(two_cpus: None) -> None:
    assert cpus_left() == 2
    for bundles, left in (([{"CPU": 3}], -1), ([{"CPU": 1, "GPU": 1}], 2)):
        group = placement_group(bundles)
        assert not group.wait(1)
        wait_until(lambda left=left: cpus_left() == left, "the group is seen")
        remove_placement_group(group)
    wait_until(lambda: cpus_left() == 2, "the group is gone")
    task = ray.remote(num_cpus=1)(lambda seconds: time.sleep(seconds))
    for needs, left in (({"num_cpus": 3}, -1), ({"num_cpus": 1, "num_gpus": 1}, 1)):
        waits = task.options(**needs).remote(0)
        wait_until(lambda left=left: cpus_left() == left, "the task is seen")
        ray.cancel(waits)
        wait_until(lambda: cpus_left() == 2, "the task is gone")
    # Tasks like a stream's own wait for what there is, and take none from it beyond.
    tasks = [task.remote(3) for _ in range(3)]
    wait_until(lambda: cpus_left() == 0, "one waits")
    ray.get(tasks)


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_faults_made_on_purpose_are_all_found(
    two_cpus: None, new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    true_version = importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata,
        "version",
        lambda name: "1.0.0" if name == "numpy" else true_version(name),
    )
    root = new_store().url
    # No user, root included, can make a folder below a file.
    Store(root).write_bytes("full", b"")
    found = findings_of(Store(f"{root}/full"), Workers(cpus=3, stream_cpus=1), at_once=2)
    bad = {name for name, one in found.items() if one.state == BAD}
    assert bad == {
        *("sweep and corpus", "token", "version of numpy", "store", "room", "training process")
    }
    assert "1.0.0 here" in found["version of numpy"].said
    assert "cannot be written" in found["store"].said
