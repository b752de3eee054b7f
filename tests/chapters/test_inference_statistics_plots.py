"""Each figure of Chapter 7 draws the numbers of a small result made by hand."""

import matplotlib as mpl
import numpy as np
import pytest

from bnlab.chapters.inference_statistics import plots
from bnlab.chapters.inference_statistics.results import (
    BatchMoments,
    Companions,
    FoldOffsets,
    ModeGradients,
    PixelDependence,
    RunningAverage,
    StatisticsRace,
)

MOMENTS = BatchMoments(
    source="bell",
    kurtosis=0.0,
    batch_sizes=np.array([2, 4]),
    mean=np.zeros((3, 2)),
    biased=np.array([[0.4, 0.7], [0.5, 0.75], [0.6, 0.8]]),
)
PIXELS = PixelDependence(
    images=2,
    pool=np.array([14, 28]),
    positions=np.array([4, 1]),
    rho=np.array([0.5, 1.0]),
    corrected=np.array([[0.8, 1.0], [0.9, 1.1]]),
    predicted=np.array([0.857, 1.0]),
)
RUNNING = RunningAverage(
    momenta=(0.5, 0.1),
    batch_size=4,
    std=1.0,
    speed=0.1,
    truth=np.array([0.0, 0.1, 0.2]),
    mean=np.arange(12.0).reshape(2, 2, 3) / 10,
    var=np.ones((2, 2, 3)),
    expected=np.zeros((2, 3)),
    spread=np.ones((2, 3)),
)
RACE = StatisticsRace(
    batch_size=60,
    lr=0.5,
    seeds=(0, 1),
    checkpoints=(10, 100),
    methods=("a", "b"),
    accuracy=np.array([[[0.2, 0.6], [0.8, 0.9]], [[0.3, 0.7], [0.8, 0.9]]]),
    loss=np.ones((2, 2, 2)),
)
COMPANY = Companions(
    batch_sizes=(2, 10),
    evaluation=np.array([0.9, 0.8]),
    shuffled=np.array([[0.5, 0.8], [0.6, 0.8]]),
    sorted=np.array([[0.1, 0.2], [0.1, 0.2]]),
    changed=np.zeros((2, 2)),
)
OFFSETS = FoldOffsets(
    offsets=np.array([1.0, 100.0]),
    unfolded_error=np.array([[1e-6, 1e-4], [1e-6, 1e-4]]),
    folded_error=np.array([[1e-6, 1e-6], [1e-6, 1e-6]]),
)
GRADIENTS = ModeGradients(
    batch_sizes=np.array([2, 4]),
    output_gap=0.0,
    kept=np.array([[0.0, 0.4], [0.0, 0.6]]),
    inside=np.zeros((2, 2)),
)

FIGURES = {
    "batch_variances": lambda **k: plots.batch_variances(MOMENTS, sizes=(2, 4), **k),
    "bessel_factor": lambda **k: plots.bessel_factor([MOMENTS], **k),
    "root_of_variance": lambda **k: plots.root_of_variance([MOMENTS], np.array([0.8, 0.9]), **k),
    "pixel_dependence": lambda **k: plots.pixel_dependence(PIXELS, **k),
    "running_averages": lambda **k: plots.running_averages(RUNNING, **k),
    "tracking_error": lambda **k: plots.tracking_error([RUNNING], **k),
    "statistics_race": lambda **k: plots.statistics_race(RACE, **k),
    "companions": lambda **k: plots.companions(COMPANY, **k),
    "fold_offsets": lambda **k: plots.fold_offsets(OFFSETS, **k),
    "mode_gradients": lambda **k: plots.mode_gradients(GRADIENTS, **k),
}


def drawn(ax):
    """Every y that some line of the Axes goes through."""
    return np.concatenate([np.ravel(line.get_ydata()).astype(float) for line in ax.get_lines()])


def shows(ax, *values):
    return all(np.isclose(drawn(ax), v, rtol=1e-6, atol=1e-12).any() for v in values)


@pytest.mark.parametrize("name", FIGURES)
def test_returns_labelled_axes_and_draws_on_given_ones(name):
    ax = FIGURES[name]()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    given = mpl.pyplot.subplots()[1]
    assert FIGURES[name](ax=given) is given
    assert given.has_data()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bessel_factor", (0.5, 0.75, 1.0)),  # biased averages; unbiased ones are all 1
        ("root_of_variance", (np.sqrt([0.8, 1.0, 1.2]).mean(), 0.8, 0.9)),
        ("pixel_dependence", (0.85, 0.857, 0.85 * 7 / 8, 1.05)),
        ("running_averages", (0.3, 0.5, 0.6, 0.8)),  # averages over the two runs
        ("tracking_error", (np.sqrt((0.0**2 + 0.6**2) / 2), np.sqrt(0.25 / 3 + 0.1**2))),
        ("statistics_race", (0.25, 0.8, 0.65, 0.9)),
        ("companions", (0.85, 0.55, 0.8, 0.1, 0.2)),
        ("fold_offsets", (1e-6, 1e-4)),
        ("mode_gradients", (0.0, 0.5)),
    ],
)
def test_draws_the_numbers(name, values):
    ax = FIGURES[name]()
    assert shows(ax, *values), sorted(set(drawn(ax).round(4)))


def test_the_chi_square_law_is_a_density_with_mean_1():
    ax = FIGURES["batch_variances"]()
    line = ax.get_lines()[1]
    x, y = line.get_data()
    assert np.trapezoid(y, x) == pytest.approx(0.99, abs=0.02)
    assert np.trapezoid(x * y, x) == pytest.approx(1, abs=0.06)


def test_running_averages_can_show_the_variance_and_fewer_steps():
    ax = plots.running_averages(RUNNING, statistic="var", last=2)
    assert ax.get_ylabel() == "running variance"
    assert max(len(line.get_xdata()) for line in ax.get_lines()) == 2


def test_statistics_race_draws_chosen_methods():
    ax = plots.statistics_race(RACE, methods=("b",))
    assert [t.get_text() for t in ax.texts] == ["b"]
    with pytest.raises(ValueError, match="not in tuple"):
        plots.statistics_race(RACE, methods=("c",))
