"""What the symbols mean, found without using the lines of the derivation."""

from __future__ import annotations

import statistics
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp

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
    mu_B,
    s,
    var_B,
    x,
    x_hat,
    y,
)

DIGITS = 30


def _loss(root, x, dy, gamma, beta, eps, *, mean=None, var=None, x_hat=None):
    """Run the layer and sum its outputs, each times its dy; what is not passed in is computed from x."""
    mean = sum(x) / len(x) if mean is None else mean
    var = sum((value - mean) ** 2 for value in x) / len(x) if var is None else var
    if x_hat is None:
        x_hat = [(value - mean) / root(var + eps) for value in x]
    return sum(weight * (gamma * value + beta) for weight, value in zip(dy, x_hat, strict=True))


@lru_cache
def meanings(size: int, free: tuple[sp.Symbol, ...]) -> dict[sp.Basic, sp.Expr]:
    """Express each symbol by x, dy, gamma, beta, s and the symbols in `free`."""
    batch = range(1, size + 1)
    xs, dys, hats = ([base[a] for a in batch] for base in (x, dy, x_hat))
    center = sp.Dummy()
    (mean,) = sp.solve(sp.diff(sum((value - center) ** 2 for value in xs), center), center)
    var = sum((a - b) ** 2 for a in xs for b in xs) / (2 * size**2)
    if mu_B in free:
        mean, var = mu_B, sum((value - mu_B) ** 2 for value in xs) / size
    if var_B in free:
        var = var_B

    def loss(**given):
        return _loss(sp.sqrt, xs, dys, gamma, beta, eps, **given)

    def with_s(gradient):
        """Write s for the root of var + eps. A root of anything else stays, so that the check fails."""
        gradient = gradient.xreplace({var_B: var, mu_B: mean})
        rest = {
            power: s ** (2 * power.exp)
            for power in gradient.atoms(sp.Pow)
            if power.exp.q == 2 and sp.expand(power.base - var - eps) == 0
        }
        return gradient.xreplace(rest).subs(eps, s**2 - var)

    # The part of x at right angles to (1, ..., 1).
    across = sp.Matrix(xs) - sp.ones(size) * sp.Matrix(xs) / size
    meaning = {mu_B: mean, var_B: var}
    for a in batch:
        meaning[x_hat[a]] = across[a - 1] / s
        meaning[y[a]] = gamma / s * x[a] + (beta - gamma * mean / s)
        meaning[dx_hat[a]] = sp.diff(loss(x_hat=hats), x_hat[a])
        meaning[dx[a]] = with_s(sp.diff(loss(), x[a]))
    meaning[dvar_B] = with_s(sp.diff(loss(mean=mean, var=var_B), var_B))
    meaning[dmu_B] = with_s(sp.diff(loss(mean=mu_B), mu_B))
    meaning[dgamma] = with_s(sp.diff(loss(), gamma))
    meaning[dbeta] = sp.diff(loss(), beta)
    return meaning


def numbers_for(size: int, free: tuple[sp.Symbol, ...], seed: int) -> dict[sp.Basic, Any]:
    """Give each symbol a random number, an indexed one a list whose first number has index 1.

    Gradients are numerical derivatives of `_loss`.
    """
    rng = np.random.default_rng([seed, size])
    draws = rng.normal(size=(2, size)).tolist()
    xs, dys = ([mpmath.mpf(value) for value in row] for row in draws)
    scale, shift, small, mean, var = map(mpmath.mpf, rng.uniform(0.5, 2, 5).tolist())
    if mu_B not in free:
        exact = [Fraction(value) for value in draws[0]]
        mean, var = _exactly(statistics.mean(exact)), _exactly(statistics.pvariance(exact))
    elif var_B not in free:
        var = sum((value - mean) ** 2 for value in xs) / size
    hats = [(value - mean) / mpmath.sqrt(var + small) for value in xs]

    def slope(value, change):
        """Differentiate the loss at `value`; `change(t)` names the arguments of `_loss` that t moves."""
        return mpmath.diff(lambda t: _loss(mpmath.sqrt, **{**given, **change(t)}), value)

    def one_of(values, a):
        """Return a function of t that puts t in the place of entry a."""
        return lambda t: [*values[:a], t, *values[a + 1 :]]

    given = {"x": xs, "dy": dys, "gamma": scale, "beta": shift, "eps": small}
    lists = {
        x: xs, dy: dys, x_hat: hats, y: [scale * value + shift for value in hats],
        dx: [slope(xs[a], lambda t, a=a: {"x": one_of(xs, a)(t)}) for a in range(size)],
        dx_hat: [slope(hats[a], lambda t, a=a: {"x_hat": one_of(hats, a)(t)}) for a in range(size)],
    }  # fmt: skip
    return {base: [None, *values] for base, values in lists.items()} | {
        gamma: scale, beta: shift, eps: small, mu_B: mean, var_B: var,
        dvar_B: slope(var, lambda t: {"mean": mean, "var": t}),
        dmu_B: slope(mean, lambda t: {"mean": t}),
        dgamma: slope(scale, lambda t: {"gamma": t}),
        dbeta: slope(shift, lambda t: {"beta": t}),
    }  # fmt: skip


def _exactly(fraction: Fraction) -> Any:
    """Return the fraction as an mpmath number, rounded once."""
    return mpmath.mpf(fraction.numerator) / fraction.denominator
