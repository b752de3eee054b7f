"""Exercise checkers of Chapter 12: group norm, synchronized statistics, Batch Renormalization, batches of two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers

__all__ = ["group_norm", "rank_at_two", "renormalize", "synchronized"]


def group_norm(function: Callable[[np.ndarray, int, float], np.ndarray]) -> Verdict:
    """Check ``function(x, groups, eps)``: group normalization of x, (N, C, H, W), without scale and shift.

    Examples
    --------
    >>> group_norm(lambda x, groups, eps: x)
    Not yet: entry [1, 5, 0, 0] is 6.583, expected 1.453. Reshape x to (N, groups, C // groups, H, W) first.
    """
    rng = np.random.default_rng(0)
    x, groups, eps = rng.normal(size=(4, 6, 2, 3)) + np.arange(6)[:, None, None], 3, 0.1
    n, c, h, w = x.shape
    parts = x.reshape(n, groups, c // groups, h, w)
    woven = x.reshape(n, c // groups, groups, h, w)
    variance = parts.var(axis=(2, 3, 4), keepdims=True)
    centered = parts - parts.mean(axis=(2, 3, 4), keepdims=True)
    return judge(
        numbers(function, x, groups, eps, shape=x.shape),
        _normalized(parts, (2, 3, 4), eps).reshape(x.shape),
        correct("each group of each image has its own mean and variance, whatever the batch."),
        [
            (_normalized(parts, (0, 2, 3, 4), eps).reshape(x.shape),
             "other images share your mean. Leave out axis 0."),
            (_normalized(x, (1, 2, 3), eps),
             "all channels share one mean: that is layer norm, one group."),
            (_normalized(x, (2, 3), eps),
             "each channel has a mean of its own: that is instance norm, C groups."),
            (_normalized(parts, 2, eps).reshape(x.shape),
             "each position has a mean of its own. Average over height and width as well."),
            (_normalized(woven, (1, 3, 4), eps).reshape(x.shape),
             "your groups take every third channel. A group holds neighbors: split axis 1 as (groups, C // groups)."),
            ((centered / (np.sqrt(variance) + eps)).reshape(x.shape),
             "eps belongs inside the root: sqrt(var + eps)."),
        ],
        "Reshape x to (N, groups, C // groups, H, W) first.",
    )  # fmt: skip


def synchronized(function: Callable[..., tuple[float, float]]) -> Verdict:
    """Check ``function(m, mean, var)``: mean and biased variance of all replicas' values together.

    Each replica sends how many values it has, their mean and their biased variance.

    Examples
    --------
    >>> synchronized(lambda m, mean, var: (mean.mean(), var.mean()))
    Not yet: the mean is off. A replica with m values counts m times.
    """
    rng = np.random.default_rng(1)
    parts = [rng.normal(loc, size=size) for loc, size in ((0.0, 3), (2.0, 7), (-1.0, 4))]
    m, mean, var = np.array([[len(p), p.mean(), p.var()] for p in parts]).T
    together = np.concatenate(parts)
    answer = numbers(function, m, mean, var, shape=(2,))
    if isinstance(answer, Verdict):
        return answer
    right = together.mean(), together.var()
    if np.allclose(answer, right[::-1]):
        return not_yet("both numbers are right, in the wrong order. Return the mean first.")
    if not np.isclose(answer[0], right[0]):
        return not_yet("the mean is off. A replica with m values counts m times.")
    within = np.average(var, weights=m)
    return judge(
        answer[1],
        right[1],
        correct("three numbers a replica are enough to normalize as one large batch would."),
        [
            (within, "you average the variances within replicas. Their means differ, too: add that spread."),
            (var.mean() + np.average((mean - right[0]) ** 2, weights=m),
             "the spread of the means is right; weight the variances by m as well."),
            (within + np.mean((mean - right[0]) ** 2),
             "weight the spread of the means by m, too."),
            (within + mean.var(), "measure the spread of the means around the common mean, weighted by m."),
            (together.var(ddof=1), "that is the unbiased variance. A batch is normalized by the biased one."),
        ],
        "Start from E[x^2] = var + mean^2 of each replica.",
        given="the mean is right; the variance",
    )  # fmt: skip


def renormalize(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(x, mean, var, r_max, d_max, eps)``: the forward pass of Batch Renormalization.

    Scale and shift are left out, and x has shape (m, features).

    Examples
    --------
    >>> renormalize(lambda x, mean, var, r_max, d_max, eps: (x - mean) / np.sqrt(var + eps))
    Not yet: you leave r and d as they are. Clip both.
    """
    rng = np.random.default_rng(2)
    spread, place = np.array([1.0, 5.0, 0.1, 1.0, 1.2]), np.array([0.0, 1.0, 0.0, 30.0, -30.0])
    x, r_max, d_max, eps = spread * rng.normal(size=(6, 5)) + place, 3.0, 5.0, 0.1
    mean, var = np.full(5, 0.2), np.full(5, 0.9)
    mu, s, sigma = x.mean(axis=0), np.sqrt(x.var(axis=0) + eps), np.sqrt(var + eps)
    x_hat, r, d = (x - mu) / s, s / sigma, (mu - mean) / sigma

    def clipped(r: np.ndarray, d: np.ndarray) -> np.ndarray:
        return x_hat * np.clip(r, 1 / r_max, r_max) + np.clip(d, -d_max, d_max)

    return judge(
        numbers(function, x, mean, var, r_max, d_max, eps, shape=x.shape),
        clipped(r, d),
        correct("where nothing is clipped, this is the output of evaluation mode."),
        [
            (x_hat, "that is Batch Normalization. Multiply by r and add d."),
            (x_hat * r + d, "you leave r and d as they are. Clip both."),
            (x_hat * np.clip(r, 1 / r_max, r_max) + d, "d is not clipped."),
            (x_hat * r + np.clip(d, -d_max, d_max), "r is not clipped."),
            (x_hat * np.minimum(r, r_max) + np.clip(d, -d_max, d_max),
             "r needs a limit below, too: 1 / r_max."),
            (x_hat * np.clip(r, 1 / r_max, r_max) + np.minimum(d, d_max), "d can be far below zero, too."),
            (clipped(1 / r, d), "r is upside down: the batch's spread over the running one."),
            (clipped(r, -d), "d has the wrong sign: the batch's mean less the running one."),
            (clipped(r, (mu - mean) / s), "d is measured in running standard deviations, not the batch's."),
        ],
        "With r = s_B / s and d = (mu_B - mu) / s, clipped, the output is x_hat r + d.",
    )  # fmt: skip


def rank_at_two(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(x)``: what each value becomes on average in a batch of two, with eps = 0.

    The partner is any of the other values, each as likely as the next; all values differ.

    Examples
    --------
    >>> rank_at_two(lambda x: np.sign(x))
    Not yet: entry [3] is 1, expected 0. Its partner is below it or above it: count both.
    """
    x = np.array([0.3, -2.0, 9.0, 0.2, -0.1])
    n = len(x)
    below = (x < x[:, None]).sum(axis=1)
    pairs = x[:, None] - x
    return judge(
        numbers(function, x, shape=x.shape),
        (2 * below - (n - 1)) / (n - 1),
        correct("all that is left of a value is its rank. An outlier is no more than the largest."),
        [
            (below / (n - 1), "that is the share of partners below. A partner above gives -1, not 0."),
            ((2 * below - (n - 1)) / n, "a value is not its own partner: divide by n - 1."),
            (2 * below / n - 1, "a value is not its own partner: there are n - 1 others."),
            (-(2 * below - (n - 1)) / (n - 1), "the sign is wrong: the larger of two becomes +1."),
            (pairs.sum(axis=1) / (n - 1), "that is the average difference. In a batch of two only its sign is left."),
            ((x - x.mean()) / x.std(), "that is one batch of all values. Here each batch has two."),
        ],
        "Its partner is below it or above it: count both.",
    )  # fmt: skip


def _normalized(x: np.ndarray, axes: int | tuple[int, ...], eps: float) -> np.ndarray:
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)
