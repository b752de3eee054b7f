"""The rules of chapter 11 give each verdict they can give, and look at as many intervals as they say."""

import dataclasses
import re

import numpy as np
import pytest

from bnlab.chapters.why_it_works import rules
from bnlab.chapters.why_it_works.results import Arms, Decay, Depth, Smoothness
from bnlab.chapters.why_it_works.rules import explains, share_interval, together
from bnlab.stats import Interval, t_interval

SEEDS = 16


def around(value, spread=0.02, seed=0):
    """Return one positive number for each seed."""
    return value * np.exp(spread * np.random.default_rng(seed).standard_normal(SEEDS))


def one_rate(**measures):
    """Return arms with a single rate: loss, or (loss, drift, held_out), of each."""
    names = tuple(name.replace("_", " ") for name in measures)
    values = [np.broadcast_to(v, 3) for v in measures.values()]
    loss, drift, held = (
        np.stack([around(v[k], seed=i) for i, v in enumerate(values)], axis=1)[..., None]
        for k in range(3)
    )
    return Arms(names, np.ones((len(names), 1)), np.log(10) / 2, loss, drift, held)


def sweeps(**edges):
    """Return arms over rates 2^0 to 2^9 that end at (loss) up to (edge) and at ten times guessing beyond."""
    names = tuple(name.replace("__", ", ").replace("_", " ") for name in edges)
    lr = np.tile(2.0 ** np.arange(10), (len(names), 1))
    loss = np.empty((SEEDS, *lr.shape))
    for i, (edge, low) in enumerate(edges.values()):
        loss[:, i] = np.where(lr[i] <= edge, low * (1 + lr[i] / 1e4), 23.0)
        loss[:, i] *= around(1.0, seed=i)[:, None]
    return Arms(names, lr, np.log(10) / 2, loss, loss * np.nan, loss * np.nan)


class TestShares:
    def test_the_interval_is_the_set_of_ratios_that_a_paired_test_does_not_refuse(self):
        rng = np.random.default_rng(3)
        whole = 2 + 0.3 * rng.standard_normal(SEEDS)
        part = 0.4 * whole + 0.2 * rng.standard_normal(SEEDS)
        found = share_interval(part, whole, 0.99)
        for end in (found.low, found.high):
            test = t_interval(part - end * whole, confidence=0.99)
            assert min(abs(test.low), abs(test.high)) < 1e-4
        assert found.low < found.mean < found.high

    @pytest.mark.parametrize("seeds", [5, 16])
    def test_a_whole_that_may_be_zero_leaves_the_share_open(self, seeds):
        whole = np.random.default_rng(0).standard_normal(seeds)
        found = share_interval(whole + 1, whole, 0.95)
        assert np.isinf([found.low, found.high]).all()
        assert explains(found) == "open"

    @pytest.mark.parametrize(
        ("low", "high", "word"),
        [
            (0.6, 0.9, "holds"),
            (0.2, 0.9, "partly"),
            (0.05, 0.9, "open"),
            (-3, 0.05, "false"),
            (0.02, 0.3, "open"),
        ],
    )
    def test_the_words(self, low, high, word):
        assert explains(Interval(*map(np.asarray, ((low + high) / 2, low, high)))) == word

    def test_words_together(self):
        assert together("holds", "holds") == "holds"
        assert together("holds", "false") == "partly"
        assert together("open", "false") == "open"
        assert together("false", "false") == "false"


class TestInputs:
    @pytest.mark.parametrize(
        ("edge", "loss", "word"), [(32, 0.06, "holds"), (2, 0.5, "false"), (8, 0.5, "partly")]
    )
    def test_each_verdict(self, edge, loss, word):
        runs = sweeps(plain=(2, 0.5), plain__centred=(edge, loss), BN=(64, 0.05))
        assert rules.inputs(runs, runs).verdict == word

    def test_the_rate_is_that_of_the_search(self):
        search, runs = (sweeps(plain=(2, 0.5), BN=(64, 0.05)) for _ in range(2))
        search.loss[:, 1, 3] = 0.001
        runs.loss[:, 1, 3] = 0.4
        np.testing.assert_allclose(rules.end_loss(search, runs, "BN"), 0.4)

    def test_a_failed_run_counts_as_guessing(self):
        runs = sweeps(plain=(2, 0.5), BN=(64, 0.05))
        runs.loss[2, 0] = np.inf
        search = dataclasses.replace(runs, loss=runs.loss[:2])
        assert rules.end_loss(search, runs, "plain")[2] == np.log(10)


@pytest.mark.parametrize(
    ("noisy", "word"),
    [
        ((0.1, 0.5, 0), "false"),
        ((0.9, 0.5, 0), "holds"),
        ((0.1, 0.1, 0), "open"),
        ((0.5, 0.5, 0), "open"),
    ],
)
def test_shift(noisy, word):
    noisy = tuple(max(v, 1e-9) for v in noisy)
    assert (
        rules.shift(one_rate(plain=(0.5, 0.2, 1), noisy_BN=noisy, BN=(0.05, 0.02, 1))).verdict
        == word
    )


@pytest.mark.parametrize(
    ("held", "fixed", "word"), [(64, 128, "false"), (2, 2, "holds"), (64, 2, "partly")]
)
def test_rows(held, fixed, word):
    parts = sweeps(plain=(2, 0.5), BN=(64, 0.05))
    rows = sweeps(
        BN__rows_held=(held, 0.05), BN__last_fixed=(128, 0.05), BN__last_fixed__rows_held=(fixed, 0.05),
        plain__last_fixed=(1, 0.5),
    )  # fmt: skip
    assert rules.rows(parts, rows).verdict == word


