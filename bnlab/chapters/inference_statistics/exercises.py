"""Exercise checkers of Chapter 7: pooling, correlated positions, running averages, folding, frozen layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, not_yet, numbers, pair
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
    if np.isclose(answer[1], variance):
        return correct("sum the squares of all batches, and divide by the sum of m - 1.")
    if np.isclose(answer[1], (m * var).sum() / m.sum()):
        return not_yet(
            "the variance is too small: each batch has spent one degree of freedom on mu."
        )
    if np.isclose(answer[1], np.mean(var * m / (m - 1))):
        return not_yet(
            "each batch is unbiased now, but small ones are noisier. Weight them by m - 1."
        )
    if np.isclose(answer[1], np.concatenate(batches).var(ddof=1)):
        return not_yet(
            "that is the variance of all values together. Algorithm 2 pools within batches."
        )
    return not_yet(
        f"the mean is right; the variance is {answer[1]:.4g}, expected {variance:.4g}. m * var is the "
        f"sum of squares of one batch."
    )


def factor_for_images(function: Callable[[int, int, float], float]) -> Verdict:
    """Check ``function(images, positions, rho)``: what makes the biased batch variance unbiased.

    A batch holds whole images, and ``rho`` is the share of the variance that lies between images.
    """
    images, positions, rho = 3, 4, 0.3
    answer = numbers(function, images, positions, rho, shape=())
    if isinstance(answer, Verdict):
        return answer
    m, expected = images * positions, 1 / (1 - rho / images)
    if np.isclose(answer, expected):
        return correct("the batch mean varies as if there were images / rho independent values.")
    if np.isclose(answer, m / (m - 1)):
        return not_yet("that is m/(m - 1), right for independent values. Here positions repeat.")
    if np.isclose(answer, images / (images - 1)):
        return not_yet("that is right if an image is all one value, rho = 1. Here rho is less.")
    if np.isclose(answer, 1 / expected):
        return not_yet("that is the bias itself. The factor undoes it: one over that.")
    return not_yet(
        f"for 3 images, 4 positions and rho = 0.3 you return {answer:.4g}, expected {expected:.4g}. "
        f"Start from E[var_B] = sigma^2 - Var[mu_B], with Var[mu_B] = rho sigma^2 / images."
    )


def debiased_average(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check ``function(values, momentum)``: a running average from 0 without its start-up bias."""
    values, momentum = np.array([4.0, 6.0, 5.0, 9.0]), 0.2
    answer = numbers(function, values, momentum, shape=())
    if isinstance(answer, Verdict):
        return answer
    plain, swapped = (_running(values, a) for a in (momentum, 1 - momentum))
    expected = plain / (1 - (1 - momentum) ** len(values))
    if np.isclose(answer, expected):
        once = numbers(function, values[:1], momentum, shape=())
        if isinstance(once, Verdict):
            return once
        if not np.isclose(once, values[0]):
            return not_yet("right after 4 batches; after 1 it should be that batch's value.")
        return correct("the weights of the batches now sum to 1, from the first batch on.")
    if np.isclose(answer, plain):
        return not_yet("the start at 0 still has weight (1 - momentum)^t. Divide it out.")
    if np.isclose(answer, swapped) or np.isclose(answer, swapped / (1 - momentum ** len(values))):
        return not_yet("momentum is the weight of the new batch here, as in torch.")
    if np.isclose(answer, plain / (1 - (1 - momentum) ** (len(values) - 1))):
        return not_yet("one step short: after t batches the start has weight (1 - momentum)^t.")
    if np.isclose(answer, values.mean()):
        return not_yet("that is the plain mean. Newer batches should weigh more.")
    return not_yet(
        f"for {values.tolist()} and momentum 0.2 you return {answer:.4g}, expected {expected:.4g}."
    )


