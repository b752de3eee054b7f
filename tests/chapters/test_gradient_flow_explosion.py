"""Gradients against depth: closed forms against sampling and networks, and the stored measurements."""

import numpy as np
import pytest
from _book import book_result

from bnlab.chapters.covariate_shift import signal_depth
from bnlab.chapters.gradient_flow import explosion
from bnlab.stats import t_interval

close = np.testing.assert_allclose


def sampled_rate(g, slope, b, draws=200_000):
    """The rate of the derivation with each expectation sampled: directions uniform on the sphere."""
    z = np.random.default_rng(0).normal(size=(draws, b))
    z -= z.mean(axis=1, keepdims=True)
    u = z / np.linalg.norm(z, axis=1, keepdims=True)
    value, d = g(u * np.sqrt(b)), slope(u * np.sqrt(b))
    spread = value.var(axis=1, ddof=1).mean()  # diagonal minus off-diagonal of E[g g']
    trace = (d**2).sum(1) * (1 - 2 / b) + d.sum(1) ** 2 / b**2
    along = (d**2 * u**2).sum(1) - (d * u).sum(1) ** 2 / b
    return b / spread / (b - 3) * (trace - along).mean() / (b - 1)


NONLINEARITIES = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


@pytest.mark.parametrize("activation", NONLINEARITIES)
@pytest.mark.parametrize("b", [4, 5, 8, 32])
def test_closed_forms_are_the_sampled_expectations(activation, b):
    assert explosion.explosion_rate(activation, b) == pytest.approx(
        sampled_rate(*NONLINEARITIES[activation], b), rel=3e-3
    )


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_closed_forms_reach_their_limit_from_above(activation):
    rates = [explosion.explosion_rate(activation, b) for b in (5, 10, 100, 1000, 10**6)]
    assert (np.diff(rates) < 0).all()
    assert rates[-1] == pytest.approx(explosion.explosion_limit(activation), rel=1e-5)


def test_limits_are_the_known_ones():
    assert explosion.explosion_limit("relu") == pytest.approx(np.pi / (np.pi - 1))
    assert explosion.explosion_limit("linear") == pytest.approx(1)
    z = np.random.default_rng(0).normal(size=1_000_000)
    for name, g in (("tanh", np.tanh), ("sigmoid", lambda v: 1 / (1 + np.exp(-v)))):
        slope = (g(z + 1e-5) - g(z - 1e-5)) / 2e-5
        expected = (slope**2).mean() / g(z).var()
        assert explosion.explosion_limit(name) == pytest.approx(expected, rel=5e-3)
        assert explosion.explosion_limit(name) > 1


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_wide_networks_grow_at_the_closed_form_rate(activation):
    """Up to the interval and one percent, which is what a width of 512 still costs."""
    result = explosion.explosion_rates(activation, batch_sizes=(8, 16), width=512, seeds=range(8))
    interval = t_interval(result.rate, confidence=0.99)
    assert (interval.low <= 1.01 * result.theory).all()
    assert (0.99 * result.theory <= interval.high).all()
    assert (interval.high - interval.low < 0.15).all()
    assert (interval.low > 1.03).all()


def test_without_normalization_the_rate_is_another():
    """The measurement is not blind: the same networks, not normalized, do not grow."""
    plain = signal_depth.profile(
        activation="relu",
        weight_std=(2 / 512) ** 0.5,
        width=512,
        depth=16,
        examples=16,
        seeds=range(6),
    ).gradient
    rate = (plain[:, 3] / plain[:, 12]) ** (2 / 9)
    assert 0.9 < rate.mean() < 1.1


def test_activations_without_a_closed_form_say_so():
    with pytest.raises(ValueError, match=r"'tanh'.*explosion_limit"):
        explosion.explosion_rate("tanh", 8)
    with pytest.raises(ValueError, match="batch_size is 3; expected at least 4"):
        explosion.explosion_rate("relu", 3)
    result = explosion.explosion_rates(
        "tanh", batch_sizes=(16,), width=32, depth=8, skip=1, seeds=range(2)
    )
    assert np.isnan(result.theory).all()
    assert result.limit == explosion.explosion_limit("tanh")


def test_fresh_seeds_are_fresh_and_overlap_where_they_should():
    settings = {"batch_sizes": (8,), "width": 32, "depth": 8, "skip": 1}
    first, later = (
        explosion.explosion_rates("relu", seeds=range(s, s + n), **settings).rate[:, 0]
        for n, s in ((4, 0), (2, 2))
    )
    close(first[2:], later)
    assert not np.isclose(first[:2], later).any()


def test_in_the_stored_ratios_training_calms_what_explodes_at_first():
    stored, _ = book_result("gradient_flow_ratios")
    powers = np.log10(stored.ratio)
    assert (powers[:, :, 0] > 4).all()
    assert (np.diff(powers.mean(axis=1), axis=1) < 0).all()


def test_training_calms_the_explosion_the_faster_the_larger_the_rate():
    fast, slow = explosion.depth_ratios(
        lrs=(0.1, 0.001), checkpoints=(0, 1, 20), depth=40, seeds=(50, 51)
    ).ratio
    close(fast[:, 0], slow[:, 0])
    expected = explosion.explosion_rate("relu", 60) ** (39 / 2)
    assert (fast[:, 0] > expected / 3).all()
    assert (fast[:, 0] < expected * 3).all()
    assert (np.diff(np.log(fast), axis=1) < 0).all()
    assert (fast[:, 1:] < slow[:, 1:]).all()


def test_training_runs_in_float64():
    ratio = explosion.depth_ratios(lrs=(0.1,), checkpoints=(0,), depth=3, seeds=(0,)).ratio
    assert ratio.astype(np.float32) != ratio


def test_no_example_is_special_to_the_units_of_a_random_layer():
    """Their centered values are as wide in all directions of the plane, as far as 500 units can tell."""
    clouds = [explosion.unit_cloud(seed=seed) for seed in range(6)]
    round_ones = np.random.default_rng(0).normal(size=(200, 500, 3))
    by_chance = [type(clouds[0])(z).roundness for z in round_ones]
    assert np.mean([cloud.roundness for cloud in clouds]) > np.min(by_chance)
    together = type(clouds[0])(np.concatenate([cloud.z for cloud in clouds]))
    assert together.roundness > 0.9
    across = together.z - together.z.mean(axis=1, keepdims=True)
    close((together.plane**2).sum(axis=1), (across**2).sum(axis=1))  # the plane keeps lengths
