"""What every test shares: property tests that repeat exactly, and figures that leave nothing behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from hypothesis import settings

settings.register_profile("bnlab", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("bnlab")
mpl.use("agg")


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
