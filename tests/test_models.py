"""The models: names, placement of the normalization, seeds, and errors."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlab.models import convnet, mlp


def names(model):
    return [name for name, _ in model.named_children()]


def test_layers_are_named_in_order():
    assert names(mlp([5, 4, 3, 2])) == ["linear1", "act1", "linear2", "act2", "linear3"]
    assert names(mlp([5, 4, 3], norm=nn.BatchNorm1d)) == ["linear1", "norm1", "act1", "linear2"]
    assert names(mlp([5, 2])) == ["linear1"]


def test_it_computes_what_its_formula_says():
    model = mlp([5, 4, 3], activation="tanh", seed=2)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    hidden = torch.tanh(x @ model.linear1.weight.T + model.linear1.bias)
    torch.testing.assert_close(model(x), hidden @ model.linear2.weight.T + model.linear2.bias)


def test_a_normalized_layer_has_no_bias_and_the_last_one_keeps_it():
    model = mlp([5, 4, 3, 2], norm=nn.BatchNorm1d)
    assert model.linear1.bias is None
    assert model.linear2.bias is None
    assert model.linear3.bias is not None
    assert all(layer.bias is not None for n, layer in mlp([5, 4, 2]).named_children() if "lin" in n)


def test_norm_is_called_with_the_number_of_units():
    seen = []

    def norm(num_features):
        seen.append(num_features)
        return nn.LayerNorm(num_features)

    model = mlp([5, 4, 3, 2], norm=norm)
    assert seen == [4, 3]
    assert isinstance(model.norm2, nn.LayerNorm)


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("sigmoid", nn.Sigmoid), ("tanh", nn.Tanh), ("relu", nn.ReLU), ("linear", nn.Identity)],
)
def test_activations(activation, kind):
    assert type(mlp([3, 2, 1], activation=activation).act1) is kind


@pytest.mark.parametrize(
    ("init_std", "std"),
    [(0.03, 0.03), ("lecun", 400**-0.5), ("xavier", (2 / 700) ** 0.5), ("he", (2 / 400) ** 0.5)],
)
def test_weights_are_gaussian_of_the_asked_width_and_biases_zero(init_std, std):
    layer = mlp([400, 300], init_std=init_std).linear1
    weight = layer.weight.detach().double().numpy()
    assert weight.std() == pytest.approx(std, rel=0.01)
    assert abs(weight.mean()) < 4 * std / np.sqrt(weight.size)
    assert ((weight / std) ** 4).mean() == pytest.approx(3, abs=0.1)  # uniform weights give 1.8
    assert not layer.bias.any()


def test_one_seed_one_model_and_the_global_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (mlp([6, 5, 4], seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.linear2.weight, again.linear2.weight)
    assert not torch.equal(first.linear2.weight, other.linear2.weight)


def test_the_two_arms_start_from_the_same_weights():
    plain, normalized = mlp([6, 5, 4], seed=1), mlp([6, 5, 4], seed=1, norm=nn.BatchNorm1d)
    assert torch.equal(plain.linear1.weight, normalized.linear1.weight)
    assert torch.equal(plain.linear2.weight, normalized.linear2.weight)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": [3]}, ValueError, r"sizes is \[3\].*at least two"),
        ({"sizes": [3, 0, 1]}, ValueError, "positive integers"),
        ({"sizes": [3, 2.5, 1]}, ValueError, "positive integers"),
        ({"sizes": [3, 1], "activation": "swish"}, ValueError, "'swish'.*sigmoid, tanh"),
        ({"sizes": [3, 1], "init_std": -1.0}, ValueError, r"init_std is -1\.0"),
        ({"sizes": [3, 1], "init_std": float("nan")}, ValueError, "init_std is nan"),
        ({"sizes": [3, 1], "init_std": "glorot"}, ValueError, "lecun, xavier, he"),
        (
            {"sizes": [3, 2, 1], "norm": nn.BatchNorm1d(2), "activation": "relu"},
            TypeError,
            "factory",
        ),
        ({"sizes": [3, 2, 1], "norm": "batch"}, TypeError, "norm is a str.*BatchNorm1d"),
        ({"sizes": [3, 2, 1], "norm": lambda n: n}, TypeError, r"norm\(2\) returned a int"),
        ({"sizes": 3}, ValueError, r"sizes is 3; .*\[784, 100, 10\]"),
        ({"sizes": [3, 1], "seed": "0"}, TypeError, "seed is '0', a str"),
    ],
)
def test_errors_say_what_was_given_and_what_is_expected(arguments, error, message):
    with pytest.raises(error, match=message):
        mlp(**arguments)


def test_convolutional_layers_are_named_in_order():
    head, tail = ["image"], ["flatten", "linear"]
    assert names(convnet(channels=(4,))) == [*head, "conv1", "act1", "pool1", *tail]
    assert names(convnet(channels=(4, 5), pool=1, norm=nn.BatchNorm2d)) == [
        *head, "conv1", "norm1", "act1", "conv2", "norm2", "act2", *tail
    ]  # fmt: skip
    everything = convnet(channels=(4,), norm=nn.BatchNorm2d, lrn=True, dropout=0.5)
    assert names(everything) == [
        *head, "conv1", "norm1", "act1", "lrn1", "pool1", "flatten", "dropout", "linear"
    ]  # fmt: skip
    assert everything.dropout.p == 0.5


def test_convnet_computes_what_its_formula_says():
    model = convnet((2, 6, 8), (3, 4), 5, activation="tanh", norm=nn.BatchNorm2d, kernel_size=5)
    x = torch.randn(7, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    hidden = x
    for conv in (model.conv1, model.conv2):
        z = nn.functional.conv2d(hidden, conv.weight, padding=2)
        var, mean = torch.var_mean(z, (0, 2, 3), correction=0, keepdim=True)
        hidden = nn.functional.max_pool2d(torch.tanh((z - mean) / (var + 1e-5).sqrt()), 2)
    expected = hidden.flatten(1) @ model.linear.weight.T + model.linear.bias
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(x.flatten(1)), expected)


def test_response_normalization_is_that_of_its_paper():
    """b_i = a_i / (k + alpha sum_j a_j^2)^beta over 5 neighbors; torch divides alpha by 5."""
    layer = convnet(channels=(8,), lrn=True).lrn1
    a = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    total = sum(nn.functional.pad(a**2, (0, 0, 0, 0, 2, 2))[:, j : j + 8] for j in range(5))
    torch.testing.assert_close(layer(a), a / (2 + 1e-4 * total) ** 0.75)


def test_a_normalized_convolution_has_no_bias_and_the_last_layer_keeps_it():
    model = convnet(norm=nn.BatchNorm2d)
    assert model.conv1.bias is None
    assert model.conv2.bias is None
    assert model.linear.bias is not None
    plain = convnet()
    assert plain.conv1.bias is not None
    assert not plain.conv2.bias.any()


def test_convnet_draws_gaussian_weights_of_the_asked_width():
    weight = convnet((30, 8, 8), (40,), kernel_size=5).conv1.weight.detach().double().numpy()
    assert weight.std() == pytest.approx((2 / (30 * 25)) ** 0.5, rel=0.02)
    assert ((weight / weight.std()) ** 4).mean() == pytest.approx(3, abs=0.15)
    assert convnet(init_std=0.01).linear.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_one_seed_one_convnet_and_its_arms_start_alike():
    before = torch.get_rng_state()
    first, other = convnet(seed=3), convnet(seed=4)
    normalized = convnet(seed=3, norm=nn.BatchNorm2d)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.conv2.weight, normalized.conv2.weight)
    assert torch.equal(first.linear.weight, normalized.linear.weight)
    assert not torch.equal(first.conv2.weight, other.conv2.weight)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_shape": (28, 28)}, ValueError, r"in_shape is \(28, 28\); expected 3 positive"),
        ({"in_shape": 784}, ValueError, "in_shape is 784"),
        ({"channels": ()}, ValueError, r"channels is \(\); expected one or more"),
        ({"channels": (4, 0)}, ValueError, "positive integers"),
        ({"channels": (4,) * 5}, ValueError, r"5 poolings by 2 leave no pixel.*pool=1"),
        ({"classes": 0}, ValueError, "classes is 0"),
        ({"kernel_size": 4}, ValueError, "kernel_size is 4; expected an odd.*3 or 5"),
        ({"pool": 0}, ValueError, "pool is 0"),
        ({"dropout": 1.0}, ValueError, r"dropout is 1\.0"),
        ({"dropout": "half"}, ValueError, "dropout is 'half'"),
        ({"activation": "swish"}, ValueError, "'swish'.*sigmoid, tanh"),
        ({"init_std": "glorot"}, ValueError, "lecun, xavier, he"),
        ({"norm": nn.BatchNorm2d(16)}, TypeError, "factory"),
        ({"norm": lambda n: n}, TypeError, r"norm\(16\) returned a int"),
        ({"seed": 1.5}, TypeError, "seed is 1.5"),
    ],
)
def test_convnet_says_what_was_given_and_what_is_expected(arguments, error, message):
    with pytest.raises(error, match=message):
        convnet(**arguments)
