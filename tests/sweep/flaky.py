"""Between a client and an S3 server: of so many requests one goes wrong, in one of three ways."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSED = (503, "SlowDown", "Please reduce your request rate.")
BROKEN = (500, "InternalError", "We encountered an internal error. Please try again.")


class Flaky(ThreadingHTTPServer):
    """Hands requests on to the server at ``target``, but for every ``every``-th one.

    Of these the first is refused, the second done and answered with an error all the same, the
    third done and not answered; and so on.
    """

    daemon_threads = True

    def __init__(self, port: int, target: int, every: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.target, self.every = target, every
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fault(self) -> str | None:
        """Of the request that has just come."""
        with self._lock:
            self.requests += 1
            if self.requests % self.every:
                return None
            kind = ("refused", "broken", "silent")[(self.requests // self.every - 1) % 3]
            self.faults[kind] += 1
            return kind


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Flaky

    def log_message(self, *said: object) -> None:
        """Nothing."""

    def _pass_on(self) -> None:
        assert "Transfer-Encoding" not in self.headers
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault()
        if fault == "refused":
            self._refuse(*REFUSED)
            return
        server = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=30)
        server.request(self.command, self.path, body, dict(self.headers))
        answer = server.getresponse()
        data = answer.read()
        server.close()
        if fault == "broken":
            self._refuse(*BROKEN)
        elif fault == "silent":
            self.close_connection = True
        else:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.headers["Content-Length"] if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _refuse(self, status: int, code: str, message: str) -> None:
        data = b""
        if self.command != "HEAD":
            said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            data = f'<?xml version="1.0" encoding="UTF-8"?>{said}'.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def flaky_proxy(port: int, target: int, every: int) -> Iterator[Flaky]:
    """One for the block."""
    with Flaky(port, target, every) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
