"""What every test shares: property tests that repeat exactly, no figure left behind, one site and one browser."""

import signal

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from hypothesis import settings

settings.register_profile("bnlab", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("bnlab")
mpl.use("agg")
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # started in the background; programs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(autouse=True, scope="module")
def unchanged_settings():
    """Figures are drawn in the book's style, and the style is gone afterwards."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


@pytest.fixture(scope="session")
def failure():
    """Build the pages anew if any source changed; return the end of the log if that failed, else ""."""
    from tools import book

    run = book.ensure(capture_output=True)
    return (run.stdout + run.stderr)[-6000:] if run and run.returncode else ""


@pytest.fixture(scope="session")
def site(failure):
    """The folder of built pages."""
    from tools import book

    if failure:
        pytest.skip("the book did not build: see test_builds_without_a_warning")
    return book.HTML


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests of a process; who changes its width or theme changes it back."""
    from _browser import chromium, emulate, resize

    with chromium() as driver:
        resize(driver, 1280)
        emulate(driver)
        yield driver
