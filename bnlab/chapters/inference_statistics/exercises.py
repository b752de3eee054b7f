"""Exercise checkers of Chapter 7: pooling, correlated positions, running averages, folding, frozen layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers, pair
from bnlab.reference import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    population_statistics,
)

__all__ = [
    "debiased_average",
    "factor_for_images",
    "fold_pair",
    "frozen_gradient",
    "keras_momentum",
    "pooled_statistics",
]


def pooled_statistics(
    function: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float]],
) -> Verdict:
    """Check ``function(mu, var, m)``: E[x] and Var[x] from batches of uneven sizes, var being biased.

    Examples
    --------
    >>> pooled_statistics(lambda mu, var, m: (mu.mean(), var.mean()))
    Not yet: the mean is off. A batch of m values counts m times: weight mu by m.
    """
    batches = [
        np.array(v)[:, None] for v in ([1.0, 3.0], [2.0, 4.0, 9.0], [0.0, 5.0, 6.0, 7.0, 2.0])
    ]
    mu, var = (np.array([f(x) for x in batches]) for f in (np.mean, np.var))
    m = np.array([len(x) for x in batches], dtype=float)
    answer = numbers(function, mu, var, m, shape=(2,))
    if isinstance(answer, Verdict):
        return answer
    mean, variance = (float(v[0]) for v in population_statistics(batches))
    if np.allclose(answer, (variance, mean)):
        return not_yet("both numbers are right, in the wrong order. Return E[x] first.")
    if not np.isclose(answer[0], mean):
        return not_yet("the mean is off. A batch of m values counts m times: weight mu by m.")
    return judge(
        answer[1],
        variance,
        correct("sum the squares of all batches, and divide by the sum of m - 1."),
        [
            ((m * var).sum() / m.sum(),
             "the variance is too small: each batch has spent one degree of freedom on mu."),
            (np.mean(var * m / (m - 1)),
             "each batch is unbiased now, but small ones are noisier. Weight them by m - 1."),
            (np.concatenate(batches).var(ddof=1),
             "that is the variance of all values together. Algorithm 2 pools within batches."),
        ],
        "m * var is the sum of squares of one batch.",
        given="the mean is right; the variance",
    )  # fmt: skip


def factor_for_images(function: Callable[[int, int, float], float]) -> Verdict:
    """Check ``function(images, positions, rho)``: what makes the biased batch variance unbiased.

    A batch holds whole images, and ``rho`` is the variance of the images' means, as a share of the whole variance.
    """
    images, positions, rho = 3, 4, 0.3
    m, right = images * positions, 1 / (1 - rho / images)
    return judge(
        numbers(function, images, positions, rho, shape=()),
        right,
        correct("the batch mean varies as if there were images / rho independent values."),
        [
            (m / (m - 1), "that is m/(m - 1), right for independent values. Here positions repeat."),
            (images / (images - 1),
             "that is right if an image is all one value, rho = 1. Here rho is less."),
            (1 / right, "that is the bias itself. The factor undoes it: one over that."),
        ],
        "Start from E[var_B] = sigma^2 - Var[mu_B], with Var[mu_B] = rho sigma^2 / images.",
        given="for 3 images, 4 positions and rho = 0.3",
    )  # fmt: skip


def debiased_average(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check ``function(values, momentum)``: a running average from 0 without its start-up bias."""
    values, momentum = np.array([4.0, 6.0, 5.0, 9.0]), 0.2
    t = len(values)
    plain, swapped = (_running(values, a) for a in (momentum, 1 - momentum))
    old = "momentum is the weight of the new batch here, as in torch."
    verdict = judge(
        numbers(function, values, momentum, shape=()),
        plain / (1 - (1 - momentum) ** t),
        correct("the weights of the batches now sum to 1, from the first batch on."),
        [
            (plain, "the start at 0 still has weight (1 - momentum)^t. Divide it out."),
            (swapped, old),
            (swapped / (1 - momentum**t), old),
            (plain / (1 - (1 - momentum) ** (t - 1)),
             "one step short: after t batches the start has weight (1 - momentum)^t."),
            (values.mean(), "that is the plain mean. Newer batches should weigh more."),
        ],
        given=f"for {values.tolist()} and momentum {momentum}",
    )  # fmt: skip
    if not verdict:
        return verdict
    once = numbers(function, values[:1], momentum, shape=())
    if isinstance(once, Verdict):
        return once
    if not np.isclose(once, values[0]):
        return not_yet("right after 4 batches; after 1 it should be that batch's value.")
    return verdict


