"""What the ledger measures itself: experiments of the chapters once more, with seeds that no chapter uses.

Each function of MEASURES takes a seed and returns one number; an exact statement gives the same one for every seed,
or an error that should be rounding. A claim that needs longer runs reads a chapter's stored result instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from bnlab import data, models, probes, reference, scaling, training
from bnlab.chapters.accelerating import experiments as accelerating
from bnlab.chapters.accelerating import sigmoid_depth
from bnlab.chapters.claims.results import ClaimMeasures
from bnlab.chapters.convolutional_batchnorm import experiments as convolutional
from bnlab.chapters.covariate_shift import signal_depth
from bnlab.chapters.feature_scaling import experiments as feature_scaling
from bnlab.chapters.full_whitening import experiments as full_whitening
from bnlab.chapters.gradient_flow import explosion, scale_invariance
from bnlab.chapters.inference_statistics import experiments as inference_statistics
from bnlab.chapters.inference_statistics import sampling
from bnlab.chapters.minibatch_batchnorm import experiments as minibatch
from bnlab.chapters.naive_failure import experiments as naive_failure
from bnlab.chapters.naive_failure import naive
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENT", "MEASURES"]

MEASURES: dict[str, Callable[[int], float]] = {}
"""Each measure by its name."""


def measure(function: Callable[[int], float]) -> Callable[[int], float]:
    """Add a function to MEASURES, under its name with hyphens."""
    MEASURES[function.__name__.replace("_", "-")] = function
    return function


# ---- chapter 1: feature scaling --------------------------------------------------------------------------------------


@measure
def distance_share_of_broadest(seed: int) -> float:
    """The share of the broadest feature in squared distances between households, in raw units."""
    return float(feature_scaling.distance_shares(data.mixed_scale_table(seed=seed)).shares[0].max())


@measure
def distance_share_after_min_max(seed: int) -> float:
    """The larger share of two features when both run from 0 to 1."""
    return float(feature_scaling.distance_shares(data.mixed_scale_table(seed=seed)).shares[1].max())


def _neighbors(dataset: data.Dataset | None, seed: int) -> np.ndarray:
    """Accuracy without scaling, with min-max, standardized and whitened, in percent."""
    scalings = ("none", "min-max [0, 1]", "standardize", "whiten")
    found = feature_scaling.neighbor_accuracy(dataset, seeds=(seed,), scalings=scalings)
    return 100 * found.accuracy[0]


@measure
def neighbors_gain_households(seed: int) -> float:
    """Points of nearest-neighbor accuracy that standardization adds, households."""
    found = _neighbors(None, seed)
    return float(found[2] - found[0])


@measure
def neighbors_gain_wine(seed: int) -> float:
    """The same for wines."""
    found = _neighbors(data.wine(), seed)
    return float(found[2] - found[0])


@measure
def neighbors_gain_cancer(seed: int) -> float:
    """The same for breast masses."""
    found = _neighbors(data.breast_cancer(), seed)
    return float(found[2] - found[0])


@measure
def neighbors_whitening_wine(seed: int) -> float:
    """Points of nearest-neighbor accuracy that whitening adds to standardization, wines."""
    found = _neighbors(data.wine(), seed)
    return float(found[3] - found[2])


@measure
def neighbors_whitening_cancer(seed: int) -> float:
    """The same for breast masses."""
    found = _neighbors(data.breast_cancer(), seed)
    return float(found[3] - found[2])


def _leak(scaling_name: str, seed: int) -> float:
    found = feature_scaling.leakage(data.wine(), seeds=(seed,), scalings=(scaling_name,))
    return float(100 * (found.accuracy[0, 0, 1] - found.accuracy[0, 0, 0]))


@measure
def leak_standardize(seed: int) -> float:
    """Points of accuracy that fitting on all rows adds, standardization."""
    return _leak("standardize", seed)


@measure
def leak_whiten(seed: int) -> float:
    """The same for whitening."""
    return _leak("whiten", seed)


@measure
def descent_exponent(seed: int) -> float:
    """The power of the condition number with which steps of gradient descent grow."""
    found = feature_scaling.descent_rates(seeds=(seed,), condition=(30, 100, 300, 1000, 3000))
    slope = np.polyfit(np.log(found.condition), np.log(found.steps[0]), 1)[0]
    return float(slope)


@functools.lru_cache
def _left_over(name: str) -> float:
    """What gradient descent leaves of the excess loss of a raw table over what it leaves of a standardized one."""
    found = feature_scaling.table_descent(getattr(data, name)())
    raw, scaled = (found.excess[found.scalings.index(s), -1] for s in ("none", "standardize"))
    return float(raw / max(scaled, found.tolerance))


@measure
def descent_gain_wine(seed: int) -> float:
    """That ratio for the wines, after the whole budget of steps, each at its best rate; the start is always zero."""
    return _left_over("wine")


@measure
def descent_gain_cancer(seed: int) -> float:
    """The same for breast masses."""
    return _left_over("breast_cancer")


@functools.lru_cache
def _adam(name: str) -> float:
    found = feature_scaling.table_optimizers(getattr(data, name)())
    return float(found.steps[-1, found.scalings.index("none")] > 0)


@measure
def adam_arrives_raw(seed: int) -> float:
    """1 if Adam reaches the tolerance on the raw wines within its budget, at the best of its rates."""
    return _adam("wine")


@measure
def correlation_left(seed: int) -> float:
    """Root mean square correlation of two standardized measurements of the wines, of a random half of them."""
    x = data.wine().x
    half = x[np.random.default_rng(seed).permutation(len(x))[: len(x) // 2]]
    z = scaling.standardize(half).apply(half)
    r = np.corrcoef(z, rowvar=False)
    return float(np.sqrt((r[~np.eye(len(r), dtype=bool)] ** 2).mean()))


@measure
def typo_squeeze(seed: int) -> float:
    """How many times one typo narrows the standardized values of all others."""
    found = feature_scaling.outlier_effect(data.mixed_scale_table(seed=seed))
    row = found.scalings.index("standardize")
    return float(found.clean[row].std() / found.spoiled[row].std())


# ---- chapters 2 and 6: signals and gradients in random networks ------------------------------------------------------


@measure
def sigmoid_spread_shrinks(seed: int) -> float:
    """The spread of a sigmoid layer's inputs at layer 20 over that at layer 1, weights of std 0.25."""
    found = signal_depth.profile(activation="sigmoid", weight_std=0.25, seeds=(seed,))
    return float(found.spread[0, -1] / found.spread[0, 0])


