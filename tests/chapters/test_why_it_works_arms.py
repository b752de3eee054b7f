"""The networks of chapter 11: each layer keeps the part it says, and each run is what it says."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlab import models, training
from bnlab.chapters.why_it_works import arms, layers
from bnlab.chapters.why_it_works.arms import ARMS, Networks, digits, train_arms
from bnlab.chapters.why_it_works.results import Arms

close = torch.testing.assert_close
SIZES = (784, 20, 20, 10)


def norm(x):
    """Batch Normalization of one member by torch."""
    return nn.BatchNorm1d(x.shape[-1]).double()(x)


@pytest.fixture
def x():
    return 3 + 2 * torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(1)).double()


def made(kind, members=2, units=5, **options):
    return kind(range(members), units, **options).double()


class TestLayers:
    @pytest.mark.parametrize("kind", [layers.BatchNorm, layers.DetachedBatchNorm])
    def test_each_member_is_normalized_as_torch_does(self, x, kind):
        close(made(kind)(x), torch.stack([norm(own) for own in x]))

    def test_only_the_detached_one_lets_the_common_gradient_through(self, x):
        x.requires_grad_()
        grad = {
            k: torch.autograd.grad(made(k)(x).sum(), x)[0]
            for k in (layers.BatchNorm, layers.DetachedBatchNorm)
        }
        close(grad[layers.BatchNorm], torch.zeros_like(x), atol=1e-9, rtol=0)
        assert (grad[layers.DetachedBatchNorm] > 0.1).all()

    def test_frozen_statistics_are_those_of_the_first_batch(self, x):
        layer = made(layers.HeldBatchNorm, momentum=0.0)
        close(layer(x), made(layers.BatchNorm)(x))
        std = (x.var(dim=1, correction=0, keepdim=True) + layer.eps).sqrt()
        close(layer(x + 2) - layer(x), (2 / std).expand(x.shape))

    def test_running_statistics_follow_and_are_constants_for_the_gradient(self, x):
        layer = made(layers.HeldBatchNorm, momentum=0.1)
        layer(x), layer(x + 2)
        close(layer.held[1], x.mean(dim=1, keepdim=True) + 0.2)
        x.requires_grad_()
        assert (torch.autograd.grad(layer(x).sum(), x)[0] > 0.1).all()

    def test_groups_are_normalized_apart(self, x):
        ghost = made(layers.GhostBatchNorm, size=16)(x)
        close(ghost, torch.stack([torch.cat([norm(part) for part in own.split(16)]) for own in x]))

    @pytest.mark.parametrize("size", [8, 32])
    def test_matched_noise_has_the_size_of_the_groups_own(self, size):
        x = torch.randn(1, 4096, 8, generator=torch.Generator().manual_seed(2)).double()
        plain = made(layers.BatchNorm, 1, 8)(x)
        ghost, noise = (
            (made(kind, 1, 8, size=size)(x) - plain).square().mean().item()
            for kind in (layers.GhostBatchNorm, layers.MatchedNoise)
        )
        assert noise == pytest.approx(ghost, rel=0.25)

    def test_noise_moves_units_and_not_examples(self, x):
        y = made(layers.Noise, strength=0.5)(x)
        for unit in range(5):  # a straight line of each unit's values
            slope, shift = np.polyfit(x[0, :, unit], y[0, :, unit], 1)
            assert slope > 0
            close(y[0, :, unit], slope * x[0, :, unit] + shift)
        assert not torch.allclose(y, x)

    def test_noise_is_drawn_anew_and_for_each_member_from_its_seed(self, x):
        both, second = made(layers.Noise, strength=0.5), layers.Noise([1], 5, strength=0.5)
        first = both(x)
        close(second(x[1:]), first[1:])
        assert not torch.allclose(both(x), first)

    def test_noise_follows_normalization(self, x):
        noisy = made(layers.NoisyBatchNorm, strength=0.0)
        close(noisy(x), made(layers.BatchNorm)(x))
        assert not torch.allclose(made(layers.NoisyBatchNorm, strength=0.5)(x), noisy(x))


class TestNetworks:
    @pytest.mark.parametrize("name", ARMS)
    def test_every_arm_has_a_finite_gradient_in_float64(self, name):
        x = torch.tensor(digits("search")[0].x[:512]).double().expand(2, -1, -1)
        networks = Networks(ARMS[name], [0, 1], SIZES)
        out = networks(x)
        assert out.shape == (2, 512, 10)
        assert out.dtype == torch.float64
        learned = [p for p in networks.parameters() if p.requires_grad]
        assert all(
            torch.isfinite(g).all() for g in torch.autograd.grad(out.square().mean(), learned)
        )

    @pytest.mark.parametrize(("name", "kind"), [("plain", None), ("BN", nn.BatchNorm1d)])
    def test_a_member_is_the_network_of_its_seed(self, name, kind):
        x = torch.rand(2, 30, 784).double()
        both = Networks(ARMS[name], [3, 4], SIZES)(x)
        for own, seed, out in zip(x, (3, 4), both, strict=True):
            model = models.mlp(
                SIZES, activation="relu", norm=kind, init_std="he", seed=seed
            ).double()
            close(out, model(own))

    def test_a_way_around_each_layer_but_the_first_and_last(self):
        x = torch.rand(1, 30, 784).double()
        sizes = (784, 8, 8, 8, 10)
        networks = Networks(ARMS["residual plain"], [0], sizes)
        first, *middle, last = networks.linears
        h = first(x)
        for layer in middle:
            h = h + layer(h.relu())
        close(networks(x), last(h.relu()))
        zero = Networks(ARMS["residual from zero"], [0], sizes)
        close(zero.look(x)[0][-2], first(x))

    def test_shares_are_learned_only_if_they_begin_at_zero(self):
        for name, learned in (
            ("residual from zero", True),
            ("residual BN", False),
            ("plain", False),
        ):
            assert Networks(ARMS[name], [0], SIZES).share.requires_grad == learned

    def test_the_last_layer_is_fixed_where_it_should_be(self):
        fixed = [
            n for n, p in Networks(ARMS["BN, last fixed"], [0], SIZES).named_parameters()
            if not p.requires_grad and n != "share"
        ]  # fmt: skip
        assert fixed == ["linears.2.weight", "linears.2.bias"]


class TestDigits:
    def test_search_and_report_have_no_digit_in_common(self):
        rows = np.concatenate([part.x for kind in ("search", "report") for part in digits(kind)])
        assert len(rows) == 5000
        assert len(np.unique(rows, axis=0)) == 5000

    def test_centred_means_by_the_training_digits(self):
        train, held_out = digits("report", centred=True)
        assert np.abs(train.x.mean(axis=0)).max() < 1e-5
        assert np.abs(held_out.x.mean(axis=0)).max() > 1e-3


class TestTraining:
    @pytest.mark.parametrize(("name", "kind"), [("plain", None), ("BN", nn.BatchNorm1d)])
    def test_a_member_learns_as_if_it_were_alone(self, name, kind):
        found = train_arms(
            [name], [[0.2, 0.8]], images="search", steps=12, last=12, sizes=SIZES, seeds=(7, 8)
        )
        model = models.mlp(SIZES, activation="relu", norm=kind, init_std="he", seed=8).double()
        alone = training.train(model, digits("search")[0], lr=0.8, steps=12, batch_size=60, seed=8)
        assert found.loss[1, 0, 1] == pytest.approx(alone.loss.mean(), rel=1e-9)

    def test_rows_that_are_held_keep_their_length_and_others_grow(self, monkeypatch):
        seen = []

        def look(networks, *_):
            seen.append([linear.weight.norm(dim=1) for linear in networks.linears])
            return np.zeros(1)

        monkeypatch.setattr(arms, "_unseen_loss", look)
        names = ["BN, rows held", "BN"]
        train_arms(names, [[1.0]] * 2, images="search", steps=5, sizes=SIZES, last=1, held_out=True)
        start = [w.weight.norm(dim=1) for w in Networks(ARMS["BN"], [0], SIZES).linears]
        close(seen[0][:2], start[:2])
        assert not torch.allclose(seen[0][2], start[2])  # the last layer is not normalized
        assert all(
            (free > 0.999 * first).all() for free, first in zip(seen[1][:2], start[:2], strict=True)
        )

    def test_noise_after_normalization_moves_what_the_next_layer_receives(self):
        names = ["BN", "noisy BN", "plain"]
        found = train_arms(names, [[0.5]] * 3, images="search", steps=22, sizes=SIZES, drift=True)
        assert found.of("noisy BN", "drift") > 3 * found.of("BN", "drift")
        assert found.of("plain", "drift") > found.of("BN", "drift")

    def test_the_held_out_loss_uses_the_statistics_of_the_training_digits(self):
        given, unseen = digits("search", train=512)
        networks = Networks(ARMS["ghost 64"], [0], SIZES)
        model = models.mlp(
            SIZES, activation="relu", norm=nn.BatchNorm1d, init_std="he", seed=0
        ).double()
        with torch.no_grad():
            for k in (1, 2):
                layer = model.get_submodule(f"norm{k}")
                layer.momentum = None
                nn.init.normal_(layer.bias)
                networks.norms[k - 1].beta.copy_(layer.bias)
        x, _ = training.tensors(given, dtype=torch.float64)
        model(x)  # one batch of all: biased and unbiased variance differ by 1 in 512
        new, y = training.tensors(unseen, dtype=torch.float64)
        expected = nn.functional.cross_entropy(model.eval()(new), y).item()
        assert arms._unseen_loss(networks, given, unseen)[0] == pytest.approx(expected, rel=5e-3)

    def test_a_run_that_failed_is_infinite(self):
        found = train_arms(["frozen"], [[0.05, 1e6]], images="search", steps=8, sizes=SIZES, last=2)
        assert np.isfinite(found.loss[0, 0]).tolist() == [True, False]


def test_the_largest_stable_rate_is_the_first_crossing_above_the_best():
    loss = np.array(
        [
            [[2.0, 0.2, 0.5, 1.5, 0.1]],
            [[2.0, 0.2, 0.5, 0.5, 0.3]],
            [[2.0, 0.4, np.inf, 0.6, 2]],
            [[2.0] * 5],
        ]
    )
    found = Arms(("a",), np.array([[1.0, 4, 16, 64, 256]]), 1.0, loss, loss, loss)
    np.testing.assert_allclose(found.largest_stable("a"), [256, 256, 4, np.nan])
    with pytest.raises(ValueError, match="has 5 rates"):
        found.of("a")
    found.loss[[0, 2, 3]] = found.loss[1]
    assert found.best("a") == 1
