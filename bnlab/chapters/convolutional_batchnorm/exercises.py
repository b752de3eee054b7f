"""Exercise checkers of Chapter 8: one mean a map, its gradient, what a batch is worth, folding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers, pair
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = [
    "effective_values",
    "fold_convolution",
    "map_counts",
    "maps_backward",
    "normalize_maps",
]


def normalize_maps(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(x, gamma, beta, eps)``: Batch Normalization of maps, x of shape (N, C, H, W).

    Examples
    --------
    >>> normalize_maps(lambda x, gamma, beta, eps: x - x.mean(axis=0))
    Not yet: each position has a mean of its own. A map has one mean, over examples and positions.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 5, 3)) + np.arange(3)[:, None, None]  # C equals W: both broadcast
    gamma, beta, eps = np.array([1.5, -0.5, 2.0]), np.array([0.3, 1.0, -2.0]), 0.1
    per_map = gamma[:, None, None], beta[:, None, None]
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    m = x.size / 3
    position = (
        "each position has a mean of its own. A map has one mean, over examples and positions."
    )
    return judge(
        numbers(function, x, gamma, beta, eps, shape=x.shape),
        batch_norm_forward(x, gamma, beta, eps=eps)[0],
        correct("one mean, one variance, one gamma and one beta a map."),
        [
            (_normalized(x, (0, 2, 3), gamma, beta, eps),
             "gamma and beta lie along the width. They need the shape (C, 1, 1) to meet axis 1."),
            (x - x.mean(axis=0), position),
            (_normalized(x, 0, *per_map, eps), position),
            (_normalized(x, (2, 3), *per_map, eps),
             "each image has a mean of its own. That is instance normalization: add axis 0."),
            (_normalized(x, (1, 2, 3), *per_map, eps),
             "each image has one mean for all its maps. That is layer normalization."),
            (_normalized(x, None, *per_map, eps),
             "all maps share one mean. Leave out axis 1: each map keeps its own."),
            (_normalized(x, (0, 1), *per_map, eps),
             "each position shares a mean over the maps. Leave out axis 1, add axes 2 and 3."),
            (per_map[0] * (x - mean) / (np.sqrt(var) + eps) + per_map[1],
             "eps belongs inside the root: sqrt(var + eps)."),
            (per_map[0] * (x - mean) / np.sqrt(var * m / (m - 1) + eps) + per_map[1],
             "divide the sum of squares by m', not by m' - 1, in training."),
        ],
        "Average over axes 0, 2 and 3, with keepdims=True.",
    )  # fmt: skip


def map_counts(function: Callable[[int, int, int, int], tuple[int, int]]) -> Verdict:
    """Check ``function(n, c, h, w)``: how many values share a mean, and how many numbers are learned."""
    n, c, h, w = 6, 5, 4, 3
    answer = numbers(function, n, c, h, w, shape=(2,))
    if isinstance(answer, Verdict):
        return answer
    sharing, learned = answer
    if (sharing, learned) == (2 * c, n * h * w):
        return not_yet("both numbers are right, in the wrong order. Return m' first.")
    return judge(
        sharing,
        n * h * w,
        correct("of the first number."),
        [
            (n, "that is one mean a position. All positions of a map share one."),
            (h * w, "that is one mean an image. All images of the batch share one."),
            (n * c * h * w, "that is one mean for all maps. Each map has its own."),
        ],
        f"{n} images of {h} x {w} positions share a mean.",
    ) and judge(
        learned,
        2 * c,
        correct("m' = m p q values share a mean, and each map learns gamma and beta."),
        [
            (c, "gamma and beta are two numbers a map."),
            (2 * c * h * w, "that is a pair for each position. A map has one pair."),
            (4 * c, "the running mean and variance are kept, not learned."),
        ],
        f"{c} maps learn a gamma and a beta each.",
    )


def maps_backward(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x, gamma, eps)``: dl/dx through the normalization of maps."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 4, 3, 5, 2))
    gamma, eps = np.array([1.5, -0.5, 2.0]), 0.1
    right = batch_norm_backward(dy, batch_norm_forward(x, gamma, np.zeros(3), eps=eps)[1])[0]
    scale = gamma[:, None, None] / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + eps)
    return judge(
        numbers(function, dy, x, gamma, eps, shape=x.shape),
        right,
        correct("the formulas of Chapter 6, with sums over examples and positions."),
        [
            (right / gamma[:, None, None], "gamma is missing."),
            (scale * dy,
             "that is evaluation mode. Here the mean and the variance depend on x."),
            (scale * (dy - dy.mean(axis=(0, 2, 3), keepdims=True)),
             "the part through the variance is missing: the one along x_hat."),
            (_backward(dy, x, gamma, eps, axes=0),
             "the means run over the examples alone. Positions belong to the batch too."),
            (_backward(dy, x, gamma, eps, axes=(0, 2, 3), count=len(x)),
             "a sum over a map has N H W terms: divide by that, not by N."),
        ],
        "Take the one-line form, with means over axes 0, 2 and 3.",
    )  # fmt: skip


def effective_values(function: Callable[[np.ndarray], float]) -> Verdict:
    """Check ``function(x)``: how many independent values the batch mean of a map is worth.

    ``x`` is one map of a batch, of shape (N, H, W), and the answer is N / rho, with rho the variance
    of the images' means over the variance of all values.
    """
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 4, 3)) + rng.normal(size=(6, 1, 1))
    rho = x.mean(axis=(1, 2)).var() / x.var()
    return judge(
        numbers(function, x, shape=()),
        len(x) / rho,
        correct("the mean of the batch scatters as that of so many independent values."),
        [
            (x.size, "that counts all values as independent. Neighbors resemble each other."),
            (len(x), "that counts images. Within an image there is something to average, too."),
            (1 / rho, "that is what one image is worth. The batch has N of them."),
            (len(x) * rho, "the more alike the values of an image, the fewer count: divide by rho."),
            (rho, "that is rho. Return N / rho."),
            (x.size / rho, "N / rho: rho already knows how many positions were averaged."),
            (len(x) * x.var() / x.mean(axis=0).var(),
             "average over the positions of each image, not over the images at each position."),
        ],
        "rho is x.mean(axis=(1, 2)).var() over x.var().",
    )  # fmt: skip


def fold_convolution(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(W, b, gamma, beta, mean, var, eps)``: kernels (out, in, h, w) and bias, folded."""
    rng = np.random.default_rng(3)
    W, b = rng.normal(size=(3, 3, 2, 3)), rng.normal(size=3)  # every axis but one could broadcast
    gamma, beta, mean = rng.normal(size=(3, 3))
    var, eps = np.array([0.5, 2.0, 0.01]), 0.1
    answer = pair(
        function, W, b, gamma, beta, mean, var, eps,
        shapes=(W.shape, b.shape), names=("the folded kernels", "the folded bias"),
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    kernels, bias = answer
    s = gamma / np.sqrt(var + eps)
    verdict = judge(
        kernels,
        W * s[:, None, None, None],
        correct("so far."),
        [
            (W * s, "the scale lies along the width of the kernels. Give it the shape (out, 1, 1, 1)."),
            (W * s[:, None, None],
             "the scale belongs to the maps that come out, axis 0, not to those that go in."),
            (W / np.sqrt(var + eps)[:, None, None, None], "gamma is missing from the kernels."),
            (W * (gamma / (np.sqrt(var) + eps))[:, None, None, None],
             "eps belongs inside the root: sqrt(var + eps)."),
        ],
        "Scale each map that comes out by its gamma / std.",
        given="the kernels",
    )  # fmt: skip
    return verdict and judge(
        bias,
        s * (b - mean) + beta,
        correct("one convolution gives the maps of two layers."),
        [
            (b * s + beta, "the mean is missing."),
            (b - mean * s + beta, "the old one passes through the normalization too: scale it."),
            ((b - mean) * s, "beta is missing."),
        ],
        "Put an image of zeros through both.",
        given="the kernels are right; the bias",
    )  # fmt: skip


def _normalized(x: np.ndarray, axes, gamma, beta, eps: float) -> np.ndarray:
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def _backward(dy, x, gamma, eps: float, *, axes, count: int | None = None) -> np.ndarray:
    def average(v: np.ndarray) -> np.ndarray:
        return v.mean(axis=axes, keepdims=True) if count is None else (
            v.sum(axis=axes, keepdims=True) / count
        )  # fmt: skip

    std = np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) / std
    return gamma[:, None, None] / std * (dy - average(dy) - x_hat * average(dy * x_hat))
