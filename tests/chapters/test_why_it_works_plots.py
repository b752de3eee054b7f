"""Figures of chapter 11 show the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnlab.chapters.why_it_works import plots
from bnlab.chapters.why_it_works.results import Arms, Decay, Depth
from bnlab.stats import Interval

close = np.testing.assert_allclose


def interval(mean, low, high):
    return Interval(*map(np.asarray, (mean, low, high)))


def arms(lr=(1.0,), **loss):
    """Return arms of two seeds, with a loss for each rate; drift and held-out loss are half and twice of it."""
    values = np.stack([np.broadcast_to(v, (2, len(lr))) for v in loss.values()], axis=1).astype(
        float
    )
    names = tuple(name.replace("__", ", ").replace("_", " ") for name in loss)
    return Arms(names, np.tile(lr, (len(names), 1)), 1.0, values, values / 2, 2 * values)


def test_shares_stand_in_their_panel_and_what_leaves_it_ends_in_an_arrow():
    rows = {
        "a": (interval(0.5, 0.4, 0.6), None),
        "b": (interval(-3, -4, -2), interval(1, 0.9, 1.1)),
    }
    left, right = plots.shares(rows)
    assert [t.get_text() for t in left.get_yticklabels()] == ["a", "b"]
    inside = [line.get_xdata().tolist() for line in left.get_lines()[2:]]
    assert [0.4, 0.6] in inside
    assert [0.5] in inside
    assert [-3] not in inside
    assert "<" in [line.get_marker() for line in left.get_lines()]
    assert [1.0] in [list(line.get_xdata()) for line in right.get_lines()]


def test_loss_by_rate_ends_with_the_first_rate_that_failed():
    runs = arms(
        (1.0, 2.0, 4.0, 8.0), plain=(0.5, 0.2, 5, np.inf), plain__centred=(0.5, 0.2, 0.1, 0.1)
    )
    left, right = plots.loss_by_rate(runs)
    close(left.get_lines()[0].get_ydata(), [0.5, 0.2, 5])
    close(right.get_lines()[0].get_ydata(), [0.5, 0.2, 0.1, 0.1])
    assert left.get_lines()[1].get_ydata()[0] == 1.0  # the limit


def test_drift_and_loss_draws_every_seed():
    ax = plots.drift_and_loss(arms(plain=0.4, noisy_plain=0.6, BN=0.1, noisy_BN=0.2))
    close(
        [line.get_xdata() for line in ax.get_lines()],
        np.array([[0.2], [0.3], [0.05], [0.1]]) * [1, 1],
    )
    assert {t.get_text() for t in ax.texts} == {"plain", "noisy plain", "BN", "noisy BN"}


def test_rows_and_decay():
    lr = (1.0, 2.0, 4.0)
    parts = arms(lr, plain=(0.1, 3, 3), BN=(0.1, 0.2, 3))
    names = ("plain__last_fixed", "BN__rows_held", "BN__last_fixed", "BN__last_fixed__rows_held")
    rows = arms(lr, **dict.fromkeys(names, (0.1, 0.2, 0.3)))
    loss = np.ones((2, 2, 3, 5))
    loss[:, 1, 1] = 1.5
    found = Decay(np.array([0.0, 1e-5]), 0.5, 0.01, ("decay", "growing rate", "neither"), loss)
    left, right = plots.rows_and_decay(parts, rows, found)
    close(left.get_lines()[0].get_xdata(), parts.largest_stable("plain"))
    close(left.get_lines()[4].get_xdata(), 4)
    close(right.get_lines()[1].get_ydata(), 0.5)
    close(right.get_lines()[0].get_ydata(), 1e-17)


def test_ratios_draw_each_interval():
    ax = plots.ratios({"range": interval(2, 1.5, 3), "change": interval(0.5, 0.3, 0.9)})
    close(ax.get_lines()[1].get_xdata(), [1.5, 3])
    close(ax.get_lines()[4].get_xdata(), [0.5])


def test_held_out_by_group_draws_the_held_out_loss():
    sizes = {f"ghost_{n}": 0.1 * n for n in (2, 4, 64)} | {
        "noise_2": 0.2,
        "noise_4": 0.3,
        "plain": 0.7,
    }
    runs = arms(**sizes)
    runs.held_out[1] *= 1.0001
    ax = plots.held_out_by_group(runs)
    close(ax.containers[0][0].get_ydata(), [0.4, 0.8, 12.8], rtol=1e-3)
    close(ax.containers[1][0].get_ydata(), [0.4, 0.6], rtol=1e-3)


def test_signal_draws_rank_and_growth():
    rank, square = np.full((2, 4, 40), 3.0), np.full((2, 4, 40), 2.0)
    rank[:, 1] = 8
    found = Depth(("plain", "BN", "residual plain", "residual BN"), 64, rank, square)
    left, right = plots.signal(found)
    close(left.get_lines()[1].get_ydata(), 8)
    close(right.get_lines()[2].get_ydata(), 2 + np.arange(40))
    assert right.get_yscale() == "log"


def test_deep_losses_show_a_failed_run_as_guessing():
    ax = plots.deep_losses(arms(plain=1.0, BN=np.inf))
    close(ax.get_lines()[1].get_xdata(), np.log(10))


@pytest.mark.parametrize("draw", [plots.drift_and_loss])
def test_figures_draw_on_the_axes_they_are_given(draw):
    _, ax = plt.subplots()
    assert draw(arms(plain=0.4, noisy_plain=0.6, BN=0.1, noisy_BN=0.2), ax=ax) is ax