def keras_momentum(function: Callable[[float], float]) -> Verdict:
    """Check ``function(batches)``: Keras's momentum under which the past halves in that many batches."""
    answer = numbers(function, 20.0, shape=())
    if isinstance(answer, Verdict):
        return answer
    expected = 0.5 ** (1 / 20)
    if np.isclose(answer, expected, rtol=1e-9):
        return correct("the old average keeps this share at each batch, and half after 20 of them.")
    if np.isclose(answer, 1 - expected, rtol=1e-9):
        return not_yet(
            "that is torch's momentum, the weight of the new batch. Keras takes the rest."
        )
    if np.isclose(answer, np.exp(-1 / 20), rtol=1e-9):
        return not_yet("with that the past falls to 1/e, not to 1/2.")
    if np.isclose(answer, 1 - 1 / 20) or np.isclose(answer, 1 - np.log(2) / 20, rtol=1e-9):
        return not_yet("close, but a rule of thumb. Solve momentum^20 = 1/2.")
    return not_yet(
        f"for 20 batches you return {answer:.4g}, and {answer:.4g}^20 is {answer**20:.3g}; expected 1/2."
    )


def fold_pair(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(W, b, gamma, beta, mean, var, eps)``: one linear layer for two, y = u W' + b'."""
    rng = np.random.default_rng(0)
    W, b, u = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=(6, 4))
    gamma, beta, mean = rng.normal(size=(3, 3))
    var, eps = np.array([0.5, 2.0, 0.01]), 0.1
    answer = pair(
        function, W, b, gamma, beta, mean, var, eps,
        shapes=(W.shape, b.shape), what="the folded weights and the folded bias",
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    folded, bias = answer
    expected = batch_norm_inference(u @ W + b, gamma, beta, mean, var, eps=eps)
    scale = gamma / np.sqrt(var + eps)
    if np.allclose(u @ folded + bias, expected):
        return correct("one layer gives the outputs of two, with nothing left to normalize.")
    if np.allclose(folded, W * gamma / (np.sqrt(var) + eps)):
        return not_yet("eps belongs inside the root: sqrt(var + eps).")
    if np.allclose(folded, W * gamma / (var + eps)):
        return not_yet("divide by the standard deviation, the root of var + eps.")
    if np.allclose(folded, W / np.sqrt(var + eps)):
        return not_yet("gamma is missing from the weights.")
    if not np.allclose(folded, W * scale):
        return not_yet("the weights are off. Scale each column of W, one a unit.")
    for wrong, hint in (
        (b * scale + beta, "the mean is missing from the bias."),
        (b - mean * scale + beta, "the old bias passes through the normalization too: scale it."),
        ((b - mean) * scale, "beta is missing from the bias."),
        ((b - mean + beta) * scale, "beta is added after the scaling: it is not scaled itself."),
        ((b + mean) * scale + beta, "the mean is subtracted, not added."),
    ):
        if np.allclose(bias, wrong):
            return not_yet(f"the weights are right; {hint}")
    return not_yet("the weights are right, the bias is not. Put u = 0 through both layers.")


def frozen_gradient(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x, gamma, mean, var, eps)``: dl/dx of a layer with constant statistics."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 5, 2))
    gamma, mean, var, eps = np.array([2.0, -0.5]), x.mean(axis=0), x.var(axis=0), 0.1
    answer = numbers(function, dy, x, gamma, mean, var, eps, shape=x.shape)
    if isinstance(answer, Verdict):
        return answer
    expected = dy * gamma / np.sqrt(var + eps)
    if np.allclose(answer, expected):
        return correct("with constant statistics the layer is a scale and a shift, nothing more.")
    _, cache = batch_norm_forward(x, gamma, np.zeros(2), eps=eps)
    if np.allclose(answer, batch_norm_backward(dy, cache)[0]):
        return not_yet("that is training mode. Here mean and var do not depend on x.")
    if np.allclose(answer, expected / gamma):
        return not_yet("gamma is missing: y is gamma times x_hat, plus beta.")
    if np.allclose(answer, dy * gamma / (var + eps)):
        return not_yet("divide by the standard deviation, the root of var + eps.")
    if np.allclose(answer, dy * gamma / (np.sqrt(var) + eps)):
        return not_yet("eps belongs inside the root: sqrt(var + eps).")
    if np.allclose(answer, expected - expected.mean(axis=0)):
        return not_yet("the mean is a constant here, so nothing is subtracted from the gradient.")
    return not_yet(
        f"the first entry is {answer[0, 0]:.4g}, expected {expected[0, 0]:.4g}. Write y as a x + b "
        f"with constant a and b."
    )


def _running(values: np.ndarray, momentum: float) -> float:
    average = 0.0
    for value in values:
        average = (1 - momentum) * average + momentum * value
    return average
