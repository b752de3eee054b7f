"""Exercises of Chapter 6: the one-line gradient, its projection, and what scale invariance does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnlab.chapters._verdict import Verdict, call, correct, not_yet
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
    answer = _array(call(function, dy, x_hat, gamma, inv_std), dy.shape, "dx")
    if isinstance(answer, Verdict):
        return answer
    if np.allclose(answer, expected, rtol=1e-9, atol=1e-12):
        return correct("one line, and equal to the package's gradient.")
    mean_dy, mean_dy_x_hat, m = dy.mean(), (dy * x_hat).mean(), dy.size
    scale = gamma * inv_std
    slips = {
        "treats both the mean and the variance as constants; subtract mean(dy) and x_hat * "
        "mean(dy * x_hat).": scale * dy,
        "treats the mean as a constant; its share is mean(dy).": scale
        * (dy - x_hat * mean_dy_x_hat),
        "treats the variance as a constant; its share is x_hat * mean(dy * x_hat).": scale
        * (dy - mean_dy),
        "the term with x_hat has the wrong sign; it is subtracted.": scale
        * (dy - mean_dy + x_hat * mean_dy_x_hat),
        "a 1/m is missing; both sums over the batch are means.": scale
        * (dy - m * mean_dy - x_hat * m * mean_dy_x_hat),
        "gamma is missing; dx_hat = gamma * dy.": inv_std * (dy - mean_dy - x_hat * mean_dy_x_hat),
        "1 / sqrt(var_B + eps) is missing; multiply by inv_std.": gamma
        * (dy - mean_dy - x_hat * mean_dy_x_hat),
        "divides by inv_std; it is 1 over the standard deviation already, so multiply.": gamma
        / inv_std
        * (dy - mean_dy - x_hat * mean_dy_x_hat),
    }
    return _explain(answer, slips, expected, "dx")


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
    expected = eye - ones / m - scale / m
    answer = _array(call(function, x_hat), (m, m), "P")
    if isinstance(answer, Verdict):
        return answer
    if np.allclose(answer, expected, rtol=1e-9, atol=1e-12):
        return correct(f"P is a projection (P @ P = P) onto the {m - 2} directions left of {m}.")
    slips = {
        "removes nothing; subtract the matrices that average dy and dy * x_hat.": eye,
        "removes the direction of ones only; also subtract outer(x_hat, x_hat) / m.": eye
        - ones / m,
        "removes the direction of x_hat only; also subtract ones / m.": eye - scale / m,
        "a 1/m is missing; divide both matrices by m.": eye - ones - scale,
        "has the wrong signs; both matrices are subtracted.": eye + ones / m + scale / m,
        "is what is removed; the projection keeps the rest, so subtract it from the identity.": ones
        / m
        + scale / m,
        "divides by the length of x_hat, not its square; its squared length is m.": eye
        - ones / m
        - scale / np.sqrt(m),
    }
    return _explain(answer, slips, expected, "P")


def next_squared_length(function: Callable[..., Any]) -> Verdict:
    """Check `function(norm2, grad2, lr, weight_decay) -> squared length of w after one step`.

    Examples
    --------
    >>> next_squared_length(lambda norm2, grad2, lr, weight_decay: norm2 + lr * grad2)
    Not yet: the learning rate belongs squared: lr**2 * grad2.
    """
    n, g, lr, decay = 2.0, 3.0, 0.5, 0.2
    shrink = 1 - lr * decay
    expected = shrink**2 * n + lr**2 * g
    answer = _array(call(function, n, g, lr, decay), (), "squared length")
    if isinstance(answer, Verdict):
        return answer
    if np.isclose(answer, expected, rtol=1e-9):
        return correct("Pythagoras: the step is at a right angle to w.")
    slips = {
        "the learning rate belongs squared: lr**2 * grad2.": n + lr * g,
        "the learning rate belongs squared, lr**2 * grad2, with or without decay.": shrink**2 * n
        + lr * g,
        "forgets the weight decay: w shrinks by 1 - lr * weight_decay first.": n + lr**2 * g,
        "the factor 1 - lr * weight_decay acts on w, so its square acts on norm2.": shrink * n
        + lr**2 * g,
        "subtracts; a step at a right angle to w always makes it longer.": shrink**2 * n
        - lr**2 * g,
        "adds lengths; at a right angle squares add.": (shrink * np.sqrt(n) + lr * np.sqrt(g)) ** 2,
        "the decay acts with the learning rate: w * (1 - lr * weight_decay).": (1 - decay) ** 2 * n
        + lr**2 * g,
    }
    return _explain(answer, slips, np.asarray(expected), "squared length")


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
    answer = _array(call(function, g, lr, decay), (), "length")
    if isinstance(answer, Verdict):
        return answer
    if np.isclose(answer, fourth**0.25, rtol=1e-4):
        return correct(
            "more learning rate or less decay, longer weights; but only by the fourth root."
        )
    slips = {
        "is the fourth power of the length; take the fourth root.": fourth,
        "is the squared length, or takes the gradient as constant: it shrinks as w grows, so that the "
        "balance gives the fourth power.": fourth**0.5,
        "a factor of 2 is missing: decay takes 2 * lr * weight_decay from the squared length.": (
            lr * g / decay
        )
        ** 0.25,
        "has lr and weight_decay in each other's place.": (decay * g / (2 * lr)) ** 0.25,
        "lr enters once: growth has lr**2, decay has lr.": (lr**2 * g / (2 * decay)) ** 0.25,
    }
    return _explain(answer, slips, np.asarray(fourth**0.25), "length")


def growth_per_layer(function: Callable[..., Any]) -> Verdict:
    r"""Check `function(g, slope) -> rate`, the growth of the squared gradient per layer.

    The rate is :math:`\mathrm{E}[g'(z)^2] / \mathrm{Var}[g(z)]` with a standard normal z; answers
    within 3 percent pass, so sampling 100,000 numbers is good enough.

    Examples
    --------
    >>> growth_per_layer(lambda g, slope: 1.0)
    Not yet: your rate for tanh is 1, expected about 1.178.
    """
    z = np.linspace(-9, 9, 40_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    cases = {
        "tanh": (np.tanh, lambda v: 1 - np.tanh(v) ** 2),
        "a shifted leaky ReLU": (lambda v: np.maximum(v + 1, 0.1 * (v + 1)), lambda v: np.where(v > -1, 1.0, 0.1)),
    }  # fmt: skip
    for name, (g, slope) in cases.items():
        answer = _array(call(function, g, slope), (), "rate")
        if isinstance(answer, Verdict):
            return answer
        slope2, slope1, g2, g1 = (density @ v for v in (slope(z) ** 2, slope(z), g(z) ** 2, g(z)))
        expected = slope2 / (g2 - g1**2)
        if np.isclose(answer, expected, rtol=0.03):
            continue
        slips = {
            "divides by E[g^2]; normalization subtracts the mean first, so divide by the variance.": slope2
            / g2,
            "squares the mean slope; take the mean of the squared slope.": slope1**2 / (g2 - g1**2),
            "is upside down; steep slopes make gradients grow.": (g2 - g1**2) / slope2,
            "is the growth of the gradient; the question is its square.": np.sqrt(expected),
            "divides by the standard deviation; squared gradients need the variance.": slope2
            / np.sqrt(g2 - g1**2),
        }
        return _explain(answer, slips, np.asarray(expected), f"rate for {name}", rtol=0.004)
    return correct("and never below 1: that is the Gaussian Poincaré inequality.")


def _batch() -> tuple[np.ndarray, np.ndarray, float, float]:
    rng = np.random.default_rng(6)
    return 3 + 2 * rng.normal(size=6), rng.normal(size=6) + 0.5, 1.7, -0.4


def _array(answer: Any, shape: tuple[int, ...], name: str) -> np.ndarray | Verdict:
    """Return the answer as an array of that shape, or the verdict that says why it is not one."""
    if isinstance(answer, Verdict):
        return answer
    try:
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return not_yet(f"{name} is a {type(answer).__name__}; return numbers.")
    if array.shape != shape:
        wanted = f"shape {shape}" if shape else "one number"
        return not_yet(f"{name} has shape {array.shape}; expected {wanted}.")
    return array


def _explain(
    answer: np.ndarray,
    slips: dict[str, np.ndarray],
    expected: np.ndarray,
    name: str,
    rtol: float = 1e-6,
) -> Verdict:
    """Name the slip that gives exactly this answer, else show the first number that is off."""
    for message, wrong in slips.items():
        if np.allclose(answer, wrong, rtol=rtol, atol=1e-9):
            return not_yet(message)
    off = np.argmax(np.abs(np.ravel(answer) - np.ravel(expected)))
    at = f"[{off}]" if expected.ndim == 1 else ""
    got, want = np.ravel(answer)[off], np.ravel(expected)[off]
    return not_yet(f"your {name}{at} is {got:.4g}, expected about {want:.4g}.")
