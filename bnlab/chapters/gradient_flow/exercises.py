"""Exercises of Chapter 6: the one-line gradient, its projection, and what scale invariance does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, numbers
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = [
    "equilibrium_length",
    "growth_per_layer",
    "next_squared_length",
    "one_line_gradient",
    "projection_matrix",
]


def one_line_gradient(function: Callable[..., Any]) -> Verdict:
    """Check `function(dy, x_hat, gamma, inv_std) -> dx`, one feature, arrays of shape (m,).

    Examples
    --------
    >>> one_line_gradient(lambda dy, x_hat, gamma, inv_std: gamma * inv_std * dy)
    Not yet: treats both the mean and the variance as constants; subtract mean(dy) and x_hat * mean(dy * x_hat).
    """
    x, dy, gamma, beta = _batch()
    _, cache = batch_norm_forward(x[:, None], np.array([gamma]), np.array([beta]), eps=0.1)
    expected = batch_norm_backward(dy[:, None], cache)[0][:, 0]
    x_hat, inv_std = cache.x_hat[:, 0], float(cache.inv_std[0])
    mean_dy, mean_dy_x_hat, m = dy.mean(), (dy * x_hat).mean(), dy.size
    scale = gamma * inv_std
    inner = dy - mean_dy - x_hat * mean_dy_x_hat
    return judge(
        numbers(function, dy, x_hat, gamma, inv_std, shape=dy.shape),
        expected,
        correct("one line, and equal to the package's gradient."),
        [
            (scale * dy, "treats both the mean and the variance as constants; subtract mean(dy) and "
             "x_hat * mean(dy * x_hat)."),
            (scale * (dy - x_hat * mean_dy_x_hat),
             "treats the mean as a constant; its share is mean(dy)."),
            (scale * (dy - mean_dy),
             "treats the variance as a constant; its share is x_hat * mean(dy * x_hat)."),
            (scale * (dy - mean_dy + x_hat * mean_dy_x_hat),
             "the term with x_hat has the wrong sign; it is subtracted."),
            (scale * (dy - m * mean_dy - x_hat * m * mean_dy_x_hat),
             "a 1/m is missing; both sums over the batch are means."),
            (inv_std * inner, "gamma is missing; dx_hat = gamma * dy."),
            (gamma * inner, "1 / sqrt(var_B + eps) is missing; multiply by inv_std."),
            (gamma / inv_std * inner,
             "divides by inv_std; it is 1 over the standard deviation already, so multiply."),
        ],
    )  # fmt: skip


def projection_matrix(function: Callable[..., Any]) -> Verdict:
    r"""Check `function(x_hat) -> P`, of shape (m, m), with dx = gamma * inv_std * P @ dy.

    Examples
    --------
    >>> projection_matrix(lambda x_hat: np.eye(x_hat.size))
    Not yet: removes nothing; subtract the matrices that average dy and dy * x_hat.
    """
    x, *_ = _batch()
    m = x.size
    x_hat = (x - x.mean()) / x.std()
    eye, ones, scale = np.eye(m), np.ones((m, m)), np.outer(x_hat, x_hat)
    return judge(
        numbers(function, x_hat, shape=(m, m)),
        eye - ones / m - scale / m,
        correct(f"P is a projection (P @ P = P) onto the {m - 2} directions left of {m}."),
        [
            (eye, "removes nothing; subtract the matrices that average dy and dy * x_hat."),
            (eye - ones / m,
             "removes the direction of ones only; also subtract outer(x_hat, x_hat) / m."),
            (eye - scale / m, "removes the direction of x_hat only; also subtract ones / m."),
            (eye - ones - scale, "a 1/m is missing; divide both matrices by m."),
            (eye + ones / m + scale / m, "has the wrong signs; both matrices are subtracted."),
            (ones / m + scale / m,
             "is what is removed; the projection keeps the rest, so subtract it from the identity."),
            (eye - ones / m - scale / np.sqrt(m),
             "divides by the length of x_hat, not its square; its squared length is m."),
        ],
    )  # fmt: skip


def next_squared_length(function: Callable[..., Any]) -> Verdict:
    """Check `function(norm2, grad2, lr, weight_decay) -> squared length of w after one step`.

    Examples
    --------
    >>> next_squared_length(lambda norm2, grad2, lr, weight_decay: norm2 + lr * grad2)
    Not yet: the learning rate belongs squared: lr**2 * grad2.
    """
    n, g, lr, decay = 2.0, 3.0, 0.5, 0.2
    shrink = 1 - lr * decay
    return judge(
        numbers(function, n, g, lr, decay, shape=()),
        shrink**2 * n + lr**2 * g,
        correct("Pythagoras: the step is at a right angle to w."),
        [
            (n + lr * g, "the learning rate belongs squared: lr**2 * grad2."),
            (shrink**2 * n + lr * g,
             "the learning rate belongs squared, lr**2 * grad2, with or without decay."),
            (n + lr**2 * g,
             "forgets the weight decay: w shrinks by 1 - lr * weight_decay first."),
            (shrink * n + lr**2 * g,
             "the factor 1 - lr * weight_decay acts on w, so its square acts on norm2."),
            (shrink**2 * n - lr**2 * g,
             "subtracts; a step at a right angle to w always makes it longer."),
            ((shrink * np.sqrt(n) + lr * np.sqrt(g)) ** 2,
             "adds lengths; at a right angle squares add."),
            ((1 - decay) ** 2 * n + lr**2 * g,
             "the decay acts with the learning rate: w * (1 - lr * weight_decay)."),
        ],
    )  # fmt: skip


def equilibrium_length(function: Callable[..., Any]) -> Verdict:
    """Check `function(unit_grad2, lr, weight_decay) -> length of w where growth and decay balance`.

    The formula for a small lr * weight_decay and the exact one both pass.

    Examples
    --------
    >>> equilibrium_length(lambda unit_grad2, lr, weight_decay: lr * unit_grad2 / (2 * weight_decay))
    Not yet: is the fourth power of the length; take the fourth root.
    """
    g, lr, decay = 3.0, 0.02, 0.005
    fourth = lr * g / (2 * decay)
    return judge(
        numbers(function, g, lr, decay, shape=()),
        fourth**0.25,
        correct("more learning rate or less decay, longer weights; but only by the fourth root."),
        [
            (fourth, "is the fourth power of the length; take the fourth root."),
            (fourth**0.5,
             "is the squared length, or takes the gradient as constant: it shrinks as w grows, so that "
             "the balance gives the fourth power."),
            ((lr * g / decay) ** 0.25,
             "a factor of 2 is missing: decay takes 2 * lr * weight_decay from the squared length."),
            ((decay * g / (2 * lr)) ** 0.25, "has lr and weight_decay in each other's place."),
            ((lr**2 * g / (2 * decay)) ** 0.25, "lr enters once: growth has lr**2, decay has lr."),
        ],
        rtol=1e-4,
    )  # fmt: skip


def growth_per_layer(function: Callable[..., Any]) -> Verdict:
    r"""Check `function(phi, slope) -> rate`, the growth of the squared gradient per layer.

    The rate is :math:`\mathrm{E}[\varphi'(z)^2] / \mathrm{Var}[\varphi(z)]` with a standard normal z; answers
    within 3 percent pass, so sampling 100,000 numbers is good enough.

    Examples
    --------
    >>> growth_per_layer(lambda phi, slope: 1.0)
    Not yet: for tanh: you return 1, expected 1.178.
    """
    z = np.linspace(-9, 9, 40_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    cases = {
        "tanh": (np.tanh, lambda v: 1 - np.tanh(v) ** 2),
        "a shifted leaky ReLU": (lambda v: np.maximum(v + 1, 0.1 * (v + 1)), lambda v: np.where(v > -1, 1.0, 0.1)),
    }  # fmt: skip
    for name, (g, slope) in cases.items():
        slope2, slope1, g2, g1 = (density @ v for v in (slope(z) ** 2, slope(z), g(z) ** 2, g(z)))
        variance = g2 - g1**2
        verdict = judge(
            numbers(function, g, slope, shape=()),
            slope2 / variance,
            correct("and never below 1: that is the Gaussian Poincaré inequality."),
            [
                (slope2 / g2,
                 "divides by E[phi^2]; normalization subtracts the mean first, so divide by the variance."),
                (slope1**2 / variance,
                 "squares the mean slope; take the mean of the squared slope."),
                (variance / slope2, "is upside down; steep slopes make gradients grow."),
                (np.sqrt(slope2 / variance),
                 "is the growth of the gradient; the question is its square."),
                (slope2 / np.sqrt(variance),
                 "divides by the standard deviation; squared gradients need the variance."),
            ],
            given=f"for {name}",
            rtol=0.03,
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict


def _batch() -> tuple[np.ndarray, np.ndarray, float, float]:
    rng = np.random.default_rng(6)
    return 3 + 2 * rng.normal(size=6), rng.normal(size=6) + 0.5, 1.7, -0.4
