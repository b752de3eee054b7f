"""A Chromium of our own: found on this machine, with a profile that is thrown away, cut off from every other host."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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


def found() -> tuple[str, str]:
    """Return the paths of Chromium and of its driver; a FileNotFoundError says what to install."""
    browser = next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    raise FileNotFoundError(
        f"{'chromedriver' if browser else 'Chromium'} is not installed; "
        "on Debian or Ubuntu: apt install chromium chromium-driver"
    )


@contextmanager
def chromium(**capabilities) -> Iterator[webdriver.Chrome]:
    """Run Chromium; the capabilities are Chrome's own, without their prefix."""
    browser, driver_path = found()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        for name, value in capabilities.items():
            options.set_capability(f"goog:{name}", value)
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            driver.set_script_timeout(300)  # a safety: a busy machine is slow
            yield driver
        finally:
            driver.quit()
