"""An ensemble trains each member as if it were alone: the same batches, the same numbers."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnlab import nn as ours
from bnlab import training
from bnlab.data import Dataset, mnist_5k
from bnlab.inference import recalibrate
from bnlab.models import convnet, mlp
from bnlab.nn import DetachedBatchNorm1d
from bnlab.training import Ensemble, Member
from bnlab.training.ensemble import available

NORMS = {
    "none": None,
    "torch": nn.BatchNorm1d,
    "ours": ours.BatchNorm1d,
    "cumulative": partial(nn.BatchNorm1d, momentum=None),
    "other settings": partial(nn.BatchNorm1d, eps=0.1, momentum=0.3),
}
MEMBERS = [Member(0.05, 0), Member(0.3, 0), Member(0.3, 1)]


@pytest.fixture(scope="module")
def data():
    """Few examples, so that 100 steps of 12 see several epochs; 90 is no multiple of 12."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = rng.normal(size=(90, 5)) + y[:, None]
    return Dataset("blobs", x, y, tuple("abcde"), ("0", "1", "2"), "class")


@pytest.fixture(scope="module")
def digits():
    return mnist_5k().split(test=1000, seed=0)


def builder(norm="torch", activation="sigmoid", dtype=torch.float64, sizes=(5, 8, 6, 3)):
    def build(seed):
        return mlp(sizes, norm=NORMS[norm], activation=activation, seed=seed).to(dtype)

    return build


def alone(build, data, member, *, steps, batch_size):
    """Train one network the way everyone does; return it, its losses and its inputs step by step."""
    model = build(member.seed)
    x, y = training.tensors(data, dtype=next(model.parameters()).dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=member.lr)
    batches = training.shuffled_batches(len(x), batch_size=batch_size, seed=member.seed)
    losses = []
    for _ in range(steps):
        rows = next(batches)
        loss = functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), np.array(losses)


def largest_difference(model, twin):
    pairs = zip(model.state_dict().items(), twin.state_dict().items(), strict=True)
    differences = []
    for (name, value), (other, expected) in pairs:
        assert name == other
        assert value.shape == expected.shape
        assert value.dtype == expected.dtype
        differences.append(float((value - expected).abs().max()))
    return max(differences)


@pytest.mark.parametrize(
    ("norm", "activation"),
    [(norm, activation) for norm in NORMS for activation in ("sigmoid", "tanh", "relu", "linear")],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_each_member_gets_the_numbers_of_its_own_run(data, norm, activation, dtype):
    """100 steps in float64 agree to 1e-10; 30 in float32, where ReLU amplifies rounding, to 2e-3."""
    build = builder(norm, activation, dtype)
    steps, tolerance = (100, 1e-10) if dtype == torch.float64 else (30, 2e-3)
    ensemble = Ensemble(build, data, members=MEMBERS, batch_size=12)
    ensemble.advance(steps)
    for i, member in enumerate(MEMBERS):
        model, losses = alone(build, data, member, steps=steps, batch_size=12)
        np.testing.assert_allclose(ensemble.loss[i], losses, rtol=0, atol=tolerance)
        assert largest_difference(ensemble.model(i), model) < tolerance


def test_it_is_what_train_does(data):
    ensemble = Ensemble(builder(), data, members=MEMBERS, batch_size=12)
    ensemble.advance(40)
    for loss, (lr, seed) in zip(ensemble.loss, MEMBERS, strict=True):
        one = training.train(builder()(seed), data, lr=lr, seed=seed, steps=40, batch_size=12)
        np.testing.assert_allclose(loss, one.loss, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "torch"])