def keras_momentum(function: Callable[[float], float]) -> Verdict:
    """Check ``function(batches)``: Keras's momentum under which the past halves in that many batches."""
    right = 0.5 ** (1 / 20)
    thumb = "close, but a rule of thumb. Solve momentum^20 = 1/2."
    return judge(
        numbers(function, 20.0, shape=()),
        right,
        correct("the old average keeps this share at each batch, and half after 20 of them."),
        [
            (1 - right, "that is torch's momentum, the weight of the new batch. Keras takes the rest."),
            (np.exp(-1 / 20), "with that the past falls to 1/e, not to 1/2."),
            (1 - 1 / 20, thumb),
            (1 - np.log(2) / 20, thumb),
        ],
        "Its 20th power should be 1/2.",
    )  # fmt: skip


def fold_pair(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(W, b, gamma, beta, mean, var, eps)``: one linear layer for two, y = u W' + b'."""
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(4, 3)), rng.normal(size=3)
    gamma, beta, mean = rng.normal(size=(3, 3))
    var, eps = np.array([0.5, 2.0, 0.01]), 0.1
    answer = pair(
        function, W, b, gamma, beta, mean, var, eps,
        shapes=(W.shape, b.shape), names=("the folded weights", "the folded bias"),
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    folded, bias = answer
    scale, std = gamma / np.sqrt(var + eps), np.sqrt(var)
    verdict = judge(
        folded,
        W * scale,
        correct("so far."),
        [
            (W * gamma / (std + eps), "eps belongs inside the root: sqrt(var + eps)."),
            (W * gamma / (var + eps), "divide by the standard deviation, the root of var + eps."),
            (W / np.sqrt(var + eps), "gamma is missing."),
        ],
        "Scale each column of W, one a unit.",
        given="the weights",
    )
    return verdict and judge(
        bias,
        batch_norm_inference(b[None], gamma, beta, mean, var, eps=eps)[0],
        correct("one layer gives the outputs of two, with nothing left to normalize."),
        [
            (b * scale + beta, "the mean is missing."),
            (b - mean * scale + beta, "the old one passes through the normalization too: scale it."),
            ((b - mean) * scale, "beta is missing."),
            ((b - mean + beta) * scale, "beta is added after the scaling: it is not scaled itself."),
            ((b + mean) * scale + beta, "the mean is subtracted, not added."),
        ],
        "Put u = 0 through both layers.",
        given="the weights are right; the bias",
    )  # fmt: skip


def frozen_gradient(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x, gamma, mean, var, eps)``: dl/dx of a layer with constant statistics."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 5, 2))
    gamma, mean, var, eps = np.array([2.0, -0.5]), x.mean(axis=0), x.var(axis=0), 0.1
    right = dy * gamma / np.sqrt(var + eps)
    _, cache = batch_norm_forward(x, gamma, np.zeros(2), eps=eps)
    return judge(
        numbers(function, dy, x, gamma, mean, var, eps, shape=x.shape),
        right,
        correct("with constant statistics the layer is a scale and a shift, nothing more."),
        [
            (batch_norm_backward(dy, cache)[0],
             "that is training mode. Here mean and var do not depend on x."),
            (right / gamma, "gamma is missing: y is gamma times x_hat, plus beta."),
            (dy * gamma / (var + eps), "divide by the standard deviation, the root of var + eps."),
            (dy * gamma / (np.sqrt(var) + eps), "eps belongs inside the root: sqrt(var + eps)."),
            (right - right.mean(axis=0),
             "the mean is a constant here, so nothing is subtracted from the gradient."),
        ],
        "Write y as a x + b with constant a and b.",
    )  # fmt: skip


def _running(values: np.ndarray, momentum: float) -> float:
    average = 0.0
    for value in values:
        average = (1 - momentum) * average + momentum * value
    return average
