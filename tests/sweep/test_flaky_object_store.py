"""A real S3 server whose answers go wrong now and then, or which is away for a while."""

import threading
from collections.abc import Iterator

import pytest

from radsweep.store import Store
from tests.sweep.flaky import flaky_proxy
from tests.sweep.s3 import MISSING, is_installed, s3_server
from tests.sweep.test_submit import free_ports

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(280),
    pytest.mark.skipif(not is_installed(), reason=MISSING),
    # aiobotocore's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def server() -> Iterator[tuple[int, int, dict[str, str]]]:
    """Ports of a server and of a proxy that is yet to come, and what makes ``s3://`` mean it.

    Amazon's client does not ask again by itself, so that we are seen to.
    """
    target, port = free_ports(2)
    # Undone before the server's own names are, which it would put back otherwise.
    with s3_server(target) as said, pytest.MonkeyPatch.context() as patch:
        Store("s3://bucket/root")._fs.mkdir("bucket")
        said = said | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1"}
        for name, value in said.items():
            patch.setenv(name, value)
        Store("s3://bucket/root")._fs.clear_instance_cache()
        yield target, port, said


def test_every_verb_outlives_answers_that_go_wrong(
    server: tuple[int, int, dict[str, str]],
) -> None:
    target, port, _ = server
    # Every second request fails, so that every verb does.
    with flaky_proxy(port, target, every=2) as proxy:
        store = Store("s3://bucket/root")
        for number in range(4):
            store.write_bytes(f"some/{number}", b"whole")
            assert store.read_bytes(f"some/{number}") == b"whole"
            assert store.read_ranges([(f"some/{number}", 1, 3)]) == [b"ho"]
            # An answer that is lost is no other's claim.
            assert store.create_bytes(f"claims/{number}", f"{number}".encode())
            assert not store.create_bytes(f"claims/{number}", b"another's")
            assert store.exists(f"claims/{number}") and not store.exists("nowhere")
            assert len(store.names("claims")) == number + 1
        for number in range(4):
            store.delete(f"some/{number}")
        assert store.names("some") == []
        assert min(proxy.faults[kind] for kind in ("refused", "broken", "silent")) > 10


def test_a_store_that_is_away_for_a_while_is_waited_for(
    server: tuple[int, int, dict[str, str]],
) -> None:
    target, port, _ = server
    store, written = Store("s3://bucket/root"), threading.Event()

    def write() -> None:
        store.write_bytes("late", b"whole")
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    # Nobody listens at first.
    assert not written.wait(1.5)
    with flaky_proxy(port, target, every=10**9):
        thread.join(60)
        assert written.is_set() and store.read_bytes("late") == b"whole"
