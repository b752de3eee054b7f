"""Each figure of Chapter 9 draws the numbers of a small result made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from bnlab.chapters.figure_one import plots
from bnlab.chapters.figure_one.results import FigureOne, ImageRows, RateSearch, Stability

STEPS = np.array([0, 50, 100])
RNG = np.random.default_rng(0)
RUNS = FigureOne(
    data="d", pixels="binary", copies=0, sigma=0.1, batch_size=60,
    arms=("without", "without", "with"), rates=(1.0, 0.3, 0.3), seeds=(4, 7), steps=STEPS,
    accuracy=RNG.uniform(size=(3, 2, 3)), loss=np.ones((3, 2, 3)), train_accuracy=np.ones((3, 2, 3)),
    recalibrated_steps=STEPS[2:], recalibrated=np.full((3, 2, 1), np.nan),
    watched=STEPS[::2], percentiles=np.sort(RNG.normal(size=(3, 2, 2, 3, 5)), axis=3),
    edges=np.array([-1.0, 0.0, 1.0]), histogram=np.ones((3, 2, 5, 2), dtype=int),
)  # fmt: skip
SCORE = np.array([[[0.2, 0.3], [0.6, 0.5], [0.1, 0.1]], [[0.4, 0.5], [0.6, 0.7], [0.8, 0.7]]])
SEARCH = RateSearch(
    data="d", pixels="binary", copies=0, held_out=10, arms=("without", "with"),
    rates=(0.1, 1.0, 10.0), seeds=(0, 1), steps=STEPS, accuracy=np.tile(SCORE[..., None], 3),
)  # fmt: skip


def test_rate_search_joins_the_means_and_circles_the_best():
    ax = plots.rate_search(SEARCH)
    curves = [x for x in ax.lines if x.get_label().endswith("normalization")]
    np.testing.assert_allclose(curves[0].get_ydata(), [0.25, 0.55, 0.1])
    circles = [x for x in ax.lines if x.get_markersize() == 16]
    assert [(x.get_xdata()[0], x.get_ydata()[0]) for x in circles] == [
        (1.0, pytest.approx(0.55)),
        (10.0, pytest.approx(0.75)),
    ]
    assert ax.get_xscale() == "log"


def test_start_sizes_draws_the_mean_at_each_best_rate():
    other = replace(SEARCH, accuracy=SEARCH.accuracy[:, ::-1])
    ax = plots.start_sizes({0.3: SEARCH, 0.01: other})
    found = {x.get_label(): x for x in ax.lines}
    assert list(found) == ["without, 0.01", "with, 0.01", "without, 0.3", "with, 0.3"]
    for sigma in ("0.01", "0.3"):
        np.testing.assert_allclose(found[f"without, {sigma}"].get_ydata(), [0.55, 0.55])
        np.testing.assert_allclose(found[f"with, {sigma}"].get_ydata(), [0.75, 0.75])
        assert found[f"with, {sigma}"].get_xdata().tolist() == [50, 100]
    assert found["with, 0.3"].get_linestyle() != found["with, 0.01"].get_linestyle()
    assert {t.get_text() for t in ax.texts} == {
        "0.01, without",
        "0.3",
        "with normalization, all sizes",
    }


def test_accuracy_in_training_draws_the_best_of_each_arm_twice():
    early, whole = plots.accuracy_in_training(RUNS, zoom=50)
    assert early.get_xlim() == (0, 50)
    for ax in (early, whole):
        assert [x.get_label() for x in ax.lines] == [
            "without normalization, rate 1",
            "with normalization, rate 0.3",
        ]
        for curve, setting in zip(ax.lines, (0, 2), strict=True):
            np.testing.assert_allclose(curve.get_ydata(), RUNS.accuracy[setting].mean(axis=0))
        bands = [c.get_paths()[0].vertices for c in ax.collections]
        assert bands[0][:, 1].max() == pytest.approx(RUNS.accuracy[0].max())


def test_accuracy_in_training_names_each_best_setting_at_its_curve():
    early, whole = plots.accuracy_in_training(RUNS, zoom=50)
    names = {t.get_text(): t.get_color() for t in early.texts}
    assert names == {line.get_label(): line.get_color() for line in early.lines}
    assert whole.get_legend() is None


def test_settings_that_are_no_best_one_are_faint():
    _, whole = plots.accuracy_in_training(RUNS, settings=(0, 1, 2))
    assert [x.get_alpha() < 1 for x in whole.lines] == [False, True, False]


def test_input_percentiles_draws_one_unit_of_one_seed_in_both_arms():
    without, with_ = plots.input_percentiles(RUNS, unit=3, seed=7)
    for ax, setting in ((without, 0), (with_, 2)):
        for curve, values in zip(ax.lines, RUNS.percentiles[setting, 1, :, :, 3].T, strict=True):
            np.testing.assert_allclose(curve.get_ydata(), values)
        assert [t.get_text() for t in ax.texts] == ["15th", "50th", "85th"]
    assert without.get_ylim() == with_.get_ylim()


def test_unit_stability_is_the_share_of_units_below():
    values = np.arange(1.0, 7).reshape(3, 2, 1)
    result = Stability(first=0, wander=values, distance=values, stretch=values)
    ax = plots.unit_stability({"all steps": result}, RUNS.arms)
    assert len(ax.lines) == 2
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 2])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [5, 6])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.5, 1])


def test_fair_starts_draws_medians_and_ends_and_leaves_out_what_was_never_reached():
    steps = {0.5: np.array([[10.0, 30.0, 20.0], [50.0, 50.0, 60.0]])}
    steps[0.9] = np.array([[100.0, np.inf, np.inf], [70.0, 80.0, 90.0]])
    ends = np.array([[90.0, 91.0, 92.0], [93.0, 93.5, 94.0]])
    race, last = plots.fair_starts(("sigmoid", "BN"), steps, ends)
    medians = [x for x in race.lines if x.get_markersize() == 8]
    assert [(x.get_xdata()[0], x.get_ydata()[0]) for x in medians] == [
        (20, 1), (50, 0), (np.inf, 1), (80, 0),
    ]  # fmt: skip
    assert medians[0].get_color() != medians[1].get_color()
    assert [t.get_text() for t in race.get_yticklabels()] == ["sigmoid", "BN"]
    centers = [bar[0].get_xdata()[0] for bar in last.containers]
    assert centers == [91, 93.5]


def test_accuracy_gap_draws_percentage_points_after_step_zero():
    values = np.array([[0.0, 0.1, 0.02], [0.0, 0.3, 0.04]])
    ax = plots.accuracy_gap({"digits": (STEPS, values)})
    (curve,) = [x for x in ax.lines if x.get_label() == "digits"]
    np.testing.assert_allclose(curve.get_xdata(), [50, 100])
    np.testing.assert_allclose(curve.get_ydata(), [20, 3])


def test_times_fewer_draws_geometric_means_against_errors_left():
    values = np.array([[1.0, 8.0], [4.0, 2.0]])
    ax = plots.times_fewer({"digits": ([0.5, 0.75], values)})
    (bars,) = ax.containers
    np.testing.assert_allclose(bars[0].get_xdata(), [1, 2])
    np.testing.assert_allclose(bars[0].get_ydata(), [2, 4])
    assert bars.get_label() == "digits"


def test_image_rows_puts_every_picture_in_its_place():
    images = np.zeros((2, 3, 4, 4))
    images[1, 2, 0, 0] = 1
    ax = plots.image_rows(ImageRows(labels=("a", "b"), images=images))
    sheet = ax.images[0].get_array()
    assert sheet.shape == (16, 24)
    assert np.argwhere(sheet == 1).tolist() == [[8 + 2, 16 + 2]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]


def test_a_setting_is_found_by_arm_and_rate_or_refused_by_name():
    assert RUNS.setting("without") == 0
    assert RUNS.setting("without", 0.3) == 1
    with pytest.raises(ValueError, match=r"'with' at 0\.3"):
        RUNS.setting("with", 5.0)