@measure
def sigmoid_gradient_large_weights(seed: int) -> float:
    """The gradient at layer 1 over that at layer 20 of saturated sigmoids, weights of std 1."""
    found = signal_depth.profile(activation="sigmoid", weight_std=1.0, seeds=(seed,))
    return float(found.gradient[0, 0])


@measure
def sigmoid_gradient_plain(seed: int) -> float:
    """The same at the paper's kind of start, weights of std 0.1."""
    found = signal_depth.profile(activation="sigmoid", weight_std=0.1, seeds=(seed,))
    return float(found.gradient[0, 0])


@measure
def sigmoid_gradient_normalized(seed: int) -> float:
    """The same with Batch Normalization."""
    found = signal_depth.profile(
        activation="sigmoid", weight_std=0.1, norm=nn.BatchNorm1d, seeds=(seed,)
    )
    return float(found.gradient[0, 0])


@measure
def relu_explosion(seed: int) -> float:
    """Growth of the squared gradient a layer in a random normalized ReLU network, batches of 64."""
    return float(explosion.explosion_rates("relu", batch_sizes=(64,), seeds=(seed,)).rate[0, 0])


@measure
def relu_explosion_over_theory(seed: int) -> float:
    """That growth over the closed form for batches of 64."""
    return relu_explosion(seed) / explosion.explosion_rate("relu", 64)


@measure
def gradient_formulas(seed: int) -> float:
    """The largest relative difference of the paper's backward formulas and torch's autograd."""
    rng = np.random.default_rng(seed)
    x, gamma, beta, dy = (rng.normal(size=s) for s in ((16, 5), 5, 5, (16, 5)))
    _, cache = reference.batch_norm_forward(x, gamma, beta)
    ours = reference.batch_norm_backward(dy, cache)
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
    out = torch.nn.functional.batch_norm(
        leaves[0], None, None, leaves[1], leaves[2], training=True, eps=1e-5
    )
    theirs = torch.autograd.grad(out, leaves, torch.tensor(dy))
    return max(
        float(np.abs(a - b.numpy()).max() / np.abs(a).max())
        for a, b in zip(ours, theirs, strict=True)
    )


