"""The experiments of Chapter 2 against closed forms, and what the chapter claims of them."""

import copy

import numpy as np
import pytest
import torch
from _book import book_result
from scipy import stats
from torch import nn

from bnlab import models, probes, training
from bnlab.chapters.covariate_shift import cup_game, signal_depth
from bnlab.chapters.covariate_shift import experiments as covariate_shift
from bnlab.stats import t_interval

BN = nn.BatchNorm1d


Z = np.random.default_rng(0).normal(size=100_000)

# ---- two data sets ---------------------------------------------------------------------------------


def test_the_shift_hurts_the_line_and_not_the_cubic():
    result = covariate_shift.shifted_fit(seeds=40)
    line, weighted, best, mean, cubic = (t_interval(result.error[:, i, 1]) for i in range(5))
    assert line.low > 2 * mean.high  # worse than a model that ignores x
    assert mean.mean == pytest.approx(np.var(0.3**3 * Z**3 - 0.3 * Z), rel=0.1)
    assert line.low > 10 * best.high
    assert weighted.high < line.low / 10
    assert weighted.low > best.mean  # weights cost precision
    assert cubic.high < 0.02


def test_the_figure_shows_the_first_seed():
    few, many = (covariate_shift.shifted_fit(seeds=s) for s in (2, 3))
    assert np.array_equal(few.curves, many.curves)
    assert np.array_equal(few.error, many.error[:2])


def test_the_weights_are_the_density_ratio():
    """With the whole population as training points, the weighted line is the best line for new inputs."""
    result = covariate_shift.shifted_fit(n=20_000, noise=0.0, seeds=2)
    grid, curves = result.grid, result.curves
    np.testing.assert_allclose(curves[1], curves[2], atol=0.05)
    assert np.abs(curves[0] - curves[2]).max() > 0.5
    assert grid.shape == curves[0].shape


# ---- cups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("standard", cup_game.STANDARDS)
def test_the_simulation_follows_the_closed_form(standard):
    settings = {"cups": 8, "noise": 0.3, "spread": 0.4, "change": 0.2}
    game = cup_game.play(standard=standard, messages=20_000, chains=3, seed=1, **settings)
    rng = np.random.default_rng(1)
    log_gain, offset = 0.4 * rng.normal(size=(2, 3, 8))
    d_log_gain, d_offset = 0.2 * rng.normal(size=(2, 3, 8))
    for i in range(3):
        correlation, stale = cup_game.theory(
            np.exp(log_gain[i]),
            offset[i],
            np.exp(log_gain[i] + d_log_gain[i]),
            offset[i] + d_offset[i],
            noise=0.3,
            standard=standard,
        )
        np.testing.assert_allclose(game.correlation[i], correlation, atol=0.02)
        np.testing.assert_allclose(game.stale_error[i], stale, rtol=0.08)


def test_with_equal_cups_noise_adds_up_without_a_standard_and_compounds_with_one():
    still = (np.ones(20), np.zeros(20)) * 2
    nobody, _ = cup_game.theory(*still, noise=0.3, standard="nobody")
    everyone, _ = cup_game.theory(*still, noise=0.3, standard="everyone")
    k = np.arange(1, 21)
    np.testing.assert_allclose(nobody, 1 / (1 + k * 0.09))
    np.testing.assert_allclose(everyone, (1 / 1.09) ** k)


def test_without_noise_no_order_is_lost_and_only_the_old_decoder_suffers():
    for standard in cup_game.STANDARDS:
        game = cup_game.play(standard=standard, noise=0.0, chains=20)
        np.testing.assert_allclose(game.correlation, 1)
        np.testing.assert_allclose(game.rank_correlation, 1)
        assert game.error.max() < 1e-12
    nobody, listener, everyone = (
        cup_game.play(standard=s, noise=0.0, chains=20).stale_error for s in cup_game.STANDARDS
    )
    np.testing.assert_allclose(listener, everyone)
    assert np.median(nobody[:, -1]) > 10 * np.median(listener[:, -1])


