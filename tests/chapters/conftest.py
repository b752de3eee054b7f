"""What the tests of chapters share: figures that leave nothing behind, and the results that the book stores."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from bnlab.experiments import load

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


@pytest.fixture(scope="session")
def results():
    """The folder in which the book keeps its results."""
    return Path(__file__).parents[2] / "book" / "results"


@pytest.fixture(scope="session")
def stored(results):
    """Return a function that loads a result of the book by its name: the result and its origin."""
    return lambda name: load(results / f"{name}.npz")
