"""Chapter 10, depth: the networks, the runs, the choice of the rate, and what is stored."""

import dataclasses

import numpy as np
import pytest
import torch
from _book import book_result

from bnlab import training
from bnlab.chapters.accelerating import sigmoid_depth
from bnlab.chapters.accelerating.sigmoid_depth import EXPERIMENT


def merged(**changes):
    small = {"depths": [1, 2], "rates": [0.3, 1.0], "steps": 30, "seeds": [3, 5], "width": 20}
    config = EXPERIMENT.configure(small | changes)
    plan = EXPERIMENT.plan(config)
    return EXPERIMENT.merge(config, plan, [EXPERIMENT.run(config, task) for task in plan])


# ---- networks and digits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "gain"), [("sigmoid", 4), ("tanh", 5 / 3), ("relu", 2**0.5)]
)
def test_the_nets_begin_with_the_same_weights_but_for_the_gain_of_hidden_layers(activation, gain):
    plain, bn, scaled = (
        sigmoid_depth.network(net, depth=3, activation=activation, seed=2)
        for net in ("plain", "BN", "scaled")
    )
    for k in range(1, 5):
        weights = [net.get_submodule(f"linear{k}").weight for net in (plain, bn, scaled)]
        assert torch.equal(weights[0], weights[1])
        torch.testing.assert_close(weights[2], weights[0] * (gain if k < 4 else 1))
    assert plain.linear2.weight.std().item() == pytest.approx(0.1, rel=0.03)
    assert [name for name, _ in bn.named_children()].count("norm3") == 1
    assert not any(name.startswith("norm") for name, _ in scaled.named_children())


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_with_the_proper_gain_small_signals_pass_deep_layers_unshrunk(activation):
    """The slope at zero times the size of the weights: 1 for a layer of the scaled net, up to tanh's 5/3."""
    slope = {"sigmoid": 0.25, "tanh": 1.0, "relu": 0.5**0.5}[activation]
    weight = sigmoid_depth.network("scaled", depth=3, activation=activation).linear2.weight
    assert 0.95 < slope * weight.std().item() * 10 < 1.75


def test_an_unknown_net_is_refused():
    with pytest.raises(ValueError, match="net is 'bn'; expected one of plain, BN, scaled"):
        sigmoid_depth.network("bn", depth=1)


def test_held_out_and_test_digits_are_not_trained_with():
    train, validation, test = sigmoid_depth.digits(800)
    assert (len(train), len(validation), len(test)) == (3200, 800, 1000)
    rows = [{x.tobytes() for x in part.x} for part in (train, validation, test)]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]


# ---- the runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", sigmoid_depth.NETS)
def test_a_run_is_that_of_one_network_alone(net):
    result = merged(nets=[net])
    train, validation, test = sigmoid_depth.digits(800)
    for j, k, r in ((0, 1, 0), (1, 0, 1)):
        depth, seed, lr = result.depths[j], result.seeds[k], result.lr[r]
        model = sigmoid_depth.network(net, depth=depth, width=20, seed=seed)
        training.train(model, train, lr=lr, steps=30, batch_size=60, seed=seed)
        expected = training.accuracy(model, validation), training.accuracy(model, test)
        found = result.validation[0, j, k, r, -1], result.accuracy[0, j, k, r, -1]
        assert found == pytest.approx(expected, abs=0.005)


def test_accuracy_is_measured_at_each_look_and_every_part_has_its_place():
    result = merged(steps=420)
    assert result.looks.tolist() == [400, 420]
    assert result.nets == sigmoid_depth.NETS
    assert result.accuracy.shape == result.validation.shape == (3, 2, 2, 2, 2)
    assert np.isfinite(result.accuracy).all()
    early = merged(steps=400, nets=["BN"], depths=[1])
    np.testing.assert_array_equal(early.accuracy[0, 0, ..., 0], result.accuracy[1, 0, ..., 0])


# ---- reading ---------------------------------------------------------------------------------------


def test_the_rate_is_chosen_on_held_out_digits_at_that_look_and_the_test_digits_are_shown():
    result = merged(nets=["BN"], depths=[1], steps=401)
    validation = np.array([[[[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.3], [0.6, 0.2]]]]])
    accuracy = np.array([[[[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.7, 0.8]]]]])
    result = dataclasses.replace(result, validation=validation, accuracy=accuracy)
    found, lr = result.at_best_rate()
    assert (found.tolist(), lr.tolist()) == ([[[0.4, 0.8]]], [[1.0]])
    found, lr = result.at_best_rate(0)
    assert (found.tolist(), lr.tolist()) == ([[[0.1, 0.5]]], [[0.3]])


# ---- what is stored --------------------------------------------------------------------------------

FILES = {"accelerating_depth": "sigmoid"}


@pytest.mark.parametrize("name", FILES)
class TestStored:
    def test_is_of_its_activation(self, name):
        assert book_result(name)[0].activation == FILES[name]

    @pytest.mark.parametrize("net", sigmoid_depth.NETS)
    def test_begins_as_a_run_begins_today(self, name, net):
        result, _ = book_result(name)
        assert sigmoid_depth.repeat(result, net, 3) < 0.01  # rounding, not another batch size

    def test_another_run_would_be_noticed(self, name):
        result, _ = book_result(name)
        swapped = dataclasses.replace(result, accuracy=result.accuracy[:, ::-1])
        assert sigmoid_depth.repeat(swapped, "plain", 1) > 0.02
