"""The figures of Chapter 2 draw what small results made by hand say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters import style
from bnlab.chapters.covariate_shift import plots
from bnlab.chapters.covariate_shift.results import CupGame, DepthProfile, DriftRun, ShiftedFit
from bnlab.stats import t_interval

rng = np.random.default_rng(0)
LAYERS = ("linear2", "act1", "act2", "act3")


def game(standard):
    return CupGame(standard, *rng.uniform(0.1, 1, size=(5, 3, 4)))


def run(label="plain", normalized=False):
    by_layer = {
        name: rng.uniform(0.1, 1, size=(3, 5, 4))
        for name in ("mean", "std", "wasserstein", "mean_shift", "log_std_ratio", "distance", "saturated")
    }  # fmt: skip
    return DriftRun(
        label=label,
        lr=1.0,
        normalized=normalized,
        seeds=(0, 1, 2),
        layers=LAYERS,
        steps=np.arange(5) * 10,
        loss=np.ones((3, 40)),
        accuracy=np.ones(3),
        unit=rng.normal(size=(3, 5, 3)),
        pooled=rng.normal(size=(3, 5, 3)),
        one_step_all=rng.uniform(0.1, 1, size=(3, 2, 4)),
        one_step_first=rng.uniform(0.1, 1, size=(3, 2, 4)),
        one_step_times=np.array([0, 40]),
        scatter=rng.uniform(0.1, 1, size=(3, 4)),
        **by_layer,
    )


def profile(normalized=False):
    theory = np.full(6, np.nan) if normalized else np.linspace(1, 0.1, 6)
    data = rng.uniform(0.1, 1, size=(5, 3, 6))
    return DepthProfile("tanh", 0.05, 64, normalized, *data, theory, theory, theory)


def line(ax, label):
    return next(drawn for drawn in ax.get_lines() if drawn.get_label() == label)


def test_shifted_fit_draws_points_truth_and_lines():
    fits = ("line", "weighted line", "line for new inputs", "cubic")
    points, grid = rng.normal(size=(4, 7)), np.linspace(-1, 1, 5)
    result = ShiftedFit(fits, np.ones((2, 4, 2)), *points, grid, grid**3, rng.normal(size=(4, 5)))
    ax = plots.shifted_fit(result)
    for i, name in enumerate(fits[:3]):
        assert np.array_equal(line(ax, name).get_ydata(), result.curves[i])
    assert np.array_equal(line(ax, "truth").get_ydata(), grid**3)
    assert np.array_equal(ax.get_lines()[0].get_xdata(), points[0])
    assert np.array_equal(ax.get_lines()[1].get_xdata(), points[2])


def test_cup_figures_draw_means_over_chains():
    games = [game(s) for s in ("nobody", "listener", "everyone")]
    ax = plots.cup_correlation(games)
    for result, label in zip(games, ("nobody", "only the listener", "everyone"), strict=True):
        drawn = line(ax, label)
        np.testing.assert_allclose(drawn.get_ydata(), result.correlation.mean(axis=0))
        assert drawn.get_xdata().tolist() == [1, 2, 3, 4]
    ax = plots.cup_error(games)
    expected = np.exp(np.log(games[0].stale_error).mean(axis=0))
    np.testing.assert_allclose(line(ax, "nobody").get_ydata(), expected)
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize("of", ["unit", "pooled"])
def test_percentiles_have_a_panel_a_run_and_the_mean_over_seeds(of):
    runs = [run("plain"), run("BN", normalized=True)]
    panels = plots.activation_percentiles(runs, of=of)
    for panel, result in zip(panels, runs, strict=True):
        assert panel.get_title() == result.label
        drawn = [d.get_ydata() for d in panel.get_lines()]
        for i in range(3):
            mean = getattr(result, of)[:, :, i].mean(axis=0)
            assert any(np.allclose(mean, d) for d in drawn)
    assert panels[0].get_lines()[0].get_color() != panels[1].get_lines()[0].get_color()


@pytest.mark.parametrize("measure", ["wasserstein", "distance"])
def test_drift_is_that_of_the_asked_layer_and_measure(measure):
    result = run()
    ax = plots.drift_since_start([result], layer="act2", measure=measure)
    np.testing.assert_allclose(
        line(ax, "plain").get_ydata(), getattr(result, measure)[:, 1:, 2].mean(axis=0)
    )
    assert "sigmoid 2" in ax.get_title()


def test_one_step_drift_is_that_of_the_asked_time():
    result = run()
    panels = plots.one_step_drift([result], time=40)
    first, everything = panels.containers
    np.testing.assert_allclose(first.lines[0].get_ydata(), result.one_step_first[:, 1].mean(axis=0))
    np.testing.assert_allclose(
        everything.lines[0].get_ydata(), result.one_step_all[:, 1].mean(axis=0)
    )


@pytest.mark.parametrize("quantity", ["size", "spread", "gradient"])
def test_depth_draws_measurement_and_theory(quantity):
    measured, normalized = profile(), profile(normalized=True)
    ax = plots.depth_profile([measured, normalized], quantity=quantity)
    assert np.array_equal(ax.get_lines()[0].get_ydata(), measured.size_theory)
    assert bool(ax.containers[1].lines[0].get_color() == style.NORMALIZED)
    assert bool(ax.containers[0].lines[0].get_color() == style.PLAIN)
    bars, at = ax.containers[0], 0 if quantity == "gradient" else -1
    assert [t.get_text() for t in ax.texts] == [  # in the order of the ends' heights
        c.get_label() for c in sorted(ax.containers, key=lambda c: c.lines[0].get_ydata()[at])
    ]
    assert {t.get_text() for t in ax.texts} == {"std 0.05", "std 0.05 with BN"}
    middle = t_interval(getattr(measured, quantity), geometric=True)
    np.testing.assert_allclose(bars.lines[0].get_ydata(), middle.mean)
    ends = [bars.lines[2][0].get_segments()[k][:, 1] for k in range(6)]
    np.testing.assert_allclose(ends, np.stack([middle.low, middle.high], axis=1))


def test_saturation_is_in_percent():
    result = run()
    ax = plots.saturated_share([result], layer="act3")
    expected = 100 * result.saturated[:, :, 3].mean(axis=0)
    np.testing.assert_allclose(line(ax, "plain").get_ydata(), expected)


def test_a_given_axes_is_drawn_on_and_the_readers_style_is_kept():
    before = dict(plt.rcParams)
    ax = plt.subplots()[1]
    assert plots.cup_correlation([game("nobody")], ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    assert dict(plt.rcParams) == before
