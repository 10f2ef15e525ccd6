"""A server on this machine that answers as the Hugging Face hub does, with one model's files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0" * 40


@contextmanager
def hub(model: str, folder: Path) -> Iterator[str]:
    """Its address. ``model`` is ORGANISATION/NAME; nobody else's is known."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = files.get(path.removeprefix(f"/{model}/resolve/main/"))
            if file is not None:
                self._send(200, file.read_bytes(), {"ETag": f'"{file.name}"'})
            elif path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
                self._json(
                    {"id": model, "sha": COMMIT, "siblings": [], "tags": [], "private": False}
                )
            elif path == f"/api/models/{model}/tree/main":
                self._json([_entry(name) for name in files])
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            known = [name for name in files if json.dumps(name).encode() in asked]
            self._json([_entry(name) for name in known])

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "X-Repo-Commit": COMMIT}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *given: Any) -> None:
            """Say nothing."""

    def _entry(name: str) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": files[name].stat().st_size, "oid": COMMIT}

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
