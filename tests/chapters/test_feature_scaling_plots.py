"""The figures of Chapter 1 draw what small results made by hand say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters.feature_scaling import plots
from bnlab.chapters.feature_scaling.results import (
    DescentRates,
    DistanceShares,
    NearestNeighbors,
    NeighborAccuracy,
    OutlierEffect,
    RoundingError,
    TableDescent,
    WhiteningSteps,
)
from bnlab.stats import t_interval

SCALINGS = ("none", "min-max [0, 1]", "standardize")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def made():
    x = np.array([[0.0, 500.0], [1.0, 700.0], [0.0, 9000.0], [1.0, 100.0]])
    return {
        "distance_shares": DistanceShares(
            SCALINGS, ("kids", "car"), np.array([[0.01, 0.99], [0.83, 0.17], [0.5, 0.5]])
        ),
        "nearest_neighbors": NearestNeighbors(
            SCALINGS,
            ("kids", "car"),
            x,
            np.stack([x] * 3),
            0,
            np.array([1, 2, 2]),
            np.zeros(3),
            np.zeros(3),
        ),
        "neighbor_accuracy": NeighborAccuracy(
            "toy", 5, SCALINGS, (0, 1), True, np.array([[0.5, 0.8, 0.9], [0.6, 0.8, 0.7]])
        ),
        "outlier_effect": OutlierEffect(
            ("a", "b"), 99.0, np.array([[0.0, 1.0], [0.0, 3.0]]), np.array([[0.0, 0.1], [0.0, 2.0]])
        ),
        "steps_and_condition": DescentRates(
            np.array([1.0, 10.0]),
            1e-3,
            (0, 1),
            np.array([[1, 9], [1, 11]]),
            np.array([[1, 20], [1, 22]]),
            np.array([1, 12]),
            np.array([1, 25]),
        ),
        "table_descent": TableDescent(
            "toy",
            SCALINGS,
            np.ones(3),
            1e-3,
            2,
            np.array([-1, 2, 1]),
            np.ones(3),
            np.arange(3),
            np.full((3, 3), 0.5),
        ),
        "rounding_error": RoundingError(
            np.array([1.0, 10.0, 100.0]),
            (0, 1),
            1e-7,
            np.array([[1e-7, 1e-5, np.nan], [3e-7, 3e-5, 1e-3]]),
            np.full((2, 3), 1e-7),
        ),
        "whitening_steps": WhiteningSteps(
            ("centered", "standardized", "PCA", "ZCA"),
            ("u", "v"),
            np.zeros((4, 5, 2)),
            np.array([[[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.5], [0.5, 1.0]], np.eye(2), np.eye(2)]),
        ),
    }


@pytest.mark.parametrize("name", [n for n in made() if n != "whitening_steps"])
def test_figures_draw_into_the_callers_axes(name):
    _, ax = plt.subplots()
    assert getattr(plots, name)(made()[name], ax=ax) is ax
    ax.figure.canvas.draw()
    assert ax.get_legend() is not None or ax.texts  # each line is named


def test_bars_of_shares_fill_the_whole():
    ax = plots.distance_shares(made()["distance_shares"])
    widths = np.array([[bar.get_width() for bar in group] for group in ax.containers])
    np.testing.assert_allclose(widths, [[0.01, 0.83, 0.5], [0.99, 0.17, 0.5]])
    np.testing.assert_allclose([bar.get_x() for bar in ax.containers[1]], [0.01, 0.83, 0.5])
    said = [t.get_text() for t in ax.texts]
    assert said == ["kids", "", "83%", "50%", "car", "99%", "17%", "50%"]


def test_neighbors_with_the_same_answer_share_one_mark():
    ax = plots.nearest_neighbors(made()["nearest_neighbors"])
    assert labels(ax) == ["none", "min-max [0, 1], standardize", "this household"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[500.0, 700.0], [500.0, 9000.0]]


def test_accuracy_bars_are_means_with_their_interval():
    toy = made()["neighbor_accuracy"]
    ax = plots.neighbor_accuracy(toy, toy)
    bars = [c for c in ax.containers if hasattr(c, "patches")]
    heights = [[bar.get_height() for bar in group] for group in bars]
    np.testing.assert_allclose(heights, [[0.55] * 2, [0.8] * 2, [0.8] * 2])
    interval = t_interval(toy.accuracy[:, 2])
    whisker = bars[2].errorbar.lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(whisker, [interval.low, interval.high])


def test_one_feature_scaled_has_a_panel_each_with_the_mean_marked():
    panels = plots.one_feature_scaled(
        dollars=np.array([[1.0], [3.0]]), scaled=np.array([[0.0], [1.0]])
    )
    assert [ax.get_title(loc="left") for ax in panels] == ["dollars", "scaled"]
    assert [float(ax.lines[1].get_xdata()[0]) for ax in panels] == [2.0, 0.5]


def test_the_typo_is_drawn_beside_the_honest_fit():
    ax = plots.outlier_effect(made()["outlier_effect"])
    assert [line.get_xdata().tolist() for line in ax.lines[:4]] == [
        [0, 1],
        [0, 0.1],
        [0, 3],
        [0, 2],
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]


def test_steps_are_medians_with_theory_beside_them():
    ax = plots.steps_and_condition(made()["steps_and_condition"])
    points = [c.lines[0].get_ydata().tolist() for c in ax.containers]
    assert points == [[1, 21], [1, 10]]
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert [1, 25] in drawn
    assert [1, 12] in drawn
    assert [t.get_text() for t in ax.texts] == ["cautious step", "best step"]


def test_descent_has_a_line_for_each_scaling_and_the_tolerance():
    ax = plots.table_descent(made()["table_descent"])
    assert labels(ax) == list(SCALINGS)
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.lines[3].get_ydata() == [1e-3, 1e-3]


def test_rounding_lines_end_where_a_factorization_broke_down():
    ax = plots.rounding_error(made()["rounding_error"])
    normal, orthogonal, square, straight = (line.get_ydata() for line in ax.lines)
    assert [len(normal), len(orthogonal)] == [2, 3]
    np.testing.assert_allclose(square, [1e-7, 1e-5, 1e-3])
    np.testing.assert_allclose(straight, [1e-7, 1e-6, 1e-5])
    said = [t.get_text() for t in ax.texts]
    assert said == ["normal equations", "orthogonalization", "$2^{-24}$ κ²", "$2^{-24}$ κ"]


def test_ellipses_have_two_standard_deviations_along_their_axes():
    panels = plots.whitening_steps(made()["whitening_steps"])
    assert panels.shape == (2, 2)
    ellipses = [ax.patches[0] for ax in panels.flat]
    np.testing.assert_allclose([ellipses[0].width, ellipses[0].height], [8, 4])
    assert abs(ellipses[0].angle) == pytest.approx(90)
    np.testing.assert_allclose(
        [ellipses[1].width, ellipses[1].height], [4 * 1.5**0.5, 4 * 0.5**0.5]
    )
    assert ellipses[1].angle % 180 == pytest.approx(45)
    np.testing.assert_allclose([ellipses[3].width, ellipses[3].height], [4, 4])
