"""Each figure of Chapter 8 draws the numbers of a small result made by hand."""

import matplotlib as mpl
import numpy as np
import pytest

from bnlab.chapters.convolutional_batchnorm import plots
from bnlab.chapters.convolutional_batchnorm.results import (
    EffectiveBatch,
    FoldedNets,
    LibraryTwins,
    ShiftedDigits,
)

SHIFTED = ShiftedDigits(
    normalizations=("none", "per map"),
    seeds=(0, 1),
    steps=5,
    rates=np.array([0.1, 0.3]),
    shifts=np.array([0, 2]),
    accuracy=np.array(
        [
            [[[0.8, 0.4], [0.5, 0.5]], [[0.5, 0.6], [0.9, 0.7]]],
            [[[0.6, 0.2], [0.5, 0.5]], [[0.5, 0.6], [0.9, 0.7]]],
        ]
    ),
)
WORTH = EffectiveBatch(
    layers=("norm1", "norm2"),
    images=10,
    positions=np.array([16, 4]),
    intraclass=np.full((2, 2), 0.1),
    pattern=np.full((2, 2), 0.2),
    theory=np.full((2, 2), 100.0),
    measured=np.array([[40.0, 90.0], [90.0, 40.0]]),
)
TWINS = LibraryTwins(
    twins=("torch and bnlab", "torch and torch"),
    precisions=("float64", "float32"),
    seeds=(0, 1),
    batch_size=4,
    lr=0.1,
    kinks=True,
    loss=np.ones((2, 2, 3)),
    loss_gap=np.ones((2, 2, 2, 3)),
    weight_gap=10.0 ** np.arange(-24, 0).reshape(2, 2, 2, 3),
)
FOLDED = FoldedNets(
    networks=("plain", "mobile"),
    batch_sizes=np.array([1, 32]),
    folded=np.array([2, 13]),
    left=np.array([0, 0]),
    numbers=np.array([[10, 9], [20, 18]]),
    error=np.array([1e-7, 2e-7]),
    seconds=np.array([[[[2.0, 1.0], [4.0, 3.0]], [[1.0, 1.0], [5.0, 4.0]]]] * 3),
)


def lines(ax):
    return {line.get_label(): line.get_ydata() for line in ax.get_lines()}


def test_shifted_digits_shows_each_at_its_own_best_rate():
    ax = plots.shifted_digits(SHIFTED)
    heights = [bar.lines[0].get_ydata() for bar in ax.containers]
    np.testing.assert_allclose(heights, [[0.7, 0.3], [0.9, 0.7]])
    assert [text.get_text() for text in ax.texts] == ["no normalization", "one pair per map"]


def test_shared_values_fills_one_map_of_every_image():
    ax = plots.shared_values(images=2, maps=3, side=4, chosen=2)
    blue = mpl.colors.to_rgba(plots.style.NORMALIZED)
    filled = [patch for patch in ax.patches if patch.get_facecolor() == blue]
    assert (len(filled), len(ax.patches)) == (2 * 4 * 4, 2 * 3 * 4 * 4)
    assert min(patch.get_x() for patch in filled) == pytest.approx(2 * (4 + 1.2))
    given = mpl.pyplot.subplots()[1]
    assert plots.shared_values(ax=given) is given


def test_effective_batch():
    ax = plots.effective_batch(WORTH)
    np.testing.assert_allclose(lines(ax)["values"], [160, 40])
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [60, 60])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["norm1\n4 × 4", "norm2\n2 × 2"]


def test_library_twins_draws_geometric_means():
    ax = plots.library_twins(TWINS)
    drawn = lines(ax)
    for j, how in enumerate(("libraries", "one bit")):
        for k, precision in enumerate(TWINS.precisions):
            expected = np.sqrt(TWINS.weight_gap[0, j, k] * TWINS.weight_gap[1, j, k])
            np.testing.assert_allclose(drawn[f"{precision}, {how}"], expected)


def test_folded_nets_draws_ratios():
    ax = plots.folded_nets(FOLDED)
    heights = [[bar.get_height() for bar in group.patches] for group in _bars(ax)]
    np.testing.assert_allclose(heights, [[0.5, 1.0], [0.75, 0.8]])


def _bars(ax):
    return [c for c in ax.containers if isinstance(c, mpl.container.BarContainer)]


@pytest.mark.parametrize(
    ("draw", "result"),
    [
        (plots.shifted_digits, SHIFTED),
        (plots.effective_batch, WORTH),
        (plots.library_twins, TWINS),
        (plots.folded_nets, FOLDED),
    ],
)
def test_draws_into_the_axes_it_is_given(draw, result):
    _, ax = mpl.pyplot.subplots()
    assert draw(result, ax=ax) is ax
    assert ax.get_ylabel()
