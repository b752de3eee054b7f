"""The networks of chapter 11: each layer keeps the part it says, and each run is what it says."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bnlab.chapters.why_it_works import arms
from bnlab.chapters.why_it_works.arms import ARMS, build, digits, train_arms
from bnlab.chapters.why_it_works.layers import (
    GhostBatchNorm,
    HeldBatchNorm,
    MatchedNoise,
    Noise,
    Residual,
)
from bnlab.chapters.why_it_works.results import Arms

close = torch.testing.assert_close
SIZES = (784, 20, 20, 10)


@pytest.fixture
def x():
    return 3 + 2 * torch.randn(64, 5, generator=torch.Generator().manual_seed(1)).double()


class TestLayers:
    def test_frozen_statistics_are_those_of_the_first_batch(self, x):
        layer = HeldBatchNorm(5, momentum=0.0).double()
        close(layer(x), nn.BatchNorm1d(5).double()(x))
        close(
            layer(x + 2) - layer(x), 2 / (x.var(0, correction=0) + layer.eps).sqrt().expand(64, 5)
        )

    def test_running_statistics_follow(self, x):
        layer = HeldBatchNorm(5, momentum=0.1).double()
        layer(x), layer(x + 2)
        close(layer.running_mean, x.mean(0) + 0.2)

    def test_held_statistics_are_constants_for_the_gradient(self, x):
        x.requires_grad_()
        HeldBatchNorm(5, momentum=0.1).double()(x).sum().backward()
        assert (x.grad > 0).all()  # Batch Normalization's own would be zero

    def test_held_statistics_stay_in_evaluation(self, x):
        layer = HeldBatchNorm(5, momentum=0.1).double()
        layer(x)
        before = layer.running_mean.clone()
        layer.eval()(x + 5)
        close(layer.running_mean, before)

    def test_groups_are_normalized_apart(self, x):
        layer = GhostBatchNorm(5, size=16).double()
        close(layer(x), torch.cat([nn.BatchNorm1d(5).double()(part) for part in x.split(16)]))

    def test_matched_noise_has_the_size_of_the_groups_own(self):
        x = torch.randn(4096, 8, generator=torch.Generator().manual_seed(2)).double()
        plain = nn.BatchNorm1d(8).double()(x)
        for size in (8, 32):
            ghost, noise = (
                (kind(8, size=size).double()(x) - plain).square().mean().item()
                for kind in (GhostBatchNorm, MatchedNoise)
            )
            assert noise == pytest.approx(ghost, rel=0.25)

    def test_noise_moves_units_and_not_examples(self, x):
        y = Noise(5, strength=0.5)(x)
        for unit in range(5):  # a straight line of each unit's values
            slope, shift = np.polyfit(x[:, unit], y[:, unit], 1)
            assert slope > 0
            close(y[:, unit], slope * x[:, unit] + shift)
        assert not torch.allclose(y, x)

    def test_noise_is_drawn_anew_but_a_copy_draws_the_same(self, x):
        layer = Noise(5, strength=0.5)
        twin = copy.deepcopy(layer)
        first = layer(x)
        close(twin(x), first)
        assert not torch.allclose(layer(x), first)

    def test_a_way_around_each_layer_but_the_first_and_last(self, x):
        stack = build(ARMS["plain"], 0, (5, 4, 4, 4, 3))
        first, *middle, last = (layer for layer in stack if isinstance(layer, nn.Linear))
        h = first(x)
        for layer in middle:
            h = h + layer(h.relu())
        close(Residual(stack, 1.0)(x), last(h.relu()))
        close(Residual(stack, 0.0).double()(x), last(first(x).relu()))


class TestBuild:
    @pytest.mark.parametrize("name", ARMS)
    def test_every_arm_can_be_trained_in_float64(self, name):
        images, _ = digits("search")
        model = build(ARMS[name], 0, SIZES)
        out = model(torch.tensor(images.x[:512]).double())
        assert out.dtype == torch.float64
        out.square().mean().backward()
        assert torch.isfinite(out).all()

    def test_the_last_layer_is_fixed_where_it_should_be(self):
        fixed = [
            n
            for n, p in build(ARMS["BN, last fixed"], 0, SIZES).named_parameters()
            if not p.requires_grad
        ]
        assert fixed == ["linear3.weight", "linear3.bias"]
        assert all(p.requires_grad for p in build(ARMS["BN"], 0, SIZES).parameters())

    def test_shares_are_learned_only_if_they_begin_at_zero(self):
        for name, learned in (("residual from zero", True), ("residual BN", False)):
            assert build(ARMS[name], 0, SIZES).share.requires_grad == learned

    def test_arms_of_one_seed_begin_with_the_same_weights(self):
        plain, normalized = (build(ARMS[name], 3, SIZES) for name in ("plain", "noisy BN"))
        close(plain.linear2.weight, normalized.linear2.weight)


class TestDigits:
    def test_search_and_report_have_no_digit_in_common(self):
        parts = [part.x for kind in ("search", "report") for part in digits(kind)]
        rows = np.concatenate(parts)
        assert len(rows) == 5000
        assert len(np.unique(rows, axis=0)) == 5000

    def test_centred_means_by_the_training_digits(self):
        train, held_out = digits("report", centred=True)
        assert np.abs(train.x.mean(axis=0)).max() < 1e-5
        assert np.abs(held_out.x.mean(axis=0)).max() > 1e-3


class TestTraining:
    def test_rows_that_are_held_keep_their_length(self, monkeypatch):
        lengths = {}

        def seen(model, *args):
            lengths[len(lengths)] = [
                w.norm(dim=1) for n, w in model.named_parameters() if w.ndim == 2
            ]
            return 0.0

        monkeypatch.setattr(arms, "_held_out_loss", seen)
        names = ["BN, rows held", "BN"]
        train_arms(names, [[1.0]] * 2, images="search", steps=5, sizes=SIZES, last=1, held_out=True)
        start = [
            w.norm(dim=1) for n, w in build(ARMS["BN"], 0, SIZES).named_parameters() if w.ndim == 2
        ]
        close(lengths[0][:2], start[:2])
        assert not torch.allclose(lengths[0][2], start[2])  # the last layer is not normalized
        assert all(
            (free > 0.999 * first).all() for free, first in zip(lengths[1][:2], start, strict=False)
        )

    def test_noise_after_normalization_moves_what_the_next_layer_receives(self):
        names = ["BN", "noisy BN", "plain"]
        found = train_arms(names, [[0.5]] * 3, images="search", steps=21, sizes=SIZES, drift=True)
        assert found.of("noisy BN", "drift") > 3 * found.of("BN", "drift")
        assert found.of("plain", "drift") > found.of("BN", "drift")

    def test_the_held_out_loss_is_of_the_weights_that_were_trained(self):
        settings = {
            "images": "search",
            "sizes": SIZES,
            "held_out": True,
            "train": 512,
            "batch_size": 256,
        }
        few, many = (
            train_arms(["ghost 64"], [[0.5]], steps=s, last=1, **settings) for s in (1, 40)
        )
        assert many.held_out < 0.6 * few.held_out

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
    assert found.best("a") == 1
