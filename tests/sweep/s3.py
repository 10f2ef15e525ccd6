"""A real S3 server on this machine: moto's, spoken to over HTTP by the same client as Amazon's."""

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec

from tests.sweep.commands import environment

MISSING = 'a local S3 server needs: pip install "moto[server,s3]" s3fs'
START_SECONDS = 90


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask_cors"))


@contextmanager
def s3_server(port: int) -> Iterator[dict[str, str]]:
    """A server for the block; gives the environment in which ``s3://`` means it."""
    url = f"http://127.0.0.1:{port}"
    said = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        # An S3 client must not look for credentials on this machine's cloud.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=environment(**said),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = {name: os.environ.get(name) for name in said}
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert server.poll() is None and time.monotonic() < deadline, "no S3 server came up"
            time.sleep(0.2)
        os.environ.update(said)
        # A client that is kept speaks to the server that it was made for.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield said
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=2):
            return True
    except OSError:
        return False
