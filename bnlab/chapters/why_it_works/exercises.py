"""Exercises of Chapter 11: a share of an advantage, twins, decay as a rate, and the effective rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, numbers, pair

__all__ = ["effective_rank", "growing_rate", "inserted_layer", "share_of_advantage"]


def share_of_advantage(function: Callable[..., Any]) -> Verdict:
    """Check `function(plain, part, whole) -> share`, three losses of which `plain` is the largest.

    Examples
    --------
    >>> share_of_advantage(lambda plain, part, whole: (plain - part) / (plain - whole))
    Not yet: is the share of a difference; losses shrink by factors, so take logarithms.
    """
    plain, part, whole = 0.8, 0.2, 0.1
    share = np.log(plain / part) / np.log(plain / whole)
    return judge(
        numbers(function, plain, part, whole, shape=()),
        share,
        correct("two halvings of three, so two thirds."),
        [
            ((plain - part) / (plain - whole),
             "is the share of a difference; losses shrink by factors, so take logarithms."),
            (plain / part / (plain / whole), "is a ratio of factors; a share of a factor is a ratio of logarithms."),
            (1 - share, "is the share that is missing; the part has the rest."),
            (1 / share, "is upside down; the whole advantage belongs below."),
            (np.log(part) / np.log(whole), "forgets the plain net; both factors begin at its loss."),
        ],
    )  # fmt: skip


def inserted_layer(function: Callable[..., Any]) -> Verdict:
    """Check `function(z, b, eps) -> (gamma, beta)`, so that BN of `z`, one unit's values, returns z + b.

    Examples
    --------
    >>> inserted_layer(lambda z, b, eps: (z.std(), z.mean() + b))
    Not yet: gamma: forgets eps inside the root: sqrt(var + eps).
    """
    z, b, eps = 3 + 2 * np.random.default_rng(11).normal(size=8), 0.7, 0.1
    answer = pair(function, z, b, eps, shapes=((), ()), names=("gamma", "beta"))
    if isinstance(answer, Verdict):
        return answer
    gamma = judge(
        answer[0],
        np.sqrt(z.var() + eps),
        correct("gamma"),
        [
            (z.std(), "gamma: forgets eps inside the root: sqrt(var + eps)."),
            (z.var() + eps, "gamma: is the variance; the layer divides by its root."),
            (np.sqrt(z.var(ddof=1) + eps), "gamma: divides by m - 1; the layer's variance divides by m."),
            (1 / np.sqrt(z.var() + eps), "gamma: is upside down; it must undo the division."),
            (1.0, "gamma: leaves the values normalized; it must undo the division."),
        ],
    )  # fmt: skip
    if not gamma:
        return gamma
    return judge(
        answer[1],
        z.mean() + b,
        correct("one function, two ways to write it; they part when the weights move."),
        [
            (b, "beta: is the bias alone; the layer subtracts the mean, so add it as well."),
            (z.mean(), "beta: undoes the mean only; the bias is missing."),
            (b - z.mean(), "beta: subtracts the mean once more; add it."),
        ],
    )  # fmt: skip


def growing_rate(function: Callable[..., Any]) -> Verdict:
    """Check `function(lr, weight_decay, t) -> rate of step t` (t = 0, 1, ...) that equals weight decay.

    Examples
    --------
    >>> growing_rate(lambda lr, weight_decay, t: lr)
    Not yet: is constant; without decay the weights stay longer from step to step, so the rate must grow.
    """
    lr, decay, t = 0.5, 0.2, 3
    shrink = 1 - lr * decay
    return judge(
        numbers(function, lr, decay, t, shape=()),
        lr * shrink ** -(2 * t + 1),
        correct("length enters twice, in the gradient and in the angle; hence the 2."),
        [
            (lr, "is constant; without decay the weights stay longer from step to step, so the rate must grow."),
            (lr * shrink ** -(t + 1), "counts the length once; it also divides the gradient, so its square acts."),
            (lr * shrink ** -(2 * t), "misses the decay of step t itself: one more factor."),
            (lr * shrink ** -(2 * t + 2), "counts the decay of step t twice; the gradient comes before it."),
            (lr * shrink ** (2 * t + 1), "shrinks; the rate must grow."),
            (lr * (1 - decay) ** -(2 * t + 1), "forgets the rate in the decay: each step keeps 1 - lr * weight_decay."),
        ],
    )  # fmt: skip


def effective_rank(function: Callable[..., Any]) -> Verdict:
    """Check `function(h) -> effective rank`, activations of shape (examples, units).

    Examples
    --------
    >>> effective_rank(lambda h: np.linalg.matrix_rank(h))
    Not yet: counts every direction alike; weigh them by the squares of the singular values.
    """
    rng = np.random.default_rng(3)
    h = rng.normal(size=(6, 5)) * [4.0, 2.0, 1.0, 0.5, 0.25] + 1
    sigma = np.linalg.svd(h, compute_uv=False)
    centred = np.linalg.svd(h - h.mean(axis=0), compute_uv=False) ** 2
    return judge(
        numbers(function, h, shape=()),
        (sigma**2).sum() ** 2 / (sigma**4).sum(),
        correct("and 1 if all examples are multiples of one."),
        [
            (5, "counts every direction alike; weigh them by the squares of the singular values."),
            (sigma.sum() ** 2 / (sigma**2).sum(), "uses the singular values; use their squares, as variances."),
            ((sigma**4).sum() / (sigma**2).sum() ** 2, "is upside down; equal directions should count fully."),
            ((sigma**2).sum() / sigma.max() ** 2, "divides by the largest square: the stable rank, another measure."),
            (centred.sum() ** 2 / (centred**2).sum(), "subtracts the mean first; what all examples share counts here."),
        ],
    )  # fmt: skip
