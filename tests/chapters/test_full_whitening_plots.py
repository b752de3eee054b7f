"""Chapter 4's figures, each drawn from a result made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters.full_whitening import plots
from bnlab.chapters.full_whitening.results import (
    BatchNeed,
    Clouds,
    EigenvalueCrossing,
    EigenvalueGap,
    Jacobians,
    NaiveWhitening,
    Spectrum,
    WhiteningCost,
)


def drawn(ax):
    plt.gcf().canvas.draw()
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in ax.lines}


def test_clouds_show_each_scaling_with_its_ellipse():
    rows = np.arange(24.0).reshape(4, 3, 2) / 10
    covariance = np.array([np.diag([4.0, 1.0])] * 4)
    ax = plots.whitened_clouds(Clouds(("raw", "a", "b", "c"), rows, covariance))
    panels = np.ravel(ax)
    assert [p.get_title() for p in panels] == ["raw", "a", "b", "c"]
    np.testing.assert_array_equal(panels[2].lines[0].get_xdata(), rows[2, :, 0])
    sides = sorted([panels[0].patches[0].width, panels[0].patches[0].height])
    np.testing.assert_allclose(sides, [4, 8])  # two standard deviations to each side


def test_jacobians_show_every_entry():
    values = np.arange(3 * 16.0).reshape(3, 2, 2, 2, 2)
    ax = plots.jacobians(Jacobians(("a", "b", "c"), values, np.array([4, 2, 1])))
    for panel, jacobian in zip(ax, values, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), jacobian.reshape(4, 4))
        low, high = panel.images[0].get_clim()
        assert low == -high  # white is zero


def test_crossing_shows_both_methods():
    zca, pca = np.ones((3, 2)), np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    left, right = plots.eigenvalue_crossing(EigenvalueCrossing(np.array([0.5, 1.0, 1.5]), zca, pca))
    assert drawn(left)["output 1"] == [1, 1, 1]
    assert drawn(right)["output 2"] == [2, 2, 1]


def test_gap_ends_where_it_is_nan():
    gaps = np.array([1.0, 1e-4, 1e-8, 0.0])
    eigh = np.array([[[1e-7, 1e-3, np.nan, np.nan]], [[1e-15, 1e-11, 1e-7, np.nan]]])
    closed = np.full((2, 1, 4), 1e-8)
    ax = plots.eigenvalue_gap(EigenvalueGap(gaps, ("float32", "float64"), (0,), eigh, closed))
    lines = drawn(ax)
    assert lines["through eigh, float32"] == [1e-7, 1e-3]
    assert lines["through eigh, float64"] == [1e-15, 1e-11, 1e-7]
    assert lines["closed form, float32"] == [1e-8] * 3
    names = [
        f"{how}, {d}" for d in ("float32", "float64") for how in ("through eigh", "closed form")
    ]
    assert sorted(t.get_text() for t in ax.texts) == sorted([*names, "then NaN"])
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_cost_shows_medians_in_milliseconds():
    sweeps = ("rows", "rows", "features", "features", "both", "both")
    size = np.array([1, 2, 3, 4, 5, 6])
    full = np.array([[1.0], [2.0], [9.0]]) * size / 1e3
    cost = WhiteningCost(10 * size, 100 * size, full, full / 2, sweeps)
    ax = plots.whitening_cost(cost)
    for panel, at, x in zip(ax, ([1, 2], [3, 4], [5, 6]), (100, 10, 10), strict=True):
        lines = drawn(panel)
        np.testing.assert_allclose(lines["full whitening"], 2 * np.array(at))
        np.testing.assert_allclose(lines["each feature"], at)
        np.testing.assert_array_equal(panel.lines[0].get_xdata(), x * np.array(at))


def naive(trains, through, value):
    seeds, steps, d = 3, 40, 2
    states = value + np.arange(steps + 1.0) * np.ones((seeds, 1))
    variances = np.stack([states, 2 * states], axis=-1)
    zero = np.zeros(seeds)
    return NaiveWhitening(
        trains, through, 0.1, (0, 1, 2), states / 9, zero, states, variances, zero + 1,
        np.ones((seeds, d)),
    )  # fmt: skip


def test_naive_bias_shows_both_runs_and_the_prediction():
    what, loss = plots.naive_whitening(naive("bias", False, 0.0), naive("bias", True, 5.0))
    ys = [line.get_ydata() for line in what.lines]
    np.testing.assert_allclose(ys[0], np.arange(41))
    np.testing.assert_allclose(ys[1], 5 + np.arange(41))
    np.testing.assert_allclose(ys[2], what.lines[2].get_xdata())
    said = {text.get_text(): text.get_color() for text in what.texts}
    drawn_in = [line.get_color() for line in what.lines[:2]]
    assert drawn_in == [said["held constant"], said["differentiated"]]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), np.arange(41) / 9)


def test_naive_weights_show_every_eigenvalue():
    what, _ = plots.naive_whitening(naive("weights", False, 1.0), naive("weights", True, 2.0))
    finals = [line.get_ydata()[-1] for line in what.lines]
    np.testing.assert_allclose(finals, [41, 42, 82, 84])


def test_batch_need_shows_measurement_and_theory():
    sizes, rows = np.array([20, 40]), np.array([[3.0, 1.0], [5.0, 1.0]])
    theory = np.array([4.5, 1.5])
    result = BatchNeed(10, sizes, (0, 1), rows, rows, rows, rows, rows / 10, theory, theory / 10)
    ax = plots.batch_need(result)
    measured = [c.lines[0] for c in ax.containers]
    np.testing.assert_array_equal(measured[0].get_xdata(), [2, 4])
    np.testing.assert_allclose(measured[0].get_ydata(), [4, 1])
    np.testing.assert_allclose(measured[1].get_ydata(), [0.4, 0.1])
    assert [text.get_text() for text in ax.texts] == ["full whitening", "each feature"]
    dotted = [line.get_ydata().tolist() for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted[:2] == [[4.5, 1.5], [0.45, 0.15]]


def test_spectrum_shows_histogram_density_and_truth():
    grid = np.linspace(0.5, 1.5, 5)
    result = Spectrum(3, 9, np.array([[0.6, 1.0, 1.4]]), grid, grid**2)
    ax = plots.spectrum(result)
    area = sum(p.get_width() * p.get_height() for p in ax.patches)
    assert area == pytest.approx(1)
    assert drawn(ax)["theory"] == (grid**2).tolist()
    assert ax.lines[1].get_xdata()[0] == 1


def test_axes_of_the_caller_are_used():
    _, ax = plt.subplots()
    grid = np.ones(2)
    assert plots.spectrum(Spectrum(1, 2, np.ones((1, 1)), grid, grid), ax=ax) is ax
