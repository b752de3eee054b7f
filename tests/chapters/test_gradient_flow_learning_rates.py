"""Sweeps over learning rates: the criterion, what each arm stands, and the stored sweeps."""

import numpy as np
import pytest
from _book import book_result
from torch import nn

from bnlab.chapters.gradient_flow import learning_rates
from bnlab.chapters.gradient_flow.results import RateSweep
from bnlab.stats import t_interval

close = np.testing.assert_allclose


@pytest.fixture(scope="module")
def sweeps():
    settings = {"lrs": (0.25, 4.0, 64.0), "steps": 60, "seeds": (50, 51)}
    flat = {"norm": lambda n: nn.BatchNorm1d(n, affine=False)}
    outputs = {"norm": nn.BatchNorm1d, "normalize_outputs": True}
    return {
        "without": learning_rates.rate_sweep("without", **settings),
        "with": learning_rates.rate_sweep("with", norm=nn.BatchNorm1d, **settings),
        "flat": learning_rates.rate_sweep("flat", **flat, **settings),
        "outputs": learning_rates.rate_sweep("outputs", **outputs, **settings),
        "fixed": learning_rates.rate_sweep(
            "fixed", norm=nn.BatchNorm1d, fixed=("linear3",), **settings
        ),
    }


def test_normalization_raises_the_largest_stable_rate(sweeps):
    largest = {k: s.largest_stable() for k, s in sweeps.items()}
    assert (largest["without"] < 4).all()
    assert (largest["with"] > largest["without"]).all()
    assert (largest["outputs"] == 64).all()
    assert (largest["flat"] < 64).all()
    assert (largest["fixed"] == 64).all()  # it is the last layer that limits the others


def test_a_fixed_layer_stays():
    settings = {"lrs": (0.5,), "steps": 3, "seeds": (50,)}
    assert learning_rates.rate_sweep("", fixed=("linear1",), **settings).growth.item() == 1
    assert learning_rates.rate_sweep("", **settings).growth.item() != 1


def test_where_everything_is_normalized_weights_grow_instead(sweeps):
    growth = sweeps["outputs"].growth
    assert (np.diff(growth, axis=1) > 0).all()
    assert (growth[:, -1] > 5).all()


def test_largest_stable_is_where_the_loss_first_crosses_the_limit():
    loss = np.array([[0.5, 1.5, 0.5], [0.5, 0.5, 0.5], [2.0, 0.5, 0.5], [0.5, np.nan, 0.5]])
    sweep = RateSweep(
        label="", normalized=False, lr=np.array([1.0, 4.0, 16.0]), loss=loss, stable=loss < 1,
        limit=1.0, accuracy=loss, growth=loss,
    )  # fmt: skip
    close(sweep.largest_stable(), [2, 16, np.nan, 1])


def test_training_runs_in_float64():
    loss = learning_rates.rate_sweep("", lrs=(0.5,), steps=1, last=1, seeds=(0,)).loss
    assert loss.astype(np.float32) != loss


def test_the_criterion_is_the_one_that_is_documented():
    settings = {"lrs": (0.5, 64.0), "steps": 40, "seeds": (50,)}
    usual, lax = (learning_rates.rate_sweep("", below=b, **settings) for b in (0.5, 1e6))
    assert usual.stable.tolist() == [[True, False]]
    assert usual.limit == pytest.approx(0.5 * np.log(10))
    assert lax.stable.all() == np.isfinite(lax.loss).all()


def test_the_stored_sweeps_say_what_the_chapter_says():
    names = ("without", "with", "flat", "last_fixed", "outputs_too")
    without, usual, flat, *others = (
        book_result(f"gradient_flow_rates_{name}")[0].largest_stable() for name in names
    )
    assert t_interval(usual / without, geometric=True).low > 1
    assert t_interval(flat / usual, geometric=True).low > 1
    assert (np.array(others) == 128).all()
