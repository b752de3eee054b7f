"""Experiments of gradient flow: identities that must hold, closed forms against sampling, sweeps."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from bnlab.chapters.gradient_flow import experiments as gradient_flow
from bnlab.chapters.gradient_flow.results import RateSweep
from bnlab.experiments import Provenance, load, save
from bnlab.stats import t_interval

close = np.testing.assert_allclose

STORED = Path(__file__).parents[2] / "book" / "results"


# ---- scale invariance ------------------------------------------------------------------------------


def test_without_eps_scale_changes_nothing_but_the_weight_gradient():
    result = gradient_flow.scale_invariance([1e-3, 0.5, 1.0, 7.0, 1e4])
    for values in (result.output, result.du, result.dw, result.radial):
        assert values.max() < 1e-11
    close(result.radial_theory, 0)


def test_with_eps_small_weights_break_the_invariance_and_large_ones_do_not():
    result = gradient_flow.scale_invariance([1e-3, 1.0, 1e3], eps=1e-5)
    assert result.output[0] > 0.5
    assert result.output[1] == 0
    assert result.output[2] < 1e-4
    # at the largest scale terms of up to 4 cancel down to 3e-10: allow for their rounding
    close(result.radial, result.radial_theory, rtol=1e-6, atol=1e-13)
    assert (np.diff(result.radial) < 0).all()


# ---- one neuron ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_squared_lengths_follow_pythagoras(decay):
    run = gradient_flow.neuron_run(lr=0.3, weight_decay=decay, steps=40, seeds=3)
    expected = (1 - 0.3 * decay) ** 2 * run.norm2[:, :-1] + 0.3**2 * run.grad2
    close(run.norm2[:, 1:], expected, rtol=1e-12)
    assert np.abs(run.radial).max() < 1e-13


def test_eps_breaks_the_right_angle():
    run = gradient_flow.neuron_run(lr=0.1, eps=1.0, steps=20, seeds=3)
    assert np.abs(run.radial).max() > 1e-3
    close(run.norm2[:, 1:], run.norm2[:, :-1] - 0.2 * run.radial + 0.01 * run.grad2, rtol=1e-12)


def test_the_length_settles_where_theory_says():
    run = gradient_flow.neuron_run(lr=0.4, weight_decay=0.01, steps=1500, seeds=10)
    late = slice(700, 1500)
    unit = (run.grad2 * run.norm2[:, :-1])[:, late].mean()
    theory = gradient_flow.equilibrium_norm4(unit, lr=0.4, weight_decay=0.01)
    assert (run.norm2[:, late] ** 2).mean() == pytest.approx(theory, rel=0.01)
    assert np.sqrt((run.rotation[:, late] ** 2).mean()) == pytest.approx(
        np.sqrt(2 * 0.4 * 0.01), rel=0.01
    )


def test_where_the_weights_start_is_forgotten():
    short, long = (
        gradient_flow.neuron_run(lr=0.4, weight_decay=0.02, start=s, steps=800, seeds=4)
        for s in (0.3, 10)
    )
    close(short.norm2[:, -200:].mean(), long.norm2[:, -200:].mean(), rtol=0.02)


def test_runs_repeat_and_seeds_differ():
    first, again = (gradient_flow.neuron_run(lr=0.1, steps=5, seeds=3) for _ in range(2))
    close(first.norm2, again.norm2, rtol=0)
    assert len(np.unique(first.norm2[:, -1])) == 3


# ---- rates -----------------------------------------------------------------------------------------


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
    assert gradient_flow.explosion_rate(activation, b) == pytest.approx(
        sampled_rate(*NONLINEARITIES[activation], b), rel=3e-3
    )


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_closed_forms_reach_their_limit_from_above(activation):
    rates = [gradient_flow.explosion_rate(activation, b) for b in (5, 10, 100, 1000, 10**6)]
    assert (np.diff(rates) < 0).all()
    assert rates[-1] == pytest.approx(gradient_flow.explosion_limit(activation), rel=1e-5)


def test_limits_are_the_known_ones():
    assert gradient_flow.explosion_limit("relu") == pytest.approx(np.pi / (np.pi - 1))
    assert gradient_flow.explosion_limit("linear") == pytest.approx(1)
    z = np.random.default_rng(0).normal(size=1_000_000)
    for name, g in (("tanh", np.tanh), ("sigmoid", lambda v: 1 / (1 + np.exp(-v)))):
        slope = (g(z + 1e-5) - g(z - 1e-5)) / 2e-5
        expected = (slope**2).mean() / g(z).var()
        assert gradient_flow.explosion_limit(name) == pytest.approx(expected, rel=5e-3)
        assert gradient_flow.explosion_limit(name) > 1


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_wide_networks_grow_at_the_closed_form_rate(activation):
    """Up to the interval and one percent, which is what a width of 512 still costs."""
    result = gradient_flow.explosion_rates(activation, batch_sizes=(8, 16), width=512, draws=8)
    interval = t_interval(result.rate, confidence=0.99)
    assert (interval.low <= 1.01 * result.theory).all()
    assert (0.99 * result.theory <= interval.high).all()
    assert (interval.high - interval.low < 0.15).all()
    assert (interval.low > 1.03).all()


def test_without_normalization_the_rate_is_another():
    """The measurement is not blind: the same networks, not normalized, do not grow."""
    from bnlab.chapters.covariate_shift import signal_depth

    plain = signal_depth.profile(
        activation="relu", weight_std=(2 / 512) ** 0.5, width=512, depth=16, examples=16, seeds=6
    ).gradient
    rate = (plain[:, 3] / plain[:, 12]) ** (2 / 9)
    assert 0.9 < rate.mean() < 1.1


def test_activations_without_a_closed_form_say_so():
    with pytest.raises(ValueError, match=r"'tanh'.*explosion_limit"):
        gradient_flow.explosion_rate("tanh", 8)
    with pytest.raises(ValueError, match="batch_size is 3; expected at least 4"):
        gradient_flow.explosion_rate("relu", 3)
    result = gradient_flow.explosion_rates(
        "tanh", batch_sizes=(16,), width=32, depth=8, skip=1, draws=2
    )
    assert np.isnan(result.theory).all()
    assert result.limit == gradient_flow.explosion_limit("tanh")


def test_fresh_seeds_are_fresh_and_overlap_where_they_should():
    settings = {"batch_sizes": (8,), "width": 32, "depth": 8, "skip": 1}
    first, later = (
        gradient_flow.explosion_rates("relu", draws=n, first_seed=s, **settings).rate[:, 0]
        for n, s in ((4, 0), (2, 2))
    )
    close(first[2:], later)
    assert not np.isclose(first[:2], later).any()


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_stored_explosion_is_that_of_todays_code(activation):
    rates, origin = load(STORED / f"gradient_flow_explosion_{activation}.npz")
    assert "changes" not in origin.commit
    assert origin.seeds == tuple(range(100, 110))
    again = gradient_flow.explosion_rates(
        activation, batch_sizes=(8,), width=rates.width, draws=1, first_seed=100
    )
    close(again.rate, rates.rate[:1, :1], rtol=1e-4)
    close(again.theory, rates.theory[:1])
    widths, origin = load(STORED / f"gradient_flow_widths_{activation}.npz")
    assert "changes" not in origin.commit
    assert origin.seeds == tuple(range(len(widths.rate)))
    again = gradient_flow.width_rates(
        activation, batch_size=widths.batch_size, widths=widths.widths[:1], draws=2
    )
    close(again.rate, widths.rate[:2, :1], rtol=1e-4)
    assert again.theory == pytest.approx(widths.theory)


def test_the_stored_ratios_are_those_of_todays_code():
    """The first step can be repeated on any processor; ten steps later rounding shows."""
    stored, origin = load(STORED / "gradient_flow_ratios.npz")
    assert "changes" not in origin.commit
    assert origin.seeds == tuple(range(10))
    assert stored.ratio.shape == (len(stored.lrs), 10, len(stored.checkpoints))
    for lr, ratio in zip(stored.lrs, stored.ratio, strict=True):
        again = gradient_flow.gradient_ratio(lr=lr, checkpoints=(0, 1), seeds=(3,))
        close(again[0], ratio[3, :2], rtol=1e-3)
    powers = np.log10(stored.ratio)
    assert (powers[:, :, 0] > 4).all()
    assert (np.diff(powers.mean(axis=1), axis=1) < 0).all()


def test_store_keeps_where_explosion_and_ratios_come_from(tmp_path):
    paths = gradient_flow.store_explosion(tmp_path, draws=2, width=16)
    kinds = [load(p)[0] for p in paths]
    assert [len(r.rate) for r in kinds] == [2, 4, 2, 8]
    assert [r.activation for r in kinds] == ["relu", "relu", "linear", "linear"]
    settings = {"lrs": (0.1,), "checkpoints": (0, 2), "seeds": (5, 6), "depth": 10}
    ratios, origin = load(gradient_flow.store_ratios(tmp_path / "r.npz", **settings))
    assert origin.seeds == (5, 6)
    assert origin.config == {"lrs": [0.1], "checkpoints": [0, 2], "depth": 10}
    expected = gradient_flow.gradient_ratio(lr=0.1, checkpoints=(0, 2), seeds=(5, 6), depth=10)
    close(ratios.ratio[0], expected, rtol=0)


def test_training_calms_the_explosion_the_faster_the_larger_the_rate():
    fast, slow = (
        gradient_flow.gradient_ratio(lr=lr, checkpoints=(0, 1, 20), depth=40, seeds=(50, 51))
        for lr in (0.1, 0.001)
    )
    close(fast[:, 0], slow[:, 0])
    expected = gradient_flow.explosion_rate("relu", 60) ** (39 / 2)
    assert (fast[:, 0] > expected / 3).all()
    assert (fast[:, 0] < expected * 3).all()
    assert (np.diff(np.log(fast), axis=1) < 0).all()
    assert (fast[:, 1:] < slow[:, 1:]).all()


# ---- learning rates --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweeps():
    settings = {"lrs": (0.25, 4.0, 64.0), "steps": 100, "seeds": (50, 51)}
    flat = {"norm": lambda n: nn.BatchNorm1d(n, affine=False)}
    outputs = {"norm": nn.BatchNorm1d, "normalize_outputs": True}
    return {
        "without": gradient_flow.rate_sweep("without", **settings),
        "with": gradient_flow.rate_sweep("with", norm=nn.BatchNorm1d, **settings),
        "flat": gradient_flow.rate_sweep("flat", **flat, **settings),
        "outputs": gradient_flow.rate_sweep("outputs", **outputs, **settings),
        "fixed": gradient_flow.rate_sweep(
            "fixed", norm=nn.BatchNorm1d, fixed=("linear3",), **settings
        ),
    }


def test_normalization_raises_the_largest_stable_rate(sweeps):
    largest = {k: gradient_flow.largest_stable(s) for k, s in sweeps.items()}
    assert (largest["without"] < 4).all()
    assert (largest["with"] > largest["without"]).all()
    assert (largest["outputs"] == 64).all()
    assert (largest["flat"] < 64).all()
    assert (largest["fixed"] == 64).all()  # it is the last layer that limits the others


def test_a_fixed_layer_stays():
    settings = {"lrs": (0.5,), "steps": 3, "seeds": (50,)}
    assert gradient_flow.rate_sweep("", fixed=("linear1",), **settings).growth.item() == 1
    assert gradient_flow.rate_sweep("", **settings).growth.item() != 1


def test_where_everything_is_normalized_weights_grow_instead(sweeps):
    growth = sweeps["outputs"].growth
    assert (np.diff(growth, axis=1) > 0).all()
    assert (growth[:, -1] > 5).all()


def test_largest_stable_is_where_the_loss_first_crosses_the_limit():
    loss = np.array([[0.5, 1.5, 0.5], [0.5, 0.5, 0.5], [2.0, 0.5, 0.5], [0.5, np.nan, 0.5]])
    sweep = RateSweep(
        label="", normalized=False, lr=np.array([1.0, 4.0, 16.0]), loss=loss, stable=loss < 1,
        limit=1.0, accuracy=loss, growth=loss,
    )  # fmt: skip
    close(gradient_flow.largest_stable(sweep), [2, 16, np.nan, 1])


def test_training_runs_in_float64():
    loss = gradient_flow.rate_sweep("", lrs=(0.5,), steps=1, last=1, seeds=(0,)).loss
    ratio = gradient_flow.gradient_ratio(lr=0.1, checkpoints=(0,), depth=3, seeds=(0,))
    for number in (loss, ratio):
        assert number.astype(np.float32) != number


def test_the_criterion_is_the_one_that_is_documented():
    settings = {"lrs": (0.5, 64.0), "steps": 40, "seeds": (50,)}
    usual, lax = (gradient_flow.rate_sweep("", below=b, **settings) for b in (0.5, 1e6))
    assert usual.stable.tolist() == [[True, False]]
    assert usual.limit == pytest.approx(0.5 * np.log(10))
    assert lax.stable.all() == np.isfinite(lax.loss).all()


@pytest.mark.parametrize("label", gradient_flow.ARMS)
def test_the_stored_sweeps_are_those_of_todays_code(label):
    """Runs at the smallest rate can be repeated on any processor; larger ones need not agree."""
    sweep, origin = load(STORED / f"gradient_flow_rates_{label.replace(' ', '_')}.npz")
    assert sweep.label == label
    assert sweep.lr.tolist() == list(gradient_flow.ARMS[label]["lrs"]) == origin.config["lrs"]
    assert sweep.loss.shape == (len(origin.seeds), len(sweep.lr))
    assert origin.machine
    assert "changes" not in origin.commit
    again = gradient_flow.sweep_arm(label, lrs=sweep.lr[:1], seeds=origin.seeds[:1])
    close(again.loss, sweep.loss[:1, :1], rtol=1e-3)
    close(again.growth, sweep.growth[:1, :1], rtol=1e-4)


def test_the_stored_sweeps_say_what_the_chapter_says():
    names = ("without", "with", "flat", "last_fixed", "outputs_too")
    without, usual, flat, *others = (
        gradient_flow.largest_stable(load(STORED / f"gradient_flow_rates_{name}.npz")[0])
        for name in names
    )
    assert t_interval(usual / without, geometric=True).low > 1
    assert t_interval(flat / usual, geometric=True).low > 1
    assert (np.array(others) == 128).all()


def test_an_edited_sweep_is_refused(tmp_path):
    path = STORED / "gradient_flow_rates_with.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["accuracy"] = arrays["accuracy"] + 0.01
    np.savez_compressed(tmp_path / "edited.npz", **arrays)
    with pytest.raises(ValueError, match="does not match its own checksum"):
        load(tmp_path / "edited.npz")


def test_store_keeps_where_the_sweeps_come_from(tmp_path):
    paths = gradient_flow.store_sweeps(tmp_path, seeds=(7,), lrs=[0.25, 0.5], steps=3)
    assert len(paths) == len(gradient_flow.ARMS)
    for path, label in zip(paths, gradient_flow.ARMS, strict=True):
        sweep, origin = load(path)
        assert sweep.label == label
        assert origin.seeds == (7,)
        assert origin.config["steps"] == 3
        assert origin.config["lrs"] == [0.25, 0.5]
        assert origin.config["norm"] == {
            "without": None, "flat": "BatchNorm1d(affine=False)"
        }.get(label, "BatchNorm1d")  # fmt: skip


def test_results_can_be_stored(tmp_path, sweeps):
    made = [
        gradient_flow.scale_invariance([0.5]),
        gradient_flow.neuron_run(lr=0.1, steps=3, seeds=2),
        gradient_flow.explosion_rates("relu", batch_sizes=(8,), width=16, depth=8, skip=1, draws=2),
        sweeps["with"],
    ]
    origin = Provenance.now(seeds=(0,), config={}, duration=0.0)
    for i, result in enumerate(made):
        path = save(result, tmp_path / f"{i}.npz", provenance=origin)
        loaded, _ = load(path)
        for name, value in vars(result).items():
            np.testing.assert_array_equal(getattr(loaded, name), value)
