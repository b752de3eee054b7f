"""The figures of Chapter 5 draw the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters.minibatch_batchnorm import plots
from bnlab.chapters.minibatch_batchnorm.results import (
    BatchMakeup,
    CompanySpread,
    EpsSweep,
    IdentityRun,
    LargestValues,
    NormalizedShape,
)


def run(fresh):
    loss = np.array([[1.0, 0.64, 0.4096], [2.0, 1.28, 0.8192]])
    gamma = np.array([[1.0, 1.2, 1.3, 1.4], [1.0, 1.1, 1.2, 1.3]])
    return IdentityRun(fresh, 16, 0.1, gamma, 0 * gamma, loss, np.ones(2), np.zeros(2), 1.9, 0.0)


def labels(ax):
    """Return the names that stand beside the curves."""
    return [text.get_text().strip() for text in ax.texts]


def test_identity_learned():
    left, right = plots.identity_learned(run(False), run(True))
    np.testing.assert_allclose(left.lines[1].get_ydata(), [2.0, 1.28, 0.8192])
    np.testing.assert_allclose(left.lines[-1].get_ydata(), 1.5 * 0.64 ** np.arange(3))
    np.testing.assert_allclose(right.lines[0].get_ydata(), [1.0, 1.2, 1.3, 1.4])
    assert list(right.lines[-1].get_ydata()) == [1.9, 1.9]
    assert left.get_yscale() == "log"


def test_largest_values():
    largest = np.array([[[1.0, 2.0], [1.0, 1.5]], [[1.0, 2.0], [1.0, 1.7]]])
    ax = plots.largest_values(LargestValues(("one outlier", "normal"), np.array([2, 5]), largest))
    np.testing.assert_allclose(ax.lines[0].get_ydata()[[0, -1]], [1, 2])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), [1.0, 1.6])
    assert [name.split(",")[0] for name in labels(ax)] == ["one outlier", "normal"]


def test_eps_sweep():
    std = np.array([1e-4, 1.0])
    sweep = EpsSweep(np.array([1e-5, 1e-3]), std, np.array([[0.1, 1], [0.2, 1]]), np.ones((2, 2)))
    left, _ = plots.eps_sweep(sweep)
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.1, 1])
    np.testing.assert_allclose(left.lines[1].get_xdata(), np.sqrt(1e-5))
    assert labels(left) == [r"$\epsilon = 10^{-5}$", r"$\epsilon = 10^{-3}$"]


def test_normalized_shape():
    density = np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]])
    shape = NormalizedShape(
        np.array([2, 4, 5]), np.array([-1.0, 0.0, 1.0]), density, np.ones((1, 3)), np.ones((1, 3))
    )
    with plt.style.context("default"):
        panels = plt.subplots(2, 3)[1]
    drawn = plots.normalized_shape(shape, sizes=(2, 4, 5, 2, 4, 5), ax=panels)
    assert [p.get_height() for p in drawn[0, 2].patches] == [0.4, 0.6]
    np.testing.assert_allclose(drawn[0, 1].lines[0].get_ydata(), 0.5)
    curve = drawn[0, 2].lines[0]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(1, abs=1e-3)
    assert len(drawn[0, 0].lines) == 0


def test_company_spread():
    spread = np.array([[[0.5, 0.3]], [[0.7, 0.1]]])
    found = CompanySpread(np.array([1.0]), np.array([4, 16]), spread, np.array([[0.6, 0.3]]))
    ax = plots.company_spread(found)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [0.6, 0.2])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), [0.6, 0.3])
    assert labels(ax)[0] == "1 std out"


def test_batch_makeup():
    two = np.array([[0.5, 0.8], [0.7, 0.6]])
    ax = plots.batch_makeup(
        BatchMakeup(np.array([2, 20]), np.array([0.9, 0.8]), two, two / 2, 1 - two)
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.85)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.6, 0.7])
    np.testing.assert_allclose(ax.lines[3].get_ydata(), [0.4, 0.3])
    assert labels(ax)[0] == "accuracy with running statistics"


def test_axes_of_the_caller_are_used():
    with plt.style.context("default"):
        ax = plt.subplots()[1]
    largest = LargestValues(("normal",), np.array([2, 5]), np.ones((3, 1, 2)))
    assert plots.largest_values(largest, ax=ax) is ax
