"""Figures of gradient flow show the numbers they are given."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab import graph
from bnlab.chapters.covariate_shift.results import DepthProfile
from bnlab.chapters.gradient_flow import plots
from bnlab.chapters.gradient_flow.results import ExplosionRates, NeuronRun, RateSweep, UnitCloud


def words(ax):
    return [t.get_text() for t in ax.texts]


def test_computation_graph_shows_every_value_and_gradient():
    made = graph.batch_norm_graph(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.0]), gamma=1.5)
    ax = plots.computation_graph(made)
    shown = words(ax)
    assert len(shown) == 2 * len(made.nodes)
    for value in (made["x"].gradient, made["var_B"].gradient):
        assert ", ".join(f"{v:.2f}" for v in np.atleast_1d(value)) in shown
    boxes = [p for p in ax.patches if isinstance(p, mpl.patches.FancyBboxPatch)]
    arrows = [p for p in ax.patches if isinstance(p, mpl.patches.FancyArrowPatch)]
    assert len(boxes) == len(made.nodes)
    assert len(arrows) == sum(len(n.inputs) for n in made.nodes)


def test_computation_graph_is_drawn_from_the_nodes_it_gets():
    """Another graph, of two nodes, gives another drawing; and boxes do not lie on each other."""
    one = graph.Node("x", (), np.array([1.0, 2.0]), np.array([0.0, 0.5]), {})
    two = graph.Node("y", ("x",), np.array([3.0, 4.0]), np.array([7.0, 0.5]), {})
    ax = plots.computation_graph(graph.Graph((one, two), 0.0))
    assert len(words(ax)) == 4
    assert "7.00, 0.50" in words(ax)
    made = graph.batch_norm_graph(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.0]))
    ax = plots.computation_graph(made)
    boxes = [p.get_bbox() for p in ax.patches if isinstance(p, mpl.patches.FancyBboxPatch)]
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def run(decay):
    norm2 = np.full((2, 11), 4.0)
    return NeuronRun(
        lr=0.5, weight_decay=decay, eps=0.0, norm2=norm2, grad2=np.full((2, 10), 2.0),
        radial=np.zeros((2, 10)), rotation=np.zeros((2, 10)),
    )  # fmt: skip


def test_weight_length_draws_the_runs_and_their_theory():
    ax = plots.weight_length([run(0.0), run(0.25)])
    lines = ax.get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), 2.0)
    np.testing.assert_allclose(
        lines[1].get_ydata()[[0, -1]], [2.0, (16 + 2 * 0.25 * 8 * 10) ** 0.25]
    )
    np.testing.assert_allclose(lines[3].get_ydata(), (0.5 * 8 / (0.25 * (2 - 0.125))) ** 0.25)


def test_gradient_depth_puts_normalized_profiles_below():
    def profile(normalized):
        gradient = np.array([[8.0, 4.0, 1.0], [2.0, 4.0, 1.0]])
        z = np.zeros((2, 3))
        theory = np.array([5.0, 3.0, 1.0])
        return DepthProfile(
            activation="relu", weight_std=1.0, width=4, normalized=normalized, size=z, spread=z, mean=z,
            gradient=gradient, saturated=z, size_theory=theory, spread_theory=theory, gradient_theory=theory,
        )  # fmt: skip

    top, bottom = plots.gradient_depth([profile(False), profile(True)])
    np.testing.assert_allclose(top.get_lines()[0].get_ydata(), [4, 4, 1])  # geometric mean
    np.testing.assert_allclose(top.get_lines()[1].get_ydata(), [5, 3, 1])
    assert len(bottom.get_lines()) == 2
    assert top.get_yscale() == bottom.get_yscale() == "log"


def test_explosion_rates_draws_intervals_at_each_batch_size():
    result = ExplosionRates(
        activation="relu", width=8, depth=8, batch_sizes=np.array([8, 16]),
        rate=np.array([[1.7, 1.5], [1.9, 1.7]]), theory=np.array([1.8, 1.6]), limit=1.47,
    )  # fmt: skip
    ax = plots.explosion_rates([result])
    (container,) = ax.containers
    np.testing.assert_allclose(container[0].get_ydata(), [1.8, 1.6])
    narrow = plots.explosion_rates([result], confidence=0.5).containers[0]
    spread = [np.ptp(c[2][0].get_segments()[0][:, 1]) for c in (container, narrow)]
    assert spread[0] > spread[1]


def test_rate_sweeps_cross_out_what_was_not_stable():
    sweep = RateSweep(
        label="with", normalized=True, lr=np.array([1.0, 2.0, 4.0]), loss=np.zeros((2, 3)),
        stable=np.array([[True, True, False], [True, False, False]]), limit=1.0,
        accuracy=np.array([[0.9, 0.5, 0.1], [0.7, 0.3, 0.1]]), growth=np.ones((2, 3)),
    )  # fmt: skip
    ax = plots.rate_sweeps([sweep])
    line, crosses = ax.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.4, 0.1])
    assert crosses.get_xdata().tolist() == [2.0, 4.0]


def test_a_centered_arm_is_dashed_in_the_color_of_its_own():
    labels = ("without", "with", "without centered", "flat")
    one = np.ones((2, 1))
    lines = plots.rate_sweeps(
        [RateSweep(label, True, one[0], one, one > 0, 1.0, one, one) for label in labels]
    ).get_lines()
    named = {line.get_label(): line for line in lines if line.get_label() in labels}
    assert named["without centered"].get_color() == named["without"].get_color()
    assert [named[label].get_linestyle() for label in labels] == ["-", "-", "--", "-"]
    assert len({line.get_color() for line in named.values()}) == 3


def test_right_angle_draws_a_step_at_a_right_angle_that_makes_the_weights_longer():
    arrows = [t for t in plots.right_angle().texts if t.get_text() == ""]
    (w, step, after) = (np.subtract(a.xy, a.xyann) for a in arrows)
    assert w @ step == pytest.approx(0)
    np.testing.assert_allclose(w + step, after)
    assert np.linalg.norm(after) > np.linalg.norm(w)


def test_unit_cloud_puts_every_unit_on_the_circle():
    cloud = UnitCloud(np.random.default_rng(0).normal(size=(50, 3)))
    before, after = plots.unit_cloud(cloud)
    points = np.transpose(after.lines[0].get_data())
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), np.sqrt(3))
    spread = np.transpose(before.lines[0].get_data())
    assert (spread**2).sum(axis=1).mean() == pytest.approx(3)  # the usual length is the circle's
    turned = spread[:, 0] * points[:, 1] - spread[:, 1] * points[:, 0]
    np.testing.assert_allclose(turned, 0, atol=1e-12)  # each moved straight out or in


def test_figures_draw_on_the_axes_they_are_given():
    _, ax = plt.subplots()
    assert plots.weight_length([run(0.1)], ax=ax) is ax
