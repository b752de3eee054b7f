"""Each figure of Chapter 13 draws the numbers of a small result made by hand."""

import matplotlib as mpl
import numpy as np
import pytest

from bnlab.chapters.troubleshooting import plots
from bnlab.chapters.troubleshooting.results import Accumulation, CaseStudy, Faults

FAULTS = Faults(
    steps=3,
    seeds=(0, 1),
    causes=("late", "infinite"),
    ids=("a", "b"),
    by_batch=np.array([[0.9, 0.8], [0.92, 0.82]]),
    before=np.array([[0.5, 0.1], [0.6, 0.1]]),
    after=np.array([[0.9, 0.85], [0.94, 0.87]]),
    found=np.ones((2, 2, 2), dtype=bool),
    healthy=np.array([0.9, 0.9]),
)
PARTS = Accumulation(
    batch_size=60,
    parts=(1, 4),
    distance=np.array([[0.0, 0.6], [0.0, 0.8]]),
    without=np.zeros((2, 2)),
    updates=np.array([1, 4]),
)
CASE = CaseStudy(
    steps=3,
    width=2,
    seeds=(0, 1),
    stages=("one", "two"),
    accuracy=np.array([[0.9, 0.4], [0.8, 0.6]]),
    checkpoint=np.zeros(3, dtype=np.float32),
)


@pytest.fixture(autouse=True)
def close():
    yield
    mpl.pyplot.close("all")


def test_faults_join_the_accuracy_before_to_the_one_after():
    ax = plots.faults(FAULTS)
    by_batch, before, after = (line.get_xdata() for line in ax.lines[:3])
    np.testing.assert_allclose(by_batch, [0.91, 0.81])
    np.testing.assert_allclose(before, [0.55, 0.1])
    np.testing.assert_allclose(after, [0.92, 0.86])
    late, infinite = (text for text in ax.texts if text.get_text() in FAULTS.causes)
    assert late.xy[1] > infinite.xy[1]  # the first on top


def test_accumulation_draws_both_networks():
    ax = plots.accumulation(PARTS)
    with_layer, without = (line.get_ydata() for line in ax.lines[:2])
    np.testing.assert_allclose(with_layer, [0.0, 0.7])
    np.testing.assert_allclose(without, [0.0, 0.0])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1 × 60", "4 × 15"]


def test_the_case_draws_each_network_and_the_means():
    ax = plots.case_study(CASE)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), CASE.accuracy[0])
    np.testing.assert_allclose(ax.lines[2].get_xdata(), [0.85, 0.5])
