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


def test_held_weights_keep_each_units_length_and_turn_all_the_same(monkeypatch):
    nets = []
    original = learning_rates.training.train

    def spy(model, digits, **settings):
        before = model.linear1.weight.detach().clone()
        history = original(model, digits, **settings)
        nets.append((before, model.linear1.weight.detach()))
        return history

    monkeypatch.setattr(learning_rates.training, "train", spy)
    settings = {"lrs": (8.0,), "steps": 5, "seeds": (50,), "norm": nn.BatchNorm1d}
    growth = [
        learning_rates.rate_sweep("", held=held, **settings).growth.item()
        for held in (("linear1",), ("linear2",))
    ]
    assert growth[0] == pytest.approx(1, abs=1e-12)
    assert growth[1] > 1.01
    before, after = nets[0]
    close(after.norm(dim=1), before.norm(dim=1), rtol=1e-12)
    assert (after - before).norm() > 0.1 * before.norm()


def test_to_hold_lengths_changes_no_output_of_a_normalized_network():
    """Rounding and eps aside, one step at rate 0.5 leaves the same losses after the first."""
    settings = {"lrs": (0.5,), "steps": 2, "last": 2, "seeds": (50,), "norm": nn.BatchNorm1d}
    free, held = (
        learning_rates.rate_sweep("", held=h, **settings).loss.item()
        for h in ((), ("linear1", "linear2"))
    )
    assert held == pytest.approx(free, rel=1e-4)


def test_centered_inputs_have_mean_zero_over_the_training_digits(monkeypatch):
    seen = []
    original = learning_rates.training.train

    def spy(model, digits, **settings):
        seen.append(digits)
        return original(model, digits, **settings)

    monkeypatch.setattr(learning_rates.training, "train", spy)
    for centered in (False, True):
        learning_rates.rate_sweep("", centered=centered, lrs=(0.5,), steps=1, last=1, seeds=(50,))
    raw, moved = seen
    close(moved.x.mean(axis=0), 0, atol=1e-5)
    close(raw.x - moved.x, np.tile(raw.x.mean(axis=0), (len(raw), 1)), atol=1e-6)


def test_the_arms_are_what_their_names_say():
    arms = learning_rates.ARMS
    assert [name for name, arm in arms.items() if arm.get("centered")] == [
        "without centered", "with centered",
    ]  # fmt: skip
    for name in ("with", "last fixed"):
        held = arms[f"{name} held"]
        assert arms[name] == {key: value for key, value in held.items() if key != "held"}


def test_the_stored_sweeps_say_what_the_chapter_says():
    sweeps = {
        label: book_result(f"gradient_flow_rates_{label.replace(' ', '_')}")[0]
        for label in learning_rates.ARMS
    }
    largest = {label: sweep.largest_stable() for label, sweep in sweeps.items()}
    assert all(len(values) >= 16 for values in largest.values())
    joint = {"confidence": 1 - 0.05 / 7}

    def factor(over, under):
        return t_interval(largest[over] / largest[under], geometric=True, **joint)

    raw, centered = factor("with", "without"), factor("with centered", "without centered")
    assert centered.low > 1
    assert raw.low > centered.high, "over raw pixels the factor is larger"
    assert factor("without centered", "without").low > 1.5
    assert factor("flat", "with").low > 1
    whole = np.log(largest["with"] / largest["without"])
    growth = np.log(largest["with"] / largest["with held"]) / whole
    assert t_interval(growth, **joint).high < 0.5, "growing weights do not explain the factor"
    for label in ("last fixed", "outputs too"):
        assert (largest[label] == 128).all()
    held = sweeps["last fixed held"]
    assert held.stable[:, held.lr >= 32].mean() <= 0.5, "where the last layer is fixed they do"
