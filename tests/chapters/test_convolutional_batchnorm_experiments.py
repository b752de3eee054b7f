"""The measurements of Chapter 8: what the prose claims, on fewer seeds and steps."""

import numpy as np
import pytest
import torch
from _book import book_result
from torch import nn

from bnlab import models, training
from bnlab.chapters.convolutional_batchnorm import experiments as experiments
from bnlab.chapters.convolutional_batchnorm.small_nets import mobile_net, residual_net
from bnlab.stats import t_interval


class TestShift:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return experiments.shift_test(seeds=(0, 1, 2))

    def error(self, result, normalization, case):
        return result.error[:, result.normalizations.index(normalization), result.cases.index(case)]

    @pytest.mark.parametrize("case", experiments.SHIFT_CASES)
    @pytest.mark.parametrize("normalization", ["none", "per map"])
    def test_one_pair_a_map_keeps_the_convolutional_property(self, result, normalization, case):
        assert (self.error(result, normalization, case) < 1e-12).all()

    def test_a_pair_for_each_position_breaks_it(self, result):
        for case in experiments.SHIFT_CASES[1:]:
            assert (self.error(result, "per activation", case) > 0.1).all()

    def test_the_wrong_test_does_not_notice(self, result):
        case = "training, all images moved, gamma 1, beta 0"
        assert (self.error(result, "per activation", case) < 1e-12).all()

    def test_the_function_under_test_is_the_layer(self):
        generator = torch.Generator().manual_seed(0)
        kernel = torch.randn(3, 1, 3, 3, generator=generator, dtype=torch.float64)
        x = torch.randn(5, 1, 28, 28, generator=generator, dtype=torch.float64)
        conv = nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular", bias=False).double()
        conv.weight.data.copy_(kernel)
        for name, layer in (
            ("per map", nn.BatchNorm2d(3).double()),
            ("per activation", experiments.PerActivation(3, 28).double()),
        ):
            f = experiments._normalized_convolution(name, kernel, x, generator)
            torch.testing.assert_close(f(x, True, False), layer(conv(x)))


