"""Chapter 3's figures, each drawn from a result made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters.naive_failure import plots
from bnlab.chapters.naive_failure.results import DetachedOnDigits, NaiveRun, RoundingSweep, Stall


def run(lr=0.1, b=(0, 1, 2), a=(1, 2, 3), loss=(4, 4, 4)):
    b, a, loss = (np.array(v, dtype=float) for v in (b, a, loss))
    zero = np.zeros_like(b)
    return NaiveRun("center", lr, "float64", False, a, b, zero + 1, zero, loss, zero, zero, zero)


def drawn(ax):
    plt.gcf().canvas.draw()
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in ax.lines}


def test_naive_bias_shows_both_runs_and_the_prediction():
    predicted = np.array([0, 1.1, 2.2])
    bias, loss = plots.naive_bias(run(), predicted=predicted, right=run(b=(0, 0, 0)))
    lines = drawn(bias)
    assert lines["naive"] == [0, 1, 2]
    assert lines["through E[x]"] == [0, 0, 0]
    assert lines["predicted"] == [0, 1.1, 2.2]
    assert [line.get_ydata().tolist() for line in loss.lines] == [[4, 4, 4]] * 2
    assert loss.get_ylim()[0] == 0


def test_bias_by_learning_rate_has_a_panel_for_each_rate():
    runs = [run(lr=0.1), run(lr=0.5, b=(0, 3, 3))]
    panels = plots.bias_by_learning_rate(runs, predicted=[r.b + 0.5 for r in runs])
    assert [panel.get_title(loc="left") for panel in panels] == ["lr 0.1", "lr 0.5"]
    theory, measured = panels[1].lines
    assert measured.get_ydata().tolist() == [0, 3, 3]
    assert theory.get_ydata().tolist() == [0.5, 3.5, 3.5]


def test_naive_scale_shows_the_scale_and_the_loss():
    scale, loss = plots.naive_scale(run(), predicted=np.array([1.0, 1.5, np.nan]))
    assert drawn(scale)["naive"] == [1, 2, 3]
    assert drawn(scale)["predicted"][:2] == [1, 1.5]
    assert loss.lines[0].get_ydata().tolist() == [4, 4, 4]


def test_rounding_sweep_shows_measurement_and_prediction():
    b = np.array([1.0, 1e3, 1e6])
    result = RoundingSweep(0.1, 5, b, b / 9, b / 10, b / 11, np.array([1.0, 2, 3]), 1.5, b, 0.2, b)
    error, loss = plots.rounding_sweep(result)
    assert drawn(error)["measured"] == (b / 10).tolist()
    assert drawn(error)["predicted"] == (b / 11).tolist()
    assert error.get_xscale() == error.get_yscale() == "log"
    assert drawn(loss)["float32"] == [1, 2, 3]
    assert drawn(loss)["exact"] == [1.5, 1.5]


def test_stall_shows_the_end_and_exact_arithmetic():
    count = np.array([0, 1_000_000, 2_000_000])
    ax = plots.stall(Stall("float32", 0.5, count, np.array([0, 4e5, 4e5]), 900_000, 4e5))
    assert drawn(ax)["float32"] == [0, 0.4, 0.4]
    assert drawn(ax)["exact"] == [0, 0.5, 1.0]


def test_detached_on_digits_shows_the_mean_over_seeds_at_one_learning_rate():
    arms, seeds, steps = ("one", "two"), (0, 1, 2), 30
    shape = (3, 2, 2)
    states = np.arange(np.prod(shape) * (steps + 1), dtype=float).reshape(*shape, steps + 1)
    result = DetachedOnDigits(
        arms, (0.1, 1.0), seeds, states[..., 1:], states[..., 0], states, 2 * states, states[..., 0]
    )
    loss, bias, growth = plots.detached_on_digits(result, lr=1.0)
    assert drawn(bias)["two"] == states[:, 1, 1].mean(axis=0).tolist()
    assert drawn(growth)["one"] == (2 * states[:, 0, 1]).mean(axis=0).tolist()
    line = loss.lines[0]
    assert line.get_xdata()[[0, -1]].tolist() == [20, 30]
    assert line.get_ydata()[0] == pytest.approx(states[:, 0, 1, 1:21].mean())
    for panel in (loss, bias, growth):
        labels = sorted(panel.texts, key=lambda text: text.xy[1])
        assert [text.get_text() for text in labels] == ["one", "two"]
        assert labels[1].xy[1] - labels[0].xy[1] >= 0.099 * np.ptp(panel.get_ylim())


def test_axes_of_the_caller_are_used():
    _, given = plt.subplots(1, 2)
    returned = plots.naive_scale(run(), predicted=np.ones(3), ax=given)
    assert tuple(returned) == tuple(given)
    assert (
        plots.bias_by_learning_rate([run()], predicted=[np.ones(3)], ax=[given[0]])[0] is given[0]
    )
