"""Exercise checkers of Chapter 5: the transform, its gradient, its identity, its extremes, eps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers, pair
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = [
    "eps_output_std",
    "identity_parameters",
    "minibatch_backward",
    "minibatch_forward",
    "most_extreme_batch",
]

_X = np.array([[0.02, 4.0, -1.0], [0.05, 7.0, 3.0], [0.01, 1.0, 2.5], [0.06, 9.0, 0.0]])
_GAMMA, _BETA, _EPS = np.array([2.0, 0.5, -1.5]), np.array([1.0, -3.0, 0.25]), 1e-3


def minibatch_forward(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(x, gamma, beta, eps)``: Algorithm 1 on a batch (N, C).

    Examples
    --------
    >>> minibatch_forward(lambda x, gamma, beta, eps: gamma * (x - x.mean(0)) / x.std(0) + beta)
    Not yet: eps is missing. Add it to the variance, inside the root.
    """
    x, gamma, beta, eps = _X, _GAMMA, _BETA, _EPS
    c, var = x - x.mean(axis=0), x.var(axis=0)
    root = np.sqrt(var + eps)
    rows, spread = x - x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    return judge(
        numbers(function, x, gamma, beta, eps, shape=x.shape),
        batch_norm_forward(x, gamma, beta, eps=eps)[0],
        correct("statistics of each feature over the batch, eps inside the root, y to match."),
        [
            (gamma * c / (np.sqrt(var) + eps) + beta, "eps is outside the root. It is sqrt(var + eps)."),
            (gamma * c / np.sqrt(var) + beta, "eps is missing. Add it to the variance, inside the root."),
            (gamma * c / np.sqrt(x.var(axis=0, ddof=1) + eps) + beta,
             "you divided the variance by m - 1. Algorithm 1 divides by m (ddof=0)."),
            (gamma * rows / np.sqrt(spread + eps) + beta,
             "you normalized each example over its features. Statistics run over the batch: axis 0."),
            (gamma * (x - x.mean()) / np.sqrt(x.var() + eps) + beta,
             "one mean serves all features. Each feature has its own: axis 0."),
            (gamma * (c / root + beta), "you added beta before multiplying by gamma. Scale, then shift."),
            (beta * c / root + gamma, "gamma and beta changed places."),
            (c / root, "x_hat is right. Now scale by gamma and shift by beta."),
            (gamma * c / (var + eps) + beta, "you divided by the variance. Take its root."),
            (gamma * x / root + beta, "the mean is still there. Subtract it."),
            (gamma * c / np.sqrt((x**2).mean(axis=0) + eps) + beta, "the variance is about the mean."),
        ],
    )  # fmt: skip