def smooth(own, twin):
    """Return a result whose plain nets have so many times the range and change of those with BN."""
    both = np.ones((SEEDS, 2, 2, 3, 2)) * around(1.0)[:, None, None, None, None]
    both[:, :, 0] *= own * around(1.0, seed=1)[:, None, None, None]
    pair = np.ones((SEEDS, 2, 2, 3, 2, 2))
    pair[..., 0, :] *= np.reshape(twin, (-1, 1, 1, 1))  # one for both inputs, or one for each
    pair *= around(1.0, seed=2).reshape(-1, 1, 1, 1, 1, 1)
    pair[..., 0, :] *= around(1.0, seed=3).reshape(-1, 1, 1, 1, 1)
    pair[:, :, :, 0] = 1e-9  # before the first step: not looked at
    return Smoothness(("raw", "centred"), ("plain", "BN"), (0, 10, 100), both, pair)


def test_smoothness():
    assert rules.smooth_as_trained(smooth(3, 1)).verdict == "holds"
    assert rules.smooth_as_trained(smooth(0.3, 1)).verdict == "false"
    assert rules.smooth_as_trained(smooth(1, 1)).verdict == "open"
    assert rules.smooth_twins(smooth(1, 2)).verdict == "holds"
    assert rules.smooth_twins(smooth(1, [2, 0.5])).verdict == "partly"


def test_noise():
    held = {f"ghost_{n}": (1, 1, 0.4) for n in (*rules.GHOSTS, 64)} | {
        f"noise_{n}": (1, 1, 0.4) for n in rules.NOISES
    }
    assert rules.noise(one_rate(**held)).verdict == "false"
    assert rules.noise(one_rate(**held | {"ghost_8": (1, 1, 0.3)})).verdict == "partly"
    assert (
        rules.noise(one_rate(**held | {"ghost_8": (1, 1, 0.3), "noise_16": (1, 1, 0.3)})).verdict
        == "partly"
    )
    assert (
        rules.noise(one_rate(**held | {"ghost_8": (1, 1, 0.3), "noise_8": (1, 1, 0.3)})).verdict
        == "holds"
    )
    runs = one_rate(**held)
    runs.held_out[:, 2, 0] = around(0.38, spread=0.3)
    assert rules.noise(runs).verdict == "open"


def deep(rank, added, doublings):
    square = np.ones((SEEDS, 4, 51)) * around(1.0)[:, None, None]
    square[:, 3] += np.arange(51) * around(added, seed=4)[:, None]
    square[:, 2] *= 2.0 ** (np.arange(51) * doublings)
    ranks = np.ones((SEEDS, 4, 51))
    ranks[:, 1] = around(rank)[:, None]
    return Depth(("plain", "BN", "residual plain", "residual BN"), 64, ranks, square)


def test_depth():
    assert rules.rank_kept(deep(9, 1, 1)).verdict == "holds"
    assert rules.rank_kept(deep(1.2, 1, 1)).verdict == "false"
    assert rules.skip_growth(deep(9, 1, 1)).verdict == "holds"
    assert rules.skip_growth(deep(9, 1.3, 1)).verdict == "open"
    assert rules.skip_growth(deep(9, 1, 0.5)).verdict == "open"
    for loss, word in ((0.1, "holds"), (2.0, "false"), (0.9, "partly")):
        runs = one_rate(
            plain=2, frozen=loss, BN=0.1, residual_plain=2, residual_from_zero=loss, residual_BN=0.1
        )
        assert rules.rank_enough(runs).verdict == rules.skip_enough(runs).verdict == word


def test_constants_and_detached():
    names = {
        f"{a}{c}": (64, 0.05)
        for a in ("frozen", "running", "detached", "BN")
        for c in ("", "__centred")
    }
    plain = {"plain": (2, 0.5), "plain__centred": (4, 0.4)}
    runs = sweeps(**names | plain)
    assert rules.constants(runs, runs).verdict == rules.detached(runs, runs).verdict == "holds"
    bad = {name: (2, 0.5) for name in names if "BN" not in name}
    runs = sweeps(**names | plain | bad)
    assert rules.constants(runs, runs).verdict == rules.detached(runs, runs).verdict == "false"


def test_effect():
    runs = sweeps(plain=(2, 0.5), BN=(64, 0.05), plain__centred=(4, 0.4), BN__centred=(64, 0.05))
    assert rules.effect(runs, runs).verdict == "holds"
    runs = sweeps(plain=(2, 0.5), BN=(64, 0.05), plain__centred=(4, 0.05), BN__centred=(64, 0.05))
    assert rules.effect(runs, runs).verdict == "partly"


def test_decay():
    loss = np.ones((SEEDS, 2, 3, 400))
    found = Decay(np.array([0.0, 1e-5]), 0.5, 0.01, ("decay", "growing rate", "neither"), loss)
    assert rules.decay_is_a_rate(found) == "holds"
    loss[:, 1, 1, 200:] = 1.1
    assert rules.decay_is_a_rate(found) == "partly"
    loss[3, 0, 1, 7] = 1.1
    assert rules.decay_is_a_rate(found) == "false"


def test_every_rule_says_its_rule_in_one_sentence():
    for rule, _ in rules.RULES.values():
        assert re.fullmatch(r".+\.", rule.__doc__)
