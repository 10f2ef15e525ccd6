"""A server on this machine that judges reports by obvious rules, or fails as a real one may."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from radsweep.tasks.radfact import SPLIT

Reply = tuple[int, str | None]
"""A status, and what the model wrote."""
BREAK_OFF = 0
"""Instead of a status: the connection is closed without an answer."""


def sentences(report: str) -> list[str]:
    return [part.strip() for part in report.split(".") if part.strip()]


def by_rule(instructions: str, given: dict[str, Any]) -> str:
    """A fact is a sentence, and follows where the very sentence stands in the other report."""
    if instructions == SPLIT:
        return json.dumps({"phrases": sentences(given["report"])})
    found = [phrase in given["report"] for phrase in given["phrases"]]
    return f"Here you are:\n```json\n{json.dumps({'entailed': found})}\n```"


def shares(true: str, written: str) -> tuple[float, float]:
    """Precision and recall of one pair under that rule, the obvious way."""
    own, other = sentences(written), sentences(true)
    return (
        sum(each in other for each in own) / len(own) if own else float("nan"),
        sum(each in own for each in other) / len(other),
    )


@dataclass
class Server:
    """What it was sent, and how it answers."""

    answer: Callable[[str, dict[str, Any]], Reply]
    tokens: tuple[int, int] | None = (100, 20)
    """Read and written, that it says each call took."""
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(
    answer: Callable[[str, dict[str, Any]], Reply] = lambda asked, given: (
        200,
        by_rule(asked, given),
    ),
    tokens: tuple[int, int] | None = (100, 20),
) -> Iterator[Server]:
    """A server in a thread for the block."""
    state = Server(answer=answer, tokens=tokens)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.keys.append(self.headers["Authorization"])
            assert self.path == "/v1/chat/completions"
            asked, given = (each["content"] for each in body["messages"])
            status, text = state.answer(asked, json.loads(given))
            if status == BREAK_OFF:
                return
            reply: dict[str, Any] = {"choices": [{"message": {"content": text}}]}
            if state.tokens is not None:
                read, written = state.tokens
                reply["usage"] = {"prompt_tokens": read, "completion_tokens": written}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