def minibatch_backward(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x, gamma, eps)``: the gradient dx of Algorithm 1 on a batch (N, C)."""
    dy = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0], [3.0, 0.5, -1.0], [-1.0, 1.5, 1.0]])
    _, cache = batch_norm_forward(_X, _GAMMA, 0 * _BETA, eps=_EPS)
    right = batch_norm_backward(dy, cache)[0]
    h, scale, m = cache.x_hat, _GAMMA * cache.inv_std, len(_X)
    mean, along = dy.mean(axis=0), h * (dy * h).mean(axis=0)
    unbiased = (_X - _X.mean(axis=0)) / np.sqrt(_X.var(axis=0, ddof=1) + _EPS)
    return judge(
        numbers(function, dy, _X, _GAMMA, _EPS, shape=_X.shape),
        right,
        correct("all three paths are there: direct, through the mean, through the variance."),
        [
            (scale * dy, "the mean and the variance were treated as constants. They depend on x too."),
            (scale * (dy - mean), "the path through the variance is missing."),
            (scale * (dy - along), "the path through the mean is missing."),
            (scale * (dy - m * mean - m * along), "you took sums where means belong: divide by m."),
            (scale * (dy + mean + along), "both corrections have the wrong sign: they are subtracted."),
            (scale * (dy - mean + along), "the variance's part has the wrong sign."),
            (cache.inv_std * (dy - mean - along), "gamma is missing."),
            (_GAMMA * (dy - mean - along), "the factor 1 / sqrt(var + eps) is missing."),
            (scale * (dy - mean - along * m / (m - 1)),
             "the variance's part is divided by m - 1. Algorithm 1 divides by m."),
            (scale * (dy - mean - unbiased * (dy * unbiased).mean(axis=0)), "x_hat uses ddof=1."),
            (-right, "the whole gradient has the wrong sign."),
        ],
    )  # fmt: skip


def identity_parameters(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(x, eps)``: the (gamma, beta) for which the layer gives x back."""
    answer = pair(function, _X, _EPS, shapes=((3,), (3,)), names=("gamma", "beta"))
    if isinstance(answer, Verdict):
        return answer
    gamma, beta = answer
    mean, var = _X.mean(axis=0), _X.var(axis=0)
    right = np.sqrt(var + _EPS)
    if np.allclose(beta, right) and np.allclose(gamma, mean):
        return not_yet("gamma and beta changed places.")
    verdict = judge(
        beta,
        mean,
        correct("so far."),
        [(-mean, "that is minus the mean.")],
        "It is the mean of the batch.",
        given="beta",
    )
    return verdict and judge(
        gamma,
        right,
        correct("with them the layer returns this batch unchanged, eps and all."),
        [
            (np.sqrt(var), "eps is forgotten: the layer divides by sqrt(var + eps), so multiply by it."),
            (np.sqrt(var) + _EPS, "eps belongs inside the root: gamma = sqrt(var + eps)."),
            (var + _EPS, "that is the variance. Take its root."),
            (1 / right, "it is upside down. It undoes a division, so it multiplies."),
            (np.sqrt(_X.var(axis=0, ddof=1) + _EPS), "you divided the variance by m - 1."),
        ],
        given="gamma",
    )  # fmt: skip


def most_extreme_batch(function: Callable[[int], np.ndarray]) -> Verdict:
    """Check ``function(m)``: m values of which one is normalized to the bound sqrt(m - 1), at eps=0."""
    for m in (3, 8, 50):
        batch = numbers(function, m, shape=(m,))
        if isinstance(batch, Verdict):
            return batch
        if np.ptp(batch) == 0:
            return not_yet("all values are equal, so the variance is 0. One must differ.")
        one = np.ones(1)
        x_hat = batch_norm_forward(batch[:, None], one, 0 * one, eps=0.0)[0]
        largest = float(np.abs(x_hat).max())
        if largest < np.sqrt(m - 1) * (1 - 1e-9):
            return not_yet(
                f"for m = {m} the largest |x_hat| is {largest:.3f}, the bound is {np.sqrt(m - 1):.3f}. "
                "The bound needs all other values to be equal."
            )
    return correct("one value stands apart and all others agree: that is the bound.")


def eps_output_std(function: Callable[..., float]) -> Verdict:
    """Check ``function(std, gamma, eps)``: the standard deviation of the output for a feature's std."""
    std, gamma, eps = 0.004, -2.0, 1e-5
    right = abs(gamma) * std / np.sqrt(std**2 + eps)
    return judge(
        numbers(function, std, gamma, eps, shape=()),
        right,
        correct("it shrinks with the feature once its variance nears eps."),
        [
            (-right, "a standard deviation is not negative: take |gamma|."),
            (abs(gamma), "that is the answer without eps. Here the variance is of the size of eps."),
            (gamma, "that is the answer without eps, and a standard deviation is not negative."),
            (right**2, "that is the variance of the output. Take the root."),
            (abs(gamma) * std / (std + eps), "eps is outside the root. It is sqrt(std**2 + eps)."),
            (abs(gamma) * std / np.sqrt(std + eps), "eps is added to the variance, std**2, not to std."),
            (std / np.sqrt(std**2 + eps), "gamma is missing."),
        ],
    )  # fmt: skip
