"""Probes see what layers receive, leave no trace, and measure drift as defined."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import nn

from bnlab import probes
from bnlab.models import mlp

rng = np.random.default_rng(0)


@pytest.fixture
def model():
    return mlp([4, 3, 3, 2], norm=nn.BatchNorm1d, seed=1)


@pytest.fixture
def x():
    return torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_inputs_and_outputs_are_those_of_the_layer(model, x):
    with probes.activations(model, ["act1", "linear2"]) as inputs:
        model(x)
    with probes.activations(model, ["linear1", "act1"], of="output") as outputs:
        model(x)
    normalized = model.norm1(x @ model.linear1.weight.T)
    torch.testing.assert_close(inputs["act1"][0], normalized)
    torch.testing.assert_close(inputs["linear2"][0], torch.sigmoid(normalized))
    torch.testing.assert_close(outputs["linear1"][0], x @ model.linear1.weight.T)
    assert torch.equal(outputs["act1"][0], inputs["linear2"][0])


def test_every_pass_is_kept_in_order_and_detached(model, x):
    with probes.activations(model, ["linear1"]) as recorded:
        model(x)
        model(2 * x)
    model(3 * x)
    assert len(recorded["linear1"]) == 2
    assert torch.equal(torch.stack(recorded["linear1"]), torch.stack([x, 2 * x]))
    with probes.activations(model, ["act1"]) as recorded:
        model(x)
    assert not recorded["act1"][0].requires_grad


def test_an_in_place_layer_does_not_spoil_the_record():
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with probes.activations(model, ["1"]) as recorded:
        model(torch.tensor([-1.0, 2.0]))
    assert recorded["1"][0].tolist() == [-1.0, 2.0]


def test_a_record_is_a_copy(model, x):
    with probes.activations(model, ["linear1"]) as recorded:
        model(x)
    kept = recorded["linear1"][0].clone()
    x.zero_()
    assert torch.equal(recorded["linear1"][0], kept)


def test_hooks_are_gone_after_the_block_and_after_an_error_in_it(model, x):
    with probes.activations(model, ["act1"]):
        assert hooks(model) == 1
    assert hooks(model) == 0
    with pytest.raises(RuntimeError), probes.activations(model, ["act1", "linear3"]):
        model(x[:, :2])
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("names", "of", "error", "message"),
    [
        ("act1", "input", TypeError, r"\['act1'\]"),
        (["act9"], "input", ValueError, "'act9'.*'linear1'"),
        (["act1"], "grad", ValueError, "'input' or 'output'"),
    ],
)
def test_wrong_names_are_refused_and_nothing_is_hooked(model, names, of, error, message):
    with pytest.raises(error, match=message), probes.activations(model, names, of=of):
        pass
    assert hooks(model) == 0


def test_models_inputs_and_values_of_another_kind_are_refused(model, x):
    with pytest.raises(TypeError, match="model is a NoneType"), probes.activations(None, ["act1"]):
        pass
    with pytest.raises(TypeError, match=r"x is a ndarray; .*torch\.tensor"):
        probes.observe(model, x.numpy(), ["act1"])
    with pytest.raises(TypeError, match="values is a list"):
        probes.summarize([[1.0], [2.0]])
    with pytest.raises(ValueError, match=r"q is \(0\.5, 150\); .*Write the median as 50"):
        probes.summarize(np.eye(2), q=(0.5, 150))


def test_observing_changes_nothing(model, x):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = probes.observe(model, x, ["act1"])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert hooks(model) == 0
    assert model.training
    np.testing.assert_allclose(seen["act1"].mean(axis=0), 0, atol=1e-6)  # statistics of x itself
    model.eval()
    assert abs(probes.observe(model, x, ["act1"])["act1"].mean(axis=0)).max() > 0.01
    assert not model.training


def test_summary_is_numpys():
    values = rng.normal(size=(50, 3))
    summary = probes.summarize(values, q=(10, 50, 90))
    np.testing.assert_allclose(summary.mean, values.mean(axis=0))
    np.testing.assert_allclose(summary.std, values.std(axis=0))
    np.testing.assert_allclose(summary.percentiles, np.percentile(values, (10, 50, 90), axis=0))
    assert probes.summarize(values).q == (15, 50, 85)


def test_drift_is_scipys_distance_in_units_of_the_old_std():
    before, after = rng.normal(size=(40, 3)), rng.gamma(2.0, size=(40, 3))
    drift = probes.drift(before, after)
    expected = [wasserstein_distance(b, a) for b, a in zip(before.T, after.T, strict=True)]
    np.testing.assert_allclose(drift.distance, expected)
    np.testing.assert_allclose(drift.wasserstein, expected / before.std(axis=0))
    shift = np.abs(after.mean(axis=0) - before.mean(axis=0)) / before.std(axis=0)
    np.testing.assert_allclose(drift.mean_shift, shift)
    ratio = np.abs(np.log(after.std(axis=0) / before.std(axis=0)))
    np.testing.assert_allclose(drift.log_std_ratio, ratio)


@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_drift_has_no_unit_and_ignores_the_order_of_examples(seed, scale, shift):
    local = np.random.default_rng(seed)
    before, after = local.normal(size=(2, 12, 2)) + np.array([0.0, 1.0])
    first = probes.drift(before, after)
    second = probes.drift(scale * before + shift, local.permutation(scale * after + shift))
    for measure in ("mean_shift", "log_std_ratio", "wasserstein"):
        np.testing.assert_allclose(
            getattr(first, measure), getattr(second, measure), rtol=1e-6, atol=1e-7
        )
    np.testing.assert_allclose(scale * first.distance, second.distance, rtol=1e-6)
    assert (first.wasserstein >= first.mean_shift - 1e-12).all()


def test_equal_distributions_have_no_drift():
    before = rng.normal(size=(20, 2))
    drift = probes.drift(before, before[::-1])
    np.testing.assert_allclose(list(vars(drift).values()), 0, atol=1e-14)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), "equal shapes"),
        (np.arange(3.0), np.arange(3.0), r"before has shape \(3,\).*\[:, None\]"),
        (np.array([[0.0, 1.0], [1.0, 1.0]]), np.eye(2), "unit 1 .*constant"),
        (np.eye(2), np.array([[0.0, 1.0], [1.0, 1.0]]), "unit 1 .*constant"),
        (np.full((7, 1), 0.1), np.arange(7.0)[:, None], "unit 0 .*constant"),  # its std is not 0
        (np.arange(7.0)[:, None], np.full((7, 1), 0.1), "unit 0 .*constant"),
        (np.full((2, 2), np.nan), np.eye(2), "before contains 4 NaN"),
        (np.eye(2), np.full((2, 2), np.inf), "after contains 4 NaN or Inf"),
        (np.empty((0, 2)), np.empty((0, 2)), "at least one example"),
    ],
)
def test_what_has_no_drift_is_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        probes.drift(before, after)