def _scale(a: float, eps: float, seed: int) -> float:
    return float(scale_invariance.compare_scales([a], eps=eps, seed=seed).output[0])


@measure
def scale_seen_without_eps(seed: int) -> float:
    """Relative change of the output when all weights are a thousand times smaller, eps = 0."""
    return _scale(1e-3, 0.0, seed)


@measure
def scale_seen_with_eps(seed: int) -> float:
    """The same with eps = 1e-5."""
    return _scale(1e-3, 1e-5, seed)


@functools.lru_cache
def _neurons() -> np.ndarray:
    """Mean fourth power of the weights' length over its theory, of 16 seeds that the chapter does not use."""
    found = scale_invariance.neuron_run(lr=0.1, weight_decay=0.01, seeds=36)
    late = (found.norm2[:, found.norm2.shape[1] // 2 :] ** 2).mean(axis=1)
    return (late / found.equilibrium_norm4)[20:]


@measure
def balance_of_decay(seed: int) -> float:
    """Measured over predicted fourth power of the weights' length, under weight decay."""
    return float(_neurons()[seed % 16])


# ---- chapter 3: the naive normalization ------------------------------------------------------------------------------


@measure
def naive_bias_growth(seed: int) -> float:
    """Largest error of the predicted bias over 60 naive steps, relative to its size."""
    u, t = naive_failure.sample(seed=seed)
    run = naive.train(u, t, steps=60)
    return float(np.abs(run.b - naive.predicted_bias(t, steps=60)).max() / np.abs(run.b).max())


@measure
def naive_loss_moves(seed: int) -> float:
    """Change of the loss over 60 naive steps, relative."""
    u, t = naive_failure.sample(seed=seed)
    loss = naive.train(u, t, steps=60).loss
    return float(np.abs(loss / loss[0] - 1).max())


@measure
def bias_moves_with_gradient(seed: int) -> float:
    """How far the bias moves in 60 steps with the gradient through the mean."""
    u, t = naive_failure.sample(seed=seed)
    return float(np.abs(naive.train(u, t, steps=60, through_statistics=True).b).max())


@functools.lru_cache
def _detached(seed: int, lr: float) -> dict[str, float]:
    """Accuracy on held-out digits after 300 steps of each arm, in percent."""
    arms = ("batch norm", "detached")
    found = naive_failure.detached_on_digits(arms=arms, lrs=(lr,), seeds=(seed,))
    return dict(zip(arms, 100 * found.accuracy[0, :, 0], strict=True))


@measure
def detached_costs(seed: int) -> float:
    """Points of accuracy between batch normalization and the same with detached statistics, rate 0.3."""
    found = _detached(seed, 0.3)
    return found["batch norm"] - found["detached"]


@measure
def detached_learns(seed: int) -> float:
    """Accuracy in percent of the network with detached statistics, rate 0.3."""
    return _detached(seed, 0.3)["detached"]


# ---- chapter 4: full whitening ---------------------------------------------------------------------------------------


@measure
def whitening_jacobian_zeros(seed: int) -> float:
    """The share of zeros among the derivatives of whitened values by all values of the batch."""
    found = full_whitening.jacobians(seed=seed)
    return float((np.abs(found.jacobians[-1]) < 1e-12).mean())


def _jump(kind: str, seed: int) -> float:
    """How far a whitened row moves when one variance passes another, from 0.1 percent below it to as much above."""
    found = full_whitening.eigenvalue_crossing(ratios=(0.999, 1.001), seed=seed)
    return float(np.linalg.norm(np.diff(getattr(found, kind), axis=0)))


@measure
def jump_of_pca(seed: int) -> float:
    """That distance for PCA whitening."""
    return _jump("pca", seed)


@measure
def jump_of_zca(seed: int) -> float:
    """The same for ZCA whitening."""
    return _jump("zca", seed)


@measure
def eigh_gradient_at_equal_eigenvalues(seed: int) -> float:
    """1 if automatic differentiation through eigh is finite at two equal eigenvalues."""
    found = full_whitening.eigenvalue_gap(gaps=(0.0,), dtypes=("float64",), seeds=(seed,))
    return float(np.isfinite(found.eigh_error).all())


@measure
def smallest_variance_at_two_rows_a_feature(seed: int) -> float:
    """The smallest variance that a batch of two rows a feature shows of white data."""
    return float(full_whitening.batch_need(features=64, sizes=(128,), seeds=(seed,)).lowest[0, 0])


@functools.lru_cache
def _shared(seed: int):
    return full_whitening.activation_correlation(seeds=(seed,))


@measure
def units_stay_correlated(seed: int) -> float:
    """Root mean square correlation of two units of the last hidden layer, normalized, after 200 steps."""
    return float(_shared(seed).correlation[0, -1, -1])


@measure
def condition_improves(seed: int) -> float:
    """Condition number after normalizing each unit over that before it, last hidden layer, after 200 steps."""
    found = _shared(seed)
    return float(found.condition[0, -1, -1] / found.condition_before[0, -1, -1])


# ---- chapter 5: the mini-batch transform -----------------------------------------------------------------------------


@measure
def identity_on_one_batch(seed: int) -> float:
    """Largest error when gamma and beta are the std and mean of the batch."""
    x = np.random.default_rng(seed).normal(3.0, 2.0, (16, 4))
    gamma, beta = np.sqrt(x.var(axis=0) + 1e-5), x.mean(axis=0)
    return float(np.abs(reference.batch_norm_forward(x, gamma, beta)[0] - x).max())


@measure
def identity_on_fresh_batches(seed: int) -> float:
    """Mean squared error, over the variance, of the best gamma and beta on new batches of 16."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4000, 16))
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    return float(1 - (z * x).mean() ** 2)


@measure
def normalized_bound(seed: int) -> float:
    """The largest normalized value over its bound, heavy tails, batches of 16."""
    x = np.random.default_rng(seed).standard_t(1.5, (16, 2000))
    z = reference.batch_norm_forward(x, np.ones(2000), np.zeros(2000))[0]
    return float(np.abs(z).max() / np.sqrt(15))


def _kurtosis(m: int, seed: int) -> float:
    x = np.random.default_rng(seed).normal(size=(m, 40_000))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return float((z**4).mean())


@measure
def kurtosis_of_four(seed: int) -> float:
    """Kurtosis of normalized normal values, batches of 4; a normal distribution has 3."""
    return _kurtosis(4, seed)


@measure
def kurtosis_of_256(seed: int) -> float:
    """The same for batches of 256."""
    return _kurtosis(256, seed)


@measure
def gradient_through_a_batch_of_two(seed: int) -> float:
    """The share of a random squared gradient that passes a batch of two."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(2, 2, 500))
    _, cache = reference.batch_norm_forward(x, np.ones(500), np.zeros(500), eps=1e-12)
    dx = reference.batch_norm_backward(dy, cache)[0] * x.std(axis=0)
    return float((dx**2).sum() / (dy**2).sum())


@functools.lru_cache
def _makeup(seed: int):
    return minibatch.batch_makeup(sizes=(90,), repeats=3, seeds=(seed,))


@measure
def company_of_one_class(seed: int) -> float:
    """Points of accuracy that batches of one class add to evaluation mode, batches of 90."""
    found = _makeup(seed)
    return float(100 * (found.by_class[0, 0] - found.evaluation[0]))


@functools.lru_cache
def _trained(seed: int) -> nn.Sequential:
    """The paper's sigmoid network with Batch Normalization, 300 steps on digits."""
    digits, _ = data.mnist_5k().split(test=1000, seed=0)
    model = models.mlp(
        (784, 100, 100, 100, 10), norm=nn.BatchNorm1d, init_std=0.1, seed=seed
    ).double()
    training.train(model, digits, lr=1.0, steps=300, batch_size=60, seed=seed)
    return model


@measure
def excess_kurtosis_of_trained(seed: int) -> float:
    """Mean over units of the absolute excess kurtosis of what the last sigmoids receive, trained; normal: 0."""
    x, _ = training.tensors(data.mnist_5k(), dtype=torch.float64)
    z = probes.observe(_trained(seed), x[:1000], ("act3",))["act3"]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    return float(np.abs((z**4).mean(axis=0) - 3).mean())


# ---- chapter 7: inference --------------------------------------------------------------------------------------------


@measure
def unbiased_for_independent(seed: int) -> float:
    """The mean of the corrected batch variance over the true one, independent values, batches of 5."""
    return float(sampling.batch_moments(batch_sizes=(5,), seed=seed).unbiased.mean())


@measure
def unbiased_for_pixels(seed: int) -> float:
    """The same for the 4 positions of two digits, averaged over squares of 14 pixels."""
    return float(sampling.pixel_dependence(pools=(14,), draws=2000, seed=seed).corrected.mean())


@measure
def root_of_unbiased(seed: int) -> float:
    """The mean root of the corrected variance over the true std, normal values, batches of 5."""
    return float(np.sqrt(sampling.batch_moments(batch_sizes=(5,), seed=seed).unbiased).mean())


@measure
def folding_error(seed: int) -> float:
    """Largest difference of a trained network's outputs after folding, relative to the largest output."""
    found = inference_statistics.folding([_float32(seed)])
    return float(found.difference[0] / found.size[0])


@functools.lru_cache
def _float32(seed: int) -> nn.Sequential:
    return inference_statistics.train_networks(seeds=(seed,))[0]


@measure
def mode_changes_gradient(seed: int) -> float:
    """Relative difference of the first layer's gradients in the two modes at equal statistics."""
    return float(inference_statistics.network_gradients([_float32(seed)]).difference[0, 0])


# ---- chapter 8: convolutions -----------------------------------------------------------------------------------------


@measure
def shared_pair_commutes(seed: int) -> float:
    """Relative error when images are moved before, or maps after, a normalization with one pair a map."""
    return float(convolutional.shift_test(seeds=(seed,)).error[0, 1].max())


@measure
def effective_batch_share(seed: int) -> float:
    """The values that a batch mean of a first layer's map is worth, over their count m p q."""
    found = convolutional.effective_batch(seeds=(seed,), draws=500)
    return float(found.measured[0, 0] / found.values[0])


# ---- chapter 10: accelerating ----------------------------------------------------------------------------------------


@measure
def paper_factor_alone(seed: int) -> float:
    """How many times fewer steps normalization alone takes in the paper's own table."""
    table = accelerating.paper_table()
    steps = dict(zip(table.models, table.steps, strict=True))
    return float(steps["Inception"] / steps["BN-Baseline"])


def _deep(net: str, seed: int) -> float:
    digits, _, held_out = sigmoid_depth.digits(800)
    model = sigmoid_depth.network(net, depth=12, seed=seed)
    training.train(model, digits, lr=0.3, steps=400, batch_size=60, seed=seed)
    return 100 * training.accuracy(model, held_out)


@measure
def deep_sigmoids_normalized(seed: int) -> float:
    """Accuracy in percent of 12 hidden layers of normalized sigmoids after 400 steps."""
    return _deep("BN", seed)


@measure
def deep_sigmoids_plain(seed: int) -> float:
    """The same without normalization."""
    return _deep("plain", seed)


def run(config: dict, task: dict) -> dict[str, np.ndarray]:
    """Take one measure with every seed."""
    torch.set_num_threads(1)
    function = MEASURES[task["measure"]]
    return {"samples": np.array([function(seed) for seed in config["seeds"]])}


def merge(config: dict, tasks: tuple, outcomes: tuple) -> ClaimMeasures:
    """Put all measures together."""
    return ClaimMeasures(
        names=tuple(task["measure"] for task in tasks),
        seeds=tuple(config["seeds"]),
        samples=np.stack([outcome["samples"] for outcome in outcomes]),
    )


def repeat(result: ClaimMeasures, origin) -> dict[str, float]:
    """Take the quick measures once more with the first seed, and return the largest difference."""
    quick = ("naive-loss-moves", "kurtosis-of-four", "distance-share-of-broadest")
    return {name: abs(MEASURES[name](result.seeds[0]) - result.of(name)[0]) for name in quick}


EXPERIMENT = LongExperiment(
    name="claims-measures",
    summary="What the ledger of claims measures itself: the chapters' small experiments with other seeds",
    defaults={"seeds": list(range(300, 316))},
    tasks=lambda config: tuple({"measure": name} for name in MEASURES),
    run=run,
    merge=merge,
    check=repeat,
    tolerance=1e-6,
)
