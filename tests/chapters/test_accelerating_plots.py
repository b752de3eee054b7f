"""Each figure of Chapter 10 draws the numbers of a small result made by hand."""

import dataclasses

import matplotlib as mpl
import numpy as np
import pytest

from bnlab.chapters.accelerating import plots
from bnlab.chapters.accelerating.results import DepthRates, PaperTable, RecipeRates, RecipeRuns

AT = np.array([10, 20, 40])
CURVES = {
    "plain": [[0.5, 0.6, 0.7], [0.5, 0.7, 0.74]],
    "plain + no LRN": [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]],
    "BN": [[0.6, 0.8, 0.8], [0.6, 0.7, 0.8]],
    "BN + no LRN": [[0.7, 0.8, 0.82], [0.7, 0.8, 0.84]],
}
RUNS = RecipeRuns(
    data="", steps=40, batch_size=8, arms=tuple(CURVES), seeds=(0, 1), at=AT,
    accuracy=np.array(list(CURVES.values())), loss=np.zeros((4, 2, 3)),
)  # fmt: skip
RATES = RecipeRates(
    data="", steps=40, batch_size=8, arms=("plain", "BN"), seeds=(0, 1), lr=np.array([0.1, 0.2]),
    accuracy=np.array([[[0.5, 0.1], [0.7, 0.1]], [[0.8, 0.9], [0.8, 0.9]]]),
    finite=np.array([[[True, False], [True, True]], [[True, True], [True, True]]]),
)  # fmt: skip
DEPTH_FOUND = np.array([
    [[[0.9, 0.1], [0.7, 0.1]], [[0.1, 0.2], [0.1, 0.2]]],
    [[[0.9, 0.95], [0.9, 0.95]], [[0.8, 0.1], [0.6, 0.1]]],
])[..., None]  # fmt: skip
DEPTH = DepthRates(
    activation="sigmoid", steps=4, batch_size=2, held_out=5, nets=("plain", "BN"), depths=(1, 3),
    seeds=(0, 1), lr=np.array([1.0, 2.0]), looks=np.array([4]), validation=DEPTH_FOUND,
    accuracy=DEPTH_FOUND / 2,
)  # fmt: skip
TABLE = PaperTable(
    models=("a", "b", "c"), changes=("nothing", "BN", "BN, the list"),
    steps=np.array([30e6, 10e6, np.inf]), accuracy=np.array([70.0, 71.0, 72.0]),
)  # fmt: skip


def test_paper_table_has_a_bar_for_each_row_that_got_there():
    ax = plots.paper_table(TABLE)
    assert [bar.get_width() for bar in ax.patches] == [30, 10]
    assert "best 71.0%" in ax.texts[1].get_text()
    assert len(ax.texts) == 2


def test_distortions_draws_a_row_for_each_strength():
    images = {0.0: np.zeros((3, 4, 4)), 0.5: np.ones((3, 4, 4))}
    axes = plots.distortions(images)
    assert [ax.get_ylabel() for ax in axes] == ["s = 0", "s = 0.5"]
    shown = axes[1].images[0].get_array()
    assert shown.shape == (4, 3 * 4 + 2)
    assert float(shown.mean()) == 1


def test_recipe_rates_draws_means_and_marks_what_broke():
    ax = plots.recipe_rates(RATES)
    plain, crosses, bn, none = ax.get_lines()
    np.testing.assert_allclose(plain.get_ydata(), [0.6, 0.1])
    np.testing.assert_allclose(bn.get_ydata(), [0.8, 0.9])
    assert crosses.get_xdata().tolist() == [0.2]
    assert none.get_xdata().size == 0
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["without BN", "with BN"]


def test_recipe_rates_draws_the_arms_it_is_asked_for():
    ax = plots.recipe_rates(RATES, arms={"BN": "normalized"}, ylim=(0.5, 0.9))
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.8, 0.9])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["normalized"]
    assert ax.get_ylim() == (0.5, 0.9)


def test_recipe_rates_writes_labels_where_it_is_told():
    ax = plots.recipe_rates(RATES, places={"plain": (0.1, 0.3)})
    (label,) = ax.texts
    assert (label.get_text(), label.get_position()) == ("without BN", (0.1, 0.3))
    assert ax.get_legend() is None


