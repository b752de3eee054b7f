"""A real Chromium for the tests of the site, and what they ask of a page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver

from tools import browser


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Run Chromium; without it skip the test, or fail it where it is required."""
    try:
        browser.found()
    except FileNotFoundError as error:
        if os.environ.get("BNLAB_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{error}; BNLAB_REQUIRE_BROWSER=1 asks for the browser tests")
        pytest.skip(str(error))
    with browser.chromium(loggingPrefs={"browser": "ALL", "performance": "ALL"}) as driver:
        yield driver


def resize(driver: webdriver.Chrome, width: int, height: int = 900) -> None:
    """Give the page a width in CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def emulate(driver: webdriver.Chrome, *, scheme: str = "light", media: str = "") -> None:
    """Set the system's colour scheme and the medium ("screen" is "")."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def open_page(driver: webdriver.Chrome, path: Path, query: str = "") -> None:
    """Open a local file and wait until its math and its live figures stand."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what earlier pages left
    driver.get(path.as_uri() + query)
    driver.execute_async_script("""
        const done = arguments[0];
        const math = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
        math.then(() => requestAnimationFrame(() => requestAnimationFrame(done)));
    """)


def requests(driver: webdriver.Chrome) -> list[str]:
    """Return the address of every request since the page was opened."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return the console's warnings and errors since the page was opened."""
    log = driver.get_log("browser")
    return [entry["message"] for entry in log if entry["level"] in ("WARNING", "SEVERE")]
