"""Each figure of Chapter 12 draws the numbers of a small result made by hand."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from bnlab.chapters import style
from bnlab.chapters.limits_and_relatives import plots, stored
from bnlab.chapters.limits_and_relatives.results import ArmScores, Leftovers, Reach, arm_name

NAMES = tuple(arm_name(*arm) for arms in stored.ARMS.values() for arm in arms)
VALUES = np.linspace(0.5, 0.9, len(NAMES))
ARMS = ArmScores(
    NAMES,
    np.ones(len(NAMES)),
    (0, 1),
    *[np.stack([VALUES - k / 100, VALUES - k / 100 + 0.02], axis=1) for k in range(10)],
    loss=np.zeros((len(NAMES), 2, 20)),
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def mean_of(arm, what="accuracy"):
    return ARMS.of(arm, what).mean()


def curves(ax):
    return [container.lines[0].get_ydata() for container in ax.containers]


def labels(ax):
    return [text.get_text() for text in ax.texts]


def test_cliff_draws_each_normalization_over_the_batch_size():
    ax = plots.cliff(ARMS)
    assert labels(ax) == ["plain", "layer norm", "group norm", "batch norm"]
    np.testing.assert_allclose(
        curves(ax)[3], [mean_of(f"batch {m}") for m in (2, 4, 8, 16, 64)], rtol=1e-12
    )
    assert mpl.colors.same_color(ax.containers[3].lines[0].get_color(), style.NORMALIZED)
    assert mpl.colors.same_color(ax.containers[0].lines[0].get_color(), style.PLAIN)


def test_small_statistics_draws_whole_batches_and_parts():
    whole, parts = curves(plots.small_statistics(ARMS))
    np.testing.assert_allclose(whole, [mean_of(f"batch {m}") for m in (2, 4, 8, 16, 64)])
    np.testing.assert_allclose(parts, [mean_of(f"ghost {m} in 64") for m in (2, 4, 8, 16)])


def test_company_draws_batch_norm_alone_and_in_company():
    layer, alone, within = curves(plots.company(ARMS))
    np.testing.assert_allclose(
        layer, [mean_of(f"layer {m}") for m in ("16", "20, two classes", "20, one class")]
    )
    np.testing.assert_allclose(
        alone, [mean_of(f"batch {m}") for m in ("16", "20, two classes", "20, one class")]
    )
    np.testing.assert_allclose(
        within,
        [
            mean_of("batch 16", "within_shuffled"),
            mean_of("batch 20, two classes", "within_two"),
            mean_of("batch 20, one class", "within_one"),
        ],
    )


def test_leftovers_draws_the_rank_and_each_size():
    result = Leftovers((2, 9), np.array([-1.0, 1.0]), np.array([[-0.5, 0.5], [-0.9, 0.9]]),
                       np.ones((2, 2)), np.array([-0.6, 0.6]))  # fmt: skip
    ax = plots.leftovers(result)
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert drawn == [[-1, 1], [-0.5, 0.5], [-0.9, 0.9], [-0.6, 0.6]]
    assert labels(ax)[1:] == ["m = 2", "m = 9"]


def test_reach_fills_what_is_shared_and_frames_the_output():
    shares = np.zeros((2, 2, 2, 3), dtype=bool)
    shares[0, 1] = True
    panels = plots.reach(Reach(("layer", "none"), shares))
    filled = [
        sum(mpl.colors.same_color(p.get_facecolor(), style.NORMALIZED) for p in panel.patches)
        for panel in panels.flat
    ]
    assert filled == [6, 0, 0]
    assert [panel.get_visible() for panel in panels.flat] == [True, True, False]
