"""The lines of the derivation: the layer, what it does, its gradients, and what follows from them."""

from __future__ import annotations

from typing import Any

import sympy as sp

from bnlab.derivation._step import Lines, Step
from bnlab.derivation.symbols import (
    beta,
    dbeta,
    dgamma,
    dmu_B,
    dvar_B,
    dx,
    dx_hat,
    dy,
    eps,
    gamma,
    i,
    j,
    k,
    m,
    mu_B,
    var_B,
    x,
    x_hat,
    y,
)


def _over_batch(term: sp.Expr, index: sp.Symbol = j, first: int = 1) -> Any:
    """Write the sum of a term over the batch, from `first` to m."""
    return sp.Sum(term, (index, first, m))


_root = sp.sqrt(var_B + eps)

ALGORITHM = Lines((
    Step(
        "mean", "The mean of the mini-batch.",
        mu_B, _over_batch(x[j]) / m,
        "It is the point with the least sum of squared distances to the batch.",
    ),
    Step(
        "variance", "The variance of the mini-batch, divided by m.",
        var_B, _over_batch((x[j] - mu_B) ** 2) / m,
        "It is half the mean squared difference of two values drawn from the batch.",
    ),
    Step(
        "normalize", "The normalized value.",
        x_hat[i], (x[i] - mu_B) / _root,
        "It is the part of x at right angles to (1, ..., 1), rescaled.",
    ),
    Step(
        "scale and shift", "The output, with the learned scale and shift.",
        y[i], gamma * x_hat[i] + beta,
        "It is one straight line in x, the same for the whole batch.",
    ),
))  # fmt: skip

PROPERTIES = Lines((
    Step(
        "deviations", "Deviations from the mean cancel.",
        _over_batch(x[j]), m * mu_B,
        "Multiply the line 'mean' by m.",
    ),
    Step(
        "output mean", "The mean of the output is beta, whatever x is.",
        _over_batch(y[j]) / m, beta,
        "The normalized values sum to 0.",
    ),
    Step(
        "output variance", "The variance of the output is gamma squared, less what eps takes.",
        _over_batch((y[j] - beta) ** 2) / m, gamma**2 * var_B / (var_B + eps),
        "Take the factor gamma / s out of the squares; the line 'variance' is what is left.",
    ),
    Step(
        "identity", "With this scale and this shift the layer does nothing to this batch.",
        x[i], _root * x_hat[i] + mu_B,
        "Solve the line 'normalize' for x: gamma is the root, beta is the mean.",
    ),
    Step(
        "bound", "The square of one normalized value is m - 1, less something that is never negative.",
        x_hat[1] ** 2,
        m - 1 - ((m - 1) * eps + _over_batch(_over_batch((x[j] - x[k]) ** 2, k, 2), j, 2) / (2 * m))
        / (var_B + eps),
        "Lagrange's identity for the other m - 1 deviations, whose sum is minus the first.",
    ),
))  # fmt: skip

CHAIN_RULE = Lines((
    Step(
        "dx_hat", "From the output to the normalized value.",
        dx_hat[i], dy[i] * gamma,
        "y depends on x_hat by the factor gamma.",
    ),
    Step(
        "dvar", "From the normalized values to the variance, which feeds them all.",
        dvar_B, _over_batch(dx_hat[j] * (x[j] - mu_B)) * -(var_B + eps) ** sp.Rational(-3, 2) / 2,
        "The derivative of a power, summed over all paths.",
        free=(mu_B, var_B),
    ),
    Step(
        "dmu", "To the mean, directly and through the variance.",
        dmu_B,
        -_over_batch(dx_hat[j]) / _root - 2 * dvar_B * _over_batch(x[j] - mu_B) / m,
        "Two kinds of path leave the mean: to each x_hat, and to the variance.",
        free=(mu_B,),
    ),
    Step(
        "dx", "To the input: directly, through the variance, and through the mean.",
        dx[i], dx_hat[i] / _root + dvar_B * 2 * (x[i] - mu_B) / m + dmu_B / m,
        "Three kinds of path leave x.",
    ),
    Step(
        "dgamma", "To the scale.",
        dgamma, _over_batch(dy[j] * x_hat[j]),
        "One scale serves the whole batch, so its paths add up.",
    ),
    Step(
        "dbeta", "To the shift.",
        dbeta, _over_batch(dy[j]),
        "One shift serves the whole batch, so its paths add up.",
    ),
))  # fmt: skip

_mean_dx_hat, _mean_dy = _over_batch(dx_hat[j]) / m, _over_batch(dy[j]) / m

ONE_LINE = Lines((
    Step(
        "shorter dmu", "The path through the variance adds nothing to the mean.",
        dmu_B, -_over_batch(dx_hat[j]) / _root,
        "Deviations from the mean cancel.",
    ),
    Step(
        "shorter dvar", "The gradient of the variance, in normalized values.",
        dvar_B, -_over_batch(dx_hat[j] * x_hat[j]) / (var_B + eps) / 2,
        "Replace x - mu_B by s times x_hat.",
    ),
    Step(
        "collected", "Both put into the line 'dx', and 1/s taken out.",
        dx[i],
        (dx_hat[i] - _mean_dx_hat - x_hat[i] * _over_batch(dx_hat[j] * x_hat[j]) / m) / _root,
        "Replace x - mu_B by s times x_hat once more.",
    ),
    Step(
        "one line", "The whole backward pass.",
        dx[i], gamma / _root * (dy[i] - _mean_dy - x_hat[i] * _over_batch(dy[j] * x_hat[j]) / m),
        "Use the line 'dx_hat' and take gamma out.",
    ),
))  # fmt: skip

CONSEQUENCES = Lines((
    Step(
        "no common part", "What one example's gradient gains, the others lose.",
        dx[1], -_over_batch(dx[j], first=2),
        "Sum the line 'one line' over the batch.",
    ),
    Step(
        "no part along x_hat", "Almost nothing pushes along x_hat: eps is all that is left.",
        _over_batch(dx[j] * x_hat[j]), gamma * dgamma * eps / (var_B + eps) ** sp.Rational(3, 2),
        "Multiply the line 'one line' by x_hat, sum, and use the line 'output variance'.",
    ),
    Step(
        "batch of two", "In a batch of two, no gradient passes but for eps.",
        dx[i], gamma * eps / (var_B + eps) ** sp.Rational(3, 2) * (dy[i] - _mean_dy),
        "Two directions are blocked, and there are only two.",
        only=2,
    ),
))  # fmt: skip

LINES = Lines((*ALGORITHM, *PROPERTIES, *CHAIN_RULE, *ONE_LINE, *CONSEQUENCES))


def find(name: str) -> Step:
    r"""Return the line of that name.

    Parameters
    ----------
    name : str
        As listed in ``LINES``.

    Returns
    -------
    Step
        The line.

    Raises
    ------
    ValueError
        If there is no such line; the message lists the names.

    Examples
    --------
    >>> find("one line").says
    'The whole backward pass.'
    """
    for line in LINES:
        if line.name == name:
            return line
    names = ", ".join(repr(line.name) for line in LINES)
    raise ValueError(f"there is no line {name!r}; expected one of {names}. Choose one of these.")