def test_accuracy_on_digits_in_float32_is_that_of_single_runs(digits, norm):
    """Over 200 steps no curve leaves its twin by more than 3 digits of 1,000."""
    train, test = digits
    build = builder(norm, dtype=torch.float32, sizes=(784, 100, 100, 100, 10))
    members, at = [Member(0.5, 0), Member(1.0, 1)], (0, 50, 100, 200)
    ensemble, found = Ensemble(build, train, members=members, batch_size=60), []
    for step in at:
        ensemble.advance(step - ensemble.step)
        found.append(ensemble.evaluate(test).accuracy)
    for i, (lr, seed) in enumerate(members):
        curve = []

        def look(t, model, curve=curve):
            if t in at:
                curve.append(training.accuracy(model, test))

        training.train(build(seed), train, lr=lr, seed=seed, steps=200, batch_size=60, on_step=look)
        assert np.abs(np.array(found)[:, i] - curve).max() <= 0.003


def test_one_network_is_an_ensemble_too_and_a_linear_one(data):
    build = builder(sizes=(5, 3))
    ensemble = Ensemble(build, data, members=[Member(0.1, 4)], batch_size=90)
    ensemble.advance(7)
    model, _ = alone(build, data, Member(0.1, 4), steps=7, batch_size=90)
    assert largest_difference(ensemble.model(0), model) < 1e-12


@pytest.mark.parametrize("norm", ["none", "torch"])
def test_a_member_that_diverges_disturbs_no_other(data, norm):
    members = [Member(0.1, 0), Member(1e30, 1), Member(0.2, 2)]
    build = builder(norm, "relu", torch.float32)
    ensemble, others = (
        Ensemble(build, data, members=m, batch_size=12) for m in (members, members[::2])
    )
    ensemble.advance(30)
    others.advance(30)
    assert np.isfinite(others.loss).all()
    np.testing.assert_allclose(ensemble.loss[::2], others.loss, rtol=1e-5)
    alone_loss = alone(build, data, members[1], steps=30, batch_size=12)[1]
    finite = np.isfinite(alone_loss)
    assert norm == "torch" or not finite.all()
    first = np.argmin(finite) if not finite.all() else 30
    np.testing.assert_allclose(ensemble.loss[1, :first], alone_loss[:first], rtol=1e-3)
    assert not np.isfinite(ensemble.loss[1, first:]).any()


def make(data, build=None, **settings):
    return Ensemble(build or builder(), data, **({"members": MEMBERS, "batch_size": 12} | settings))


def test_looking_at_a_run_changes_nothing(data):
    plain, watched = make(data), make(data)
    plain.advance(20)
    for _ in range(4):
        watched.advance(5)
        watched.evaluate(data)
        watched.evaluate(data, recalibrate_on=[torch.tensor(data.x)])
        watched.model(0).train()(torch.tensor(data.x))
    assert np.array_equal(plain.loss, watched.loss)
    for i in range(len(MEMBERS)):
        expected, found = plain.model(i).state_dict(), watched.model(i).state_dict()
        for name in expected:
            assert torch.equal(expected[name], found[name]), name