def test_ranks_and_correlations_are_scipys():
    game = cup_game.play(cups=2, chains=2, messages=30)
    rng = np.random.default_rng(0)
    log_gain, offset = 0.3 * rng.normal(size=(2, 2, 2))
    rng.normal(size=(2, 2, 2))
    said, hiss = rng.normal(size=(2, 2, 30))[0], 0.3 * rng.normal(size=(2, 2, 2, 30))[0]
    heard = np.exp(log_gain[0, 0]) * said[0] + offset[0, 0] + hiss[0, 0]
    assert game.rank_correlation[0, 0] == pytest.approx(stats.spearmanr(heard, said[0]).statistic)
    assert game.correlation[0, 0] == pytest.approx(stats.pearsonr(heard, said[0]).statistic ** 2)
    assert game.error[0, 0] == pytest.approx(1 - game.correlation[0, 0])
    assert game.loudness[0, 0] == pytest.approx(heard.std())


def test_everyone_standardizing_helps_quiet_cups_and_harms_loud_ones():
    def survives(standard, **settings):
        return t_interval(cup_game.play(standard=standard, **settings).correlation[:, 9])

    assert survives("everyone", gain=0.7).low > survives("nobody", gain=0.7).high
    assert survives("everyone", gain=1.5).high < survives("nobody", gain=1.5).low
    loud = cup_game.play(gain=3.0, ceiling=2.0, chains=5)
    assert loud.loudness.max() <= 2


def test_a_word_that_is_no_standard_is_refused():
    with pytest.raises(ValueError, match=r"'all'.*nobody, listener, everyone"):
        cup_game.play(standard="all")


# ---- the network -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    settings = {
        "steps": 40,
        "every": 20,
        "one_step_at": (0, 40),
        "probe_size": 200,
        "seeds": (0, 1),
    }
    return [covariate_shift.drift_run(arm, lr=1.0, **settings) for arm in ("plain", "BN")]


def test_a_run_has_the_shapes_it_says(runs):
    for run in runs:
        assert run.steps.tolist() == [0, 20, 40]
        assert run.loss.shape == (2, 40)
        assert run.unit.shape == run.pooled.shape == (2, 3, 3)
        for measure in ("mean", "std", "wasserstein", "mean_shift", "log_std_ratio", "distance"):
            assert getattr(run, measure).shape == (2, 3, 4)
        assert run.one_step_all.shape == run.one_step_first.shape == (2, 2, 4)
        assert (np.diff(run.unit, axis=2) > 0).all()
        assert run.accuracy.shape == (2,)
    assert [run.normalized for run in runs] == [False, True]


def test_there_is_no_drift_at_the_start_and_some_later(runs):
    for run in runs:
        for measure in ("wasserstein", "mean_shift", "log_std_ratio", "distance"):
            assert not getattr(run, measure)[:, 0].any()
            assert (getattr(run, measure)[:, 1:] > 0).all()


def test_layer_2s_input_moves_by_layer_1_alone(runs):
    """What layer 2 receives depends on layer 1 only; deeper inputs move more when all layers step."""
    for run in runs:
        np.testing.assert_array_equal(run.one_step_first[..., :2], run.one_step_all[..., :2])
        assert (run.one_step_first[:, 0, 2:] < run.one_step_all[:, 0, 2:]).all()


def test_normalized_inputs_start_standardized(runs):
    np.testing.assert_allclose(runs[1].mean[:, 0, 1:], 0, atol=1e-5)
    np.testing.assert_allclose(runs[1].std[:, 0, 1:], 1, atol=1e-3)
    assert np.isnan(runs[0].saturated[..., 0]).all()


