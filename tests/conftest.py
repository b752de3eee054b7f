"""What every test shares: property tests that repeat exactly, and figures that leave nothing behind."""

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