def test_evaluation_is_that_of_each_network(data):
    ensemble = make(data)
    ensemble.advance(15)
    batches = list(torch.tensor(data.x).split(30))
    running, population = ensemble.evaluate(data), ensemble.evaluate(data, recalibrate_on=batches)
    y = torch.tensor(data.y)
    for i in range(len(MEMBERS)):
        model = ensemble.model(i)
        assert not model.training
        assert running.accuracy[i] == pytest.approx(training.accuracy(model, data))
        logits = model(torch.tensor(data.x))
        assert running.loss[i] == pytest.approx(functional.cross_entropy(logits, y).item())
        recalibrate(model, batches)
        assert population.accuracy[i] == pytest.approx(training.accuracy(model, data))
    assert not np.allclose(running.loss, population.loss)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda seed: convnet(norm=nn.BatchNorm2d), "layer 'image' is a Sequential"),
        (
            lambda seed: mlp([5, 8, 3], norm=nn.LayerNorm),
            "layer 'norm1' is a LayerNorm; .*supports",
        ),
        (lambda seed: mlp([5, 8, 3], norm=DetachedBatchNorm1d), "is a DetachedBatchNorm1d"),
        *(
            (
                lambda seed, other=other: mlp([5, 8, 3], norm=partial(nn.BatchNorm1d, **other)),
                "layer 'norm1' is BatchNorm1d.*; an ensemble supports normalization with a weight",
            )
            for other in ({"affine": False}, {"bias": False}, {"track_running_stats": False})
        ),
        (lambda seed: nn.Linear(5, 3), "build returned a Linear; expected a torch.nn.Sequential"),
        (lambda seed: nn.Sequential(nn.ReLU(), nn.Linear(5, 3)), "begins with a Linear"),
        (lambda seed: nn.Sequential(), "begins with a Linear"),
    ],
)
def test_other_architectures_are_refused_with_what_is_supported(data, build, message):
    with pytest.raises(TypeError, match=message):
        Ensemble(build, data, members=MEMBERS, batch_size=12)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"members": []}, TypeError, "members is \\[\\]; expected at least one pair"),
        ({"members": [0.1]}, TypeError, "expected at least one pair"),
        ({"members": [(0.1, 0), (0.0, 1)]}, ValueError, r"members\[1\].lr is 0.0"),
        ({"members": [(0.1, 0), (float("nan"), 1)]}, ValueError, r"members\[1\].lr is nan"),
        ({"members": [(0.1, 0.5)]}, TypeError, r"members\[0\].seed is 0.5"),
        ({"members": [(0.1, -1)]}, ValueError, r"members\[0\].seed is -1"),
        ({"batch_size": 91}, ValueError, "batch_size is 91; expected 2 to 90"),
        ({"batch_size": 1}, ValueError, "batch_size is 1; expected 2 to 90"),
        ({"data": None}, TypeError, "expected a bnlab.data.Dataset"),
    ],
)
def test_settings_out_of_range_are_refused(data, setting, error, message):
    arguments = {"data": data, "members": MEMBERS, "batch_size": 12} | setting
    with pytest.raises(error, match=message):
        Ensemble(builder(), **arguments)


def test_networks_that_cannot_be_stacked_are_refused(data):
    def build(seed):
        return mlp([5, 8 + seed, 3], seed=seed)

    with pytest.raises(ValueError, match="members 0 and 2 differ"):
        Ensemble(build, data, members=MEMBERS, batch_size=12)
    with pytest.raises(ValueError, match="data has 5 features and 3 classes; the network takes 4"):
        Ensemble(lambda seed: mlp([4, 3]), data, members=MEMBERS, batch_size=12)
    with pytest.raises(ValueError, match="the network takes 5 and returns 2"):
        Ensemble(lambda seed: mlp([5, 2]), data, members=MEMBERS, batch_size=12)


def test_a_number_beyond_the_last_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert available("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2', which this machine .* finds: 1 cpu, 2 cuda"):
        available("cuda:2")


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_a_device_that_is_not_there_is_refused(data, device):
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in there and there[device]():
        pytest.skip(f"this machine has {device}")
    with pytest.raises(ValueError, match=f"device is '{device}', which this machine does not have"):
        Ensemble(builder(), data, members=MEMBERS, batch_size=12, device=device)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"build": builder()(0)}, "build is a Sequential; expected a function of the seed"),
        ({"build": 3}, "build is a int; expected a function of the seed"),
        ({"build": lambda seed: builder()(seed).half()}, "float16; expected float32 or float64"),
        ({"device": "warp"}, "device is 'warp'; expected cpu"),
        ({"device": object()}, "device is .*; expected cpu"),
    ],
)
def test_what_is_no_argument_at_all_is_named(data, setting, message):
    setting = {"build": builder()} | setting
    with pytest.raises((TypeError, ValueError), match=message):
        Ensemble(setting.pop("build"), data, members=MEMBERS, batch_size=12, **setting)
