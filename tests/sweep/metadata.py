"""A metadata service on this machine that plays each cloud's, as their documentation has it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token"
NAME = "worker-7"


class Clouds:
    """What the service says; change it while it runs."""

    def __init__(self) -> None:
        self.url = ""
        self.seconds: float | None = None
        """Until the machine goes; None while it may stay."""
        self.azure_resources: list[str] = [NAME]
        self.azure_has_begun = False
        self.is_broken = False

    def _at(self) -> datetime:
        assert self.seconds is not None
        return datetime.now(UTC) + timedelta(seconds=self.seconds)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Status and body."""
        if self.is_broken:
            return 200, "<html>a proxy's page</html>"
        if path == "/latest/api/token":
            asked = headers.get("x-aws-ec2-metadata-token-ttl-seconds")
            return (200, TOKEN) if method == "PUT" and asked else (400, "")
        if path == "/latest/meta-data/spot/instance-action":
            if headers.get("x-aws-ec2-metadata-token") != TOKEN:
                return 401, ""
            if self.seconds is None:
                return 404, ""
            at = self._at().strftime("%Y-%m-%dT%H:%M:%SZ")
            return 200, json.dumps({"action": "terminate", "time": at})
        if path == "/computeMetadata/v1/instance/preempted":
            if headers.get("metadata-flavor") != "Google":
                return 403, ""
            return 200, "FALSE" if self.seconds is None else "TRUE"
        if headers.get("metadata") != "true":
            return 400, ""
        if path == "/metadata/scheduledevents?api-version=2020-07-01":
            return 200, json.dumps({"DocumentIncarnation": 1, "Events": self._azure_events()})
        if path == "/metadata/instance/compute/name?api-version=2021-02-01&format=text":
            return 200, NAME
        return 404, ""

    def _azure_events(self) -> list[dict[str, object]]:
        reboot = {"EventType": "Reboot", "Resources": [NAME], "NotBefore": ""}
        if self.seconds is None:
            return [reboot]
        at = "" if self.azure_has_begun else format_datetime(self._at(), usegmt=True)
        preempt = {"EventType": "Preempt", "Resources": self.azure_resources, "NotBefore": at}
        return [reboot, preempt]


@contextmanager
def metadata_service() -> Iterator[Clouds]:
    clouds = Clouds()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = clouds.answer(self.command, self.path, headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    clouds.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield clouds
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
