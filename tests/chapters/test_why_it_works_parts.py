"""Chapter 11: twins of one function, decay as a rate, and signals in deep random networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnlab import models
from bnlab.chapters.why_it_works import decay, depth, smoothness

close = np.testing.assert_allclose
SIZES = (784, 20, 20, 10)


@pytest.fixture(scope="module")
def batch():
    g = torch.Generator().manual_seed(1)
    return torch.rand(80, 784, generator=g).double(), torch.randint(10, (80,), generator=g)


def network(origin):
    norm = smoothness.ORIGINS[origin]
    return models.mlp(SIZES, activation="relu", norm=norm, init_std="he", seed=0).double()


class TestTwins:
    @pytest.mark.parametrize("origin", ["plain", "BN"])
    def test_they_are_one_function_with_the_same_weights(self, batch, origin):
        model = network(origin)
        if origin == "BN":
            for norm in (model.norm1, model.norm2):
                nn.init.normal_(norm.weight, 1.0, 0.3), nn.init.normal_(norm.bias)
        plain, normalized = smoothness.twins(model, batch[0])
        for twin in (plain, normalized):
            torch.testing.assert_close(twin(batch[0]), model(batch[0]), rtol=1e-9, atol=1e-9)
        for k in (1, 2, 3):
            a, b = (m.get_submodule(f"linear{k}").weight for m in (plain, normalized))
            assert torch.equal(a, b)
        assert not any("norm" in name for name, _ in plain.named_parameters())

    def test_they_part_when_the_weights_move(self, batch):
        plain, normalized = smoothness.twins(network("plain"), batch[0])
        with torch.no_grad():
            for model in (plain, normalized):
                model.linear1.weight *= 2
        assert not torch.allclose(plain(batch[0]), normalized(batch[0]))


def test_range_and_change_along_a_step_of_a_parabola():
    """For the loss (w - 3)^2 / 2 the range and the change of the gradient per distance are known."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    nn.init.zeros_(model[0].weight)
    x, y = torch.ones(1, 1).double(), 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "cross_entropy", lambda out, _: (out - y).square().sum() / 2)
        found = smoothness._along(model, x, None, [0.5, 1.0], unit=True)
    close(found, (4.5 - 2.0, 1.0))
    assert model[0].weight.item() == 0  # and the weights are put back


class TestSmoothness:
    def test_the_looks_leave_the_training_alone_and_have_their_places(self):
        lrs = {"plain": 0.2, "BN": 0.5, "plain, centred": 0.2, "BN, centred": 0.5}
        settings = {"lrs": lrs, "rates": [0.1], "shares": [0.05], "probe": 100, "seeds": (0,)}
        both = smoothness.smoothness(checkpoints=[0, 3], **settings)
        last = smoothness.smoothness(checkpoints=[3], **settings)
        assert both.own.shape == (1, 2, 2, 2, 2)
        assert both.twin.shape == (1, 2, 2, 2, 2, 2)
        close(both.own[:, :, :, 1:], last.own[:, :, :, :], rtol=1e-6)
        close(both.twin[:, :, :, 1:], last.twin[:, :, :, :], rtol=1e-6)


class TestDecay:
    def test_decay_is_a_growing_rate_without_epsilon_and_not_with(self):
        found = decay.decay(eps=[0.0, 1e-2], steps=30, sizes=SIZES)
        exact, loose = found.gap("growing rate")[0]
        assert exact.max() < 1e-9
        assert loose.max() > 1e-5
        assert found.gap("neither")[0].max() > 1e-3

    @pytest.mark.parametrize(("per_step", "first"), [(1, 1), (2, 0)])
    def test_another_exponent_is_not_equal(self, monkeypatch, per_step, first):
        """It is 2t + 1: one for the step and two for each step before, as length acts twice."""

        def wrong(w, time, lr, wd):
            return lambda g: g * (1 - lr * wd) ** -(per_step * time[0] + first)

        monkeypatch.setitem(decay._CHANGES, "growing rate", wrong)
        found = decay.decay(eps=[0.0], steps=30, sizes=SIZES)
        assert found.gap("growing rate").max() > 1e-6


class TestMatchedRows:
    def test_held_rows_at_the_rates_of_the_free_ones_are_the_same_run(self):
        free, held, matched = decay.matched_rows(lr=1.0, steps=20, seed=0, sizes=SIZES)
        close(matched, free, rtol=1e-9)
        assert np.abs(held - free).max() > 1e-3

    def test_with_epsilon_they_are_not(self):
        free, _, matched = decay.matched_rows(lr=1.0, steps=20, seed=0, sizes=SIZES, eps=1e-2)
        assert np.abs(matched - free).max() > 1e-6


class TestDepth:
    def test_effective_rank(self):
        assert depth.effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))) == 2
        assert depth.effective_rank(torch.tensor([[1.0, 2.0], [2.0, 4.0]])) == 1

    def test_normalization_keeps_the_rank_and_shortcuts_add_up(self):
        found = depth.depth_signal(
            ["plain", "BN", "residual plain", "residual BN"], depth=16, width=256, seeds=(5, 6)
        )
        plain, bn, *_ = found.rank.mean(axis=0)
        assert plain[-1] < 2 < bn[-1]
        doubling, adding = (found.square[:, i].mean(axis=0) for i in (2, 3))
        close(np.log2(doubling[-1] / doubling[0]) / 16, 1, atol=0.2)
        close((adding[-1] - adding[0]) / 16, 1, atol=0.1)
