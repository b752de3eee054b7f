"""Training is plain gradient descent, the same every time."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnlab import training
from bnlab.data import Dataset
from bnlab.models import mlp


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50)
    x = rng.normal(size=(50, 4)) + 2 * y[:, None]
    return Dataset("blobs", x, y, tuple("abcd"), ("0", "1", "2"), "class")


SETTINGS = {"lr": 0.2, "steps": 12, "batch_size": 20, "seed": 5}


def test_two_steps_are_two_gradient_steps(data):
    model, twin = mlp([4, 3], seed=1), mlp([4, 3], seed=1)
    history = training.train(model, data, **(SETTINGS | {"steps": 2}))
    batches = training.shuffled_batches(50, batch_size=20, seed=5)
    x, y = training.tensors(data)
    for t in range(2):
        rows = next(batches)
        loss = functional.cross_entropy(twin(x[rows]), y[rows])
        assert history.loss[t] == pytest.approx(loss.item(), rel=1e-6)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, gradient in zip(twin.parameters(), gradients, strict=True):
                p -= 0.2 * gradient
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_two_runs_agree_bit_for_bit_and_seeds_differ(data):
    runs = []
    for seed in (5, 5, 6):
        model = mlp([4, 6, 3], norm=nn.BatchNorm1d, seed=1)
        runs.append(training.train(model, data, **(SETTINGS | {"seed": seed})).loss)
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert runs[0].shape == (12,)


def test_it_learns(data):
    model = mlp([4, 3], seed=1)
    before = training.accuracy(model, data)
    training.train(model, data, lr=0.1, steps=300, batch_size=25, seed=0)
    assert training.accuracy(model, data) > max(0.8, before)


def test_on_step_sees_every_state_from_before_the_first_step_to_after_the_last(data):
    model, seen = mlp([4, 3], seed=1), []
    start = model.linear1.weight.clone()
    training.train(
        model, data, **SETTINGS, on_step=lambda t, m: seen.append((t, m.linear1.weight.clone()))
    )
    assert [t for t, _ in seen] == list(range(13))
    assert torch.equal(seen[0][1], start)
    assert torch.equal(seen[-1][1], model.linear1.weight)
    assert not torch.equal(seen[-2][1], model.linear1.weight)


def test_the_model_ends_in_training_mode_and_accuracy_keeps_the_mode(data):
    model = mlp([4, 6, 3], norm=nn.BatchNorm1d).eval()
    training.train(model, data, **SETTINGS)
    assert model.training
    batches = int(model.norm1.num_batches_tracked)
    training.accuracy(model, data)
    assert model.training
    assert model.norm1.num_batches_tracked == batches == 12
    model.eval()
    training.accuracy(model, data)
    assert not model.training


def test_accuracy_uses_the_running_statistics(data):
    model = mlp([4, 6, 3], norm=nn.BatchNorm1d, seed=2)
    training.train(model, data, **(SETTINGS | {"steps": 60}))
    one = data.take(np.array([0]))  # one example: training mode would refuse it
    assert training.accuracy(model, one) in (0.0, 1.0)


def test_an_epoch_holds_each_example_at_most_once_and_batches_are_full():
    batches = training.shuffled_batches(11, batch_size=3, seed=0)
    epochs = [torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_model_in_float64_trains_in_float64(data):
    model, twin = mlp([4, 6, 3], seed=1).double(), mlp([4, 6, 3], seed=1)
    loss = training.train(model, data, **SETTINGS).loss
    assert model.linear1.weight.dtype == torch.float64
    difference = np.abs(loss - training.train(twin, data, **SETTINGS).loss)
    assert 0 < difference.max() < 1e-5
    assert 0 <= training.accuracy(model, data) <= 1


def test_a_diverging_run_is_recorded_as_it_is(data):
    model = mlp([4, 3], seed=1)
    with torch.no_grad():
        model.linear1.weight.fill_(float("nan"))
    assert np.isnan(training.train(model, data, **SETTINGS).loss).all()


def test_seed_everything_sets_the_three_generators():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    training.seed_everything(1)
    first = draw()
    training.seed_everything(1)
    assert draw() == first
    training.seed_everything(2)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": 0.0}, r"lr is 0\.0.*above 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": 0}, "batch_size is 0.*1 to 50"),
        ({"batch_size": 51}, "batch_size is 51.*1 to 50"),
    ],
)
def test_errors_say_what_was_given_and_what_is_expected(data, setting, message):
    with pytest.raises(ValueError, match=message):
        training.train(mlp([4, 3]), data, **(SETTINGS | setting))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": "0.1"}, "lr is '0.1', a str"),
        ({"steps": 2.5}, r"steps is 2\.5, a float; expected an integer"),
        ({"batch_size": 2.5}, r"batch_size is 2\.5, a float"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_settings_of_another_kind_are_refused(data, setting, message):
    with pytest.raises(TypeError, match=message):
        training.train(mlp([4, 3]), data, **(SETTINGS | setting))


def test_model_and_data_swapped_or_taken_apart_are_refused(data):
    with pytest.raises(TypeError, match=r"model is a Dataset; expected a torch\.nn\.Module"):
        training.train(data, mlp([4, 3]), **SETTINGS)
    with pytest.raises(TypeError, match=r"data is a tuple; expected a bnlab\.data\.Dataset"):
        training.accuracy(mlp([4, 3]), (data.x, data.y))


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.5, TypeError)]
)
def test_a_global_seed_is_a_whole_number_that_numpy_takes(seed, error):
    with pytest.raises(error, match=f"seed is {seed}"):
        training.seed_everything(seed)
