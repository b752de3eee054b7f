"""The figures of a chapter's tests leave nothing behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

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