def test_recipe_curves_draws_the_mean_of_the_seeds_and_the_target():
    ax = plots.recipe_curves(RUNS, {"plain": "baseline", "BN + no LRN": "changed"})
    target, plain, changed = ax.get_lines()
    assert target.get_ydata()[0] == pytest.approx(0.72)
    np.testing.assert_allclose(plain.get_ydata(), [0.5, 0.65, 0.72])
    np.testing.assert_allclose(changed.get_ydata(), [0.7, 0.8, 0.83])
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["changed", "baseline"]  # as the curves lie at the end
    assert plain.get_linestyle() != changed.get_linestyle()


def effects(sets, **options):
    settings = {"limits": ((-100, 100), (-100, 100)), "count": 1} | options
    return plots.recipe_effects(sets, {"no LRN": "not at all"}, **settings)


def means(panel):
    return [float(c.lines[0].get_xdata()[0]) for c in panel.containers]


def test_recipe_effects_draws_paired_differences_and_their_difference():
    axes = effects({"best": RUNS})
    assert axes.shape == (1, 2)
    np.testing.assert_allclose(means(axes[0, 0]), [-62, 3])
    np.testing.assert_allclose(means(axes[0, 1]), [65])
    assert [t.get_text() for t in axes[0, 0].get_yticklabels()] == ["not at all"]
    assert [p.get_title() for p in axes[0]] == ["effect, best", "interaction"]


def test_recipe_effects_says_what_lies_beyond_the_edge():
    axes = effects({"best": RUNS}, limits=((-10, 9), (-80, 80)))
    assert [t.get_text() for t in axes[0, 0].texts] == ["-62"]
    assert [p.get_xlim() for p in axes[0]] == [(-10, 9), (-80, 80)]
    assert means(axes[0, 0]) == pytest.approx([3])


def test_recipe_effects_fills_the_markers_of_what_is_sure_for_all_together():
    def filled(count):
        plain = effects({"best": RUNS}, count=count)[0, 0].containers[0].lines[0]
        return plain.get_markerfacecolor() != "white"

    assert filled(1)  # -60 and -64: an interval of about -87 to -37
    assert not filled(1000)


def test_recipe_effects_draws_the_end_and_a_row_for_each_set():
    worse = np.array(list(CURVES.values()))
    worse[-1, :, -1] -= 0.05  # the best of BN + no LRN becomes 0.80
    later = dataclasses.replace(RUNS, accuracy=worse)
    axes = effects({"one": RUNS, "two": later}, of="final")
    assert axes.shape == (2, 2)
    plain = -157 / 3  # the end: the mean of these checkpoints
    for row, bn in zip(axes, (6, 6 - 5 / 3), strict=True):
        np.testing.assert_allclose(means(row[0]), [plain, bn], rtol=1e-9)
        np.testing.assert_allclose(means(row[1]), [means(row[0])[1] - means(row[0])[0]])
    assert axes[1, 0].get_title() == "effect, two"


def test_sigmoid_depth_takes_each_depth_at_its_best_rate():
    ax = plots.sigmoid_depth(DEPTH)
    plain, bn, guess = ax.get_lines()
    np.testing.assert_allclose(plain.get_ydata(), [0.4, 0.1])
    np.testing.assert_allclose(bn.get_ydata(), [0.475, 0.35])
    assert guess.get_ydata()[0] == 0.1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("paper_table", (TABLE,)),
        ("recipe_rates", (RATES,)),
        ("recipe_curves", (RUNS, {"plain": "p"})),
        ("sigmoid_depth", (DEPTH,)),
    ],
)
def test_figures_draw_on_given_axes(name, arguments):
    _, ax = mpl.pyplot.subplots()
    assert getattr(plots, name)(*arguments, ax=ax) is ax


def test_every_figure_of_the_chapter_is_tested():
    from bnlab.chapters.accelerating import plots as accelerating

    tested = {"paper_table", "distortions", "recipe_rates", "recipe_curves", "recipe_effects"}
    assert tested | {"sigmoid_depth"} == set(accelerating.__all__)
