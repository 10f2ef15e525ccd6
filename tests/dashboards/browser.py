"""A headless Chromium that remembers what it downloads and what its console says."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import dash
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from werkzeug.serving import make_server

BINARIES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, NARROW = (1200, 900), (390, 844)
PATIENCE_SECONDS = 20


def find_browser() -> tuple[str, str]:
    """Paths of a browser and its driver; skips the test where one of them is not installed."""
    browser = next(filter(None, map(shutil.which, BINARIES)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on this machine")
    return browser, driver


class Browser:
    def __init__(self, downloads: Path) -> None:
        binary, driver = find_browser()
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
            options.add_argument(f"--{flag}")
        for flag in ("background-networking", "component-update", "sync", "quic"):
            options.add_argument(f"--disable-{flag}")
        options.add_experimental_option(
            "prefs",
            {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        )
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.downloads = downloads
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.resize(*WIDE)

    def resize(self, width: int, height: int) -> None:
        # A window of Chromium has a least width; the device that it plays has none.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[WebElement]:
        return [one for one in self.all(selector) if one.is_displayed()]

    def wait(self, what: str, holds: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            if found := holds():
                return found
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come about in {PATIENCE_SECONDS} s")

    def wait_for_charts(self, figures: list[str]) -> None:
        def names() -> list[str]:
            return self.run(
                "return [...document.querySelectorAll('.picture')].filter(p => p.offsetParent && "
                "p.querySelector('.cartesianlayer .subplot')).map(p => "
                "p.dataset.figure)"
            )

        self.wait(f"the charts {figures}", lambda: names() == figures)

    def download(self, name: str) -> bytes:
        path = self.downloads / name
        self.wait(f"a download {name}", lambda: path.exists() and path.stat().st_size > 0)
        return path.read_bytes()

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened."""
        levels = ("SEVERE", "WARNING")
        return [
            json.dumps(entry)
            for entry in self.driver.get_log("browser")
            if entry["level"] in levels and "favicon" not in entry["message"]
        ]


@contextmanager
def served(app: dash.Dash) -> Iterator[str]:
    """The app on a free port of this machine; gives its address."""
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
