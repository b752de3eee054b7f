"""The results that the book stores, for tests of what is stored and of what the chapters say about it."""

from pathlib import Path

from bnlab.experiments import load

RESULTS = Path(__file__).parents[1] / "book" / "results"


def book_result(name):
    """Load a result by the name of its file: the result and its origin."""
    return load(RESULTS / f"{name}.npz")