def test_recorded_numbers_are_those_measured_by_hand(runs):
    digits, _ = covariate_shift._digits()
    x, _ = training.tensors(digits, dtype=torch.float64)
    model = models.mlp(covariate_shift.SIZES, init_std=covariate_shift.INIT_STD, seed=1).double()
    names = ["linear2", "act3"]
    first = probes.observe(model, x[:200], names)
    training.train(model, digits, lr=1.0, steps=40, batch_size=60, seed=1)
    last = probes.observe(model, x[:200], names)
    moved = np.median(probes.drift(first["linear2"], last["linear2"]).wasserstein)
    plain = runs[0]
    assert plain.wasserstein[1, 2, 0] == pytest.approx(moved)
    assert plain.mean[1, 2, 0] == pytest.approx(last["linear2"].mean())
    assert plain.std[1, 2, 3] == pytest.approx(np.sqrt(last["act3"].var(axis=0).mean()))
    np.testing.assert_allclose(plain.unit[1, 2], np.percentile(last["act3"][:, 0], (15, 50, 85)))
    np.testing.assert_allclose(plain.pooled[1, 2], np.percentile(last["act3"], (15, 50, 85)))


def test_accuracy_is_that_on_held_out_digits(runs):
    digits, held_out = covariate_shift._digits()
    model = covariate_shift._network("BN", 1)
    training.train(model, digits, lr=1.0, steps=40, batch_size=60, seed=1)
    assert runs[1].accuracy[1] == training.accuracy(model, held_out)
    assert runs[1].accuracy[1] != training.accuracy(model, digits)


def test_a_single_step_moves_the_chosen_layers_and_no_other():
    model = models.mlp([6, 5, 4, 3], norm=BN, seed=0)
    kept = copy.deepcopy(model.state_dict())
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    everything = {"linear1", "norm1", "linear2", "norm2", "linear3"}
    for only, names in (("1", {"linear1", "norm1"}), ("", everything)):
        twin = covariate_shift._stepped(model, x, y, 0.5, only)
        moved = {n.split(".")[0] for n, p in twin.named_parameters() if not torch.equal(p, kept[n])}
        assert moved == names
    loss = nn.functional.cross_entropy(copy.deepcopy(model)(x), y)
    assert nn.functional.cross_entropy(twin(x), y) < loss
    assert all(torch.equal(kept[n], v) for n, v in model.state_dict().items())


def test_times_of_single_steps_must_be_records():
    with pytest.raises(ValueError, match="multiples of every=20"):
        covariate_shift.drift_run("plain", lr=1.0, one_step_at=(30,))


@pytest.mark.parametrize("times", [(), (10,)])
def test_single_steps_may_be_tried_late_or_never(times):
    run = covariate_shift.drift_run(
        "plain", lr=1.0, steps=10, every=5, one_step_at=times, probe_size=50, seeds=(0,)
    )
    assert run.one_step_all.shape == run.one_step_first.shape == (1, len(times), 4)
    assert run.one_step_times.tolist() == list(times)


def test_batches_scatter_as_measured_by_hand():
    digits, _ = covariate_shift._digits()
    x, _ = training.tensors(digits, dtype=torch.float64)
    model = models.mlp(covariate_shift.SIZES, norm=BN, init_std=0.1, seed=1).double()
    found = covariate_shift._scatter(model, x, pairs=2)
    seen = [probes.observe(model, x[60 * k : 60 * k + 60], ["act2"])["act2"] for k in range(4)]
    pairs = [np.median(probes.drift(seen[k], seen[k + 1]).wasserstein) for k in (0, 2)]
    assert found.shape == (4,)
    assert found[2] == pytest.approx(np.mean(pairs))


def test_a_run_measures_the_scatter_before_its_first_step(runs):
    digits, _ = covariate_shift._digits()
    x, _ = training.tensors(digits, dtype=torch.float64)
    expected = covariate_shift._scatter(covariate_shift._network("BN", 1), x)
    np.testing.assert_allclose(runs[1].scatter[1], expected)


# ---- stored runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", covariate_shift.RUNS)
def test_a_stored_run_has_the_rate_that_its_table_chose(name):
    """The arm with normalization is also shown at the rate of the one without."""
    run, origin = book_result(f"covariate_shift_{name}")
    arm = "plain" if name == "bn" else origin.config["arm"]
    table, _ = book_result(f"covariate_shift_rates_{arm}_{origin.config['init_std']}")
    assert run.lr == origin.config["lr"] == table.best