def test_per_activation_is_a_pair_for_each_position():
    layer = experiments.PerActivation(2, 3)
    x = torch.randn(7, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    var, mean = torch.var_mean(x, 0, correction=0)
    torch.testing.assert_close(layer(x), (x - mean) / (var + 1e-5).sqrt())
    assert sum(p.numel() for p in layer.parameters()) == 2 * 2 * 9


def test_shifted_digits_tests_what_was_trained():
    result = experiments.shifted_digits(
        steps=20, shifts=(0, 3), rates=(0.1,), seeds=(0,), channels=(3, 4)
    )
    assert result.accuracy.shape == (1, 3, 1, 2)
    train, test = experiments._digits()
    model = models.convnet(channels=(3, 4), norm=nn.BatchNorm2d, seed=0)
    training.train(model, train, lr=0.1, steps=20, batch_size=60, seed=0)
    assert result.accuracy[0, 1, 0, 0] == pytest.approx(training.accuracy(model.eval(), test))


class TestWorth:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return experiments.effective_batch(seeds=(0, 1, 2), digits=300)

    def test_theory_predicts_it(self, result):
        ratio = result.measured / result.theory
        assert ratio == pytest.approx(np.ones_like(ratio), abs=0.1)

    def test_far_fewer_than_there_are_in_the_first_layer_and_far_more_than_images(self, result):
        m = result.images * result.positions
        assert (result.measured[:, 0] < m[0] / 2).all()
        assert (result.measured > 10 * result.images).all()

    def test_independent_values_would_count_in_full(self):
        rng = np.random.default_rng(0)
        maps = rng.normal(size=(400, 2, 50))
        chosen = rng.integers(400, size=(4000, 20))
        positions, rho, pattern, theory, measured = experiments._worth(maps, chosen)
        assert positions == 50
        assert rho == pytest.approx(1 / 50, rel=0.2)
        assert pattern < 0.01
        assert theory == pytest.approx(20 * 50, rel=0.2)
        assert measured == pytest.approx(theory, rel=0.1)

    def test_a_pattern_that_all_images_share_makes_values_worth_more(self):
        rng = np.random.default_rng(0)
        noise, pattern = rng.normal(size=(400, 2, 50)), 2 * rng.normal(size=(1, 1, 50))
        chosen = rng.integers(400, size=(4000, 20))
        alone, both = (experiments._worth(x, chosen) for x in (noise, noise + pattern))
        share = (pattern.var() + 1 / 400) / (pattern.var() + 1)  # the mean of the noise remains
        assert both[2] == pytest.approx(share, rel=0.02)
        assert both[4] == pytest.approx(alone[4] * (1 + pattern.var()), rel=0.05)


class TestTwins:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return experiments.library_twins(steps=15, seeds=(0, 1), channels=(3, 4))

    def test_in_float64_they_are_one(self, result):
        assert result.loss_gap[:, :, 0].max() < 1e-9
        assert result.weight_gap[:, :, 0].max() < 1e-9

    def test_in_float32_they_part_as_far_as_one_bit_takes_them(self, result):
        gaps = t_interval(result.weight_gap[:, :, 1, -1], geometric=True).mean
        assert (gaps > 1e-9).all()
        assert (gaps < 1e-3).all()

    def test_a_smooth_network_parts_without_jumps(self):
        result = experiments.library_twins(steps=15, seeds=(0,), channels=(3, 4), kinks=False)
        assert not result.kinks
        assert _largest_jump(result).max() < 2
        assert result.weight_gap[:, :, 0].max() < 1e-12

    def test_the_first_run_is_torchs_own_training(self, result):
        model = models.convnet(channels=(3, 4), norm=nn.BatchNorm2d, seed=1).double()
        train = experiments._digits()[0]
        history = training.train(model, train, lr=0.05, steps=15, batch_size=60, seed=1)
        np.testing.assert_allclose(result.loss[1, 0], history.loss, rtol=1e-9)


class TestFoldedNets:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return experiments.folded_nets(batch_sizes=(2,), repeats=1, width=4)

    def test_what_is_folded_and_left(self, result):
        assert result.networks == ("plain", "residual", "mobile")
        assert result.folded.tolist() == [2, 10, 13]
        assert result.left.tolist() == [0, 3, 0]
        assert (result.error < 1e-5).all()
        assert result.seconds.shape == (1, 3, 1, 2)
        assert (result.seconds > 0).all()

    def test_each_folded_normalization_frees_four_numbers_a_map_and_costs_a_bias(self, result):
        for i, net in ((1, residual_net(width=4)), (2, mobile_net(width=4))):
            norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
            left = 3 * 8 if i == 1 else 0
            maps = sum(m.num_features for m in norms) - left
            saved = 3 * maps + result.folded[i]  # gamma, beta, mean, var, less a bias; a count
            before, after = result.numbers[i]
            assert before - after == saved


@pytest.mark.parametrize("build", [residual_net, mobile_net])
def test_networks_leave_the_random_state_alone_and_have_statistics(build):
    before = torch.get_rng_state()
    net, same, other = build(width=4), build(width=4), build(width=4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    states = [list(m.state_dict().values()) for m in (net, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not torch.equal(states[0][0], states[2][0])
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean.abs().max() > 0.1


# ---- what the chapter shows ---------------------------------------------------------------------


def test_stored_shifted_digits_say_what_the_chapter_says():
    result, _ = book_result("conv_shifted_digits")
    best = [result.accuracy[:, j, :, 0].mean(axis=0).argmax() for j in range(3)]
    none, per_map, per_activation = (result.accuracy[:, j, best[j]] for j in range(3))
    assert (t_interval(per_map - per_activation).low > 0).all()
    loss = per_map[:, 0] - per_map[:, -1], per_activation[:, 0] - per_activation[:, -1]
    assert t_interval(loss[1] - loss[0]).low > 0
    assert none.shape == per_map.shape


def test_stored_twins_say_what_the_chapter_says():
    kinks, smooth = (book_result(f"conv_{name}_twins")[0] for name in ("library", "smooth"))
    assert (kinks.kinks, smooth.kinks) == (True, False)
    for result in (kinks, smooth):
        assert result.loss_gap[:, :, 0].max() < 1e-9  # float64: one curve
    last = t_interval(smooth.weight_gap[..., -1], geometric=True).mean
    assert 0.3 < last[0, 1] / last[1, 1] < 3  # float32, smooth: another library is one bit
    assert _largest_jump(smooth).max() < 2
    assert (_largest_jump(kinks) > 2).sum() >= 4


def _largest_jump(result):
    gap = result.weight_gap[:, 0, 1]
    return (gap[:, 6:] / gap[:, 5:-1]).max(axis=1)


def test_stored_folding_says_what_the_chapter_says():
    result, _ = book_result("conv_folded_nets")
    assert result.folded.tolist() == [2, 10, 13]
    assert result.left.tolist() == [0, 3, 0]
    assert (result.error < 1e-5).all()
    ratio = t_interval(result.seconds[..., 1] / result.seconds[..., 0], geometric=True)
    assert (ratio.high[:, 0] < 1).all()  # one image a call
    assert ratio.high[2, 1] < 1  # 32 images, the mobile network
