"""A real Chromium for the tests of the site: found on this machine, cut off from every other host."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def _found() -> tuple[str, str]:
    """Return Chromium and its driver; without them skip the test, or fail it where they are required."""
    browser = next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    missing = "Chromium" if not browser else "chromedriver"
    reason = f"{missing} is not installed (Debian: apt install chromium chromium-driver)"
    if os.environ.get("BNLAB_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and BNLAB_REQUIRE_BROWSER=1 asks for the browser tests")
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Run Chromium with a profile of its own and every host but the local files blocked."""
    browser, driver_path = _found()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            driver.set_script_timeout(60)
            yield driver
        finally:
            driver.quit()


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