def test_larger_weights_at_the_start_are_used():
    few = {"steps": 10, "every": 10, "one_step_at": (), "probe_size": 50, "seeds": (0,)}
    small, large = (
        covariate_shift.drift_run("plain", lr=1.0, init_std=std, **few) for std in (0.1, 0.4)
    )
    assert large.std[0, 0, 1] == pytest.approx(4 * small.std[0, 0, 1])
    loss = [
        covariate_shift.learning_rates(
            "plain", lrs=[1.0], init_std=std, steps=10, seeds=(100,)
        ).loss
        for std in (0.1, 0.4)
    ]
    assert loss[0] != loss[1]


def test_learning_rates_are_a_table_of_seeds_and_rates():
    table = covariate_shift.learning_rates("BN", lrs=[0.01, 1.0], steps=60, seeds=(100, 101))
    assert table.loss.shape == (2, 2)
    assert (table.loss[:, 1] < table.loss[:, 0]).all()


# ---- depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "weight_std"),
    [("linear", 0.05), ("tanh", 0.05), ("relu", 0.05), ("sigmoid", 0.25), ("sigmoid", 1.0)],
)
def test_wide_networks_follow_mean_field_theory(activation, weight_std):
    profile = signal_depth.profile(
        activation=activation, weight_std=weight_std, depth=8, width=400, seeds=range(3)
    )
    for quantity in ("size", "spread", "gradient"):
        np.testing.assert_allclose(
            getattr(profile, quantity).mean(axis=0),
            getattr(profile, f"{quantity}_theory"),
            rtol=0.12,
            err_msg=quantity,
        )


def test_linear_and_relu_theory_are_the_closed_forms():
    k = np.arange(8)
    scale = 256 * 0.05**2
    size, spread, gradient = signal_depth._mean_field("linear", scale, 8)
    np.testing.assert_allclose(size, np.sqrt(scale ** (k + 1)))
    np.testing.assert_allclose(spread, size)
    np.testing.assert_allclose(gradient, np.sqrt(scale ** (7 - k)))
    size, _, gradient = signal_depth._mean_field("relu", scale, 8)
    np.testing.assert_allclose(size, np.sqrt(scale * (scale / 2) ** k), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.sqrt((scale / 2) ** (7 - k)), rtol=1e-6)


def test_the_normalized_network_keeps_size_and_spread_at_one():
    profile = signal_depth.profile(
        activation="tanh", weight_std=0.05, norm=BN, depth=6, width=64, seeds=range(2)
    )
    np.testing.assert_allclose(profile.size, 1, atol=5e-3)
    np.testing.assert_allclose(profile.spread, 1, atol=5e-3)
    assert np.isnan(profile.size_theory).all()
    assert profile.normalized


def test_a_sigmoid_keeps_its_mean_at_a_half_while_its_spread_dies():
    profile = signal_depth.profile(activation="sigmoid", weight_std=0.05, depth=18, seeds=range(2))
    np.testing.assert_allclose(profile.mean, 0.5, atol=0.05)
    assert (profile.spread[:, -1] < 1e-12).all()
    np.testing.assert_allclose(profile.spread.mean(axis=0), profile.spread_theory, rtol=0.12)
    assert (profile.size[:, -1] > 0.3).all()


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.9])
def test_saturation_is_where_the_slope_is_a_fraction_of_the_steepest(fraction):
    edge = 2 * np.arccosh(fraction**-0.5)  # sigma' = 1/4 sech(z/2)^2
    z = np.array([-edge - 1e-6, -edge + 1e-6, 0.0, edge - 1e-6, edge + 1e-6, 800.0, -800.0])
    assert signal_depth.saturated_share(z, fraction=fraction) == pytest.approx(4 / 7)


def test_saturation_of_other_nonlinearities():
    z = np.array([-2.0, -0.1, 0.1, 3.0])
    assert signal_depth.saturated_share(z, activation="relu") == 0.5
    assert signal_depth.saturated_share(z, activation="tanh") == 0.5
    assert signal_depth.saturated_share(z, activation="linear") == 0
