"""Checkers for the exercises of Chapter 14."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, call, correct, judge, not_yet, numbers, pair
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = ["attainable_speed", "fastest_time", "gradient_in_place", "merge_moments"]


def fastest_time(function: Callable[[tuple, float, int], float]) -> Verdict:
    """Check ``function(shape, bandwidth, itemsize)``: seconds that forward and backward take at least."""
    cases = [((32, 64, 56, 56), 20e9, 4), ((1000, 10), 1e9, 8)]
    for shape, bandwidth, itemsize in cases:
        one = np.prod(shape) * itemsize / bandwidth
        verdict = judge(
            numbers(function, shape, bandwidth, itemsize, shape=()),
            5 * one,
            correct("five arrays have to pass, whatever the program does in between."),
            [
                (2 * one, "that is the forward pass: x is read and y written. Add the backward pass."),
                (3 * one,
                 "that is the backward pass: x and dy are read and dx written. Add the forward pass."),
                (4 * one, "one array is missing. The backward pass reads x again, beside dy."),
                (6 * one, "one array too many: nothing but x, y, x again, dy and dx has to move."),
                (one, "that is one array. Count all that are read and all that are written."),
                (5 * one / itemsize, "numbers are not bytes: multiply by the itemsize."),
                (5 * one * bandwidth**2, "time is bytes divided by bandwidth."),
            ],
            given=f"for {shape} of {itemsize} bytes each",
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict


def attainable_speed(function: Callable[[float, float, float, float], float]) -> Verdict:
    """Check ``function(flops, moved, peak, bandwidth)``: the flop/s under the roof."""
    cases = [(14.0, 20.0, 100e9, 20e9), (1e6, 1e3, 100e9, 20e9)]
    for flops, moved, peak, bandwidth in cases:
        slope = bandwidth * flops / moved
        verdict = judge(
            numbers(function, flops, moved, peak, bandwidth, shape=()),
            min(peak, slope),
            correct("the roof is the lower of two lines, and intensity decides which one it is."),
            [
                (peak, "that is the peak. With little to compute for each byte, memory is slower."),
                (slope, "no program is faster than the peak: take the smaller of the two."),
                (bandwidth * moved / flops, "intensity is flop per byte, not bytes per flop."),
            ],
        )
        if not verdict:
            return verdict
    return verdict


def merge_moments(function: Callable[..., tuple[int, np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(n_a, mean_a, var_a, n_b, mean_b, var_b)``: mean and biased variance of both."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), 4 + 2 * rng.normal(size=(11, 3))
    answer = pair(
        function, 5, a.mean(0), a.var(0), 11, b.mean(0), b.var(0),
        shapes=((3,), (3,)), names=("the mean", "the variance of all values"),
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    mean, var = answer
    both = np.concatenate((a, b))
    verdict = judge(
        mean,
        both.mean(0),
        correct("so far."),
        [((a.mean(0) + b.mean(0)) / 2, "weigh each mean by its number of values.")],
        "Add n times the mean of each, and divide by all n.",
        given="the mean",
    )
    return verdict and judge(
        var,
        both.var(0),
        correct("variance within the blocks, plus variance between their means."),
        [
            ((5 * a.var(0) + 11 * b.var(0)) / 16,
             "that is the variance within. The two means differ as well: add that part."),
            (both.var(0, ddof=1),
             "that is the unbiased variance; here divide by n, as the blocks do."),
            ((a.var(0) + b.var(0)) / 2,
             "weigh each variance by its number of values, and add the part between."),
        ],
        given="the mean is right; the variance",
    )  # fmt: skip


def gradient_in_place(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x_hat, scale, out)``: dx written into out, dy and x_hat left alone."""
    rng = np.random.default_rng(1)
    x, dy = 3 + rng.normal(size=(2, 8, 4))
    gamma = np.array([1.0, 2.0, -0.5, 3.0])
    _, cache = batch_norm_forward(x, gamma, np.zeros(4))
    scale, out = gamma * cache.inv_std, np.full((8, 4), np.nan)
    given = dy.copy(), cache.x_hat.copy()
    answer = call(function, *given, scale, out, copy=False)
    if isinstance(answer, Verdict):
        return answer
    for name, before, after in zip(("dy", "x_hat"), (dy, cache.x_hat), given, strict=True):
        if not np.array_equal(before, after):
            return not_yet(f"{name} has changed. Write into out alone; others still need {name}.")
    if np.isnan(out).all():
        return not_yet(
            "out is untouched. Pass out=out to the first operation, then use *=, += and -=."
        )
    right, _, _ = batch_norm_backward(dy, cache)
    along = cache.x_hat * (dy * cache.x_hat).mean(0)
    if np.allclose(out, right) and answer is not out:
        return not_yet("out is right; return it as well.")
    return judge(
        out,
        right,
        correct("no array of the size of x was kept but the one that was given."),
        [
            (right / scale, "the factor gamma / sqrt(var + eps) is missing at the end."),
            (scale * (dy - dy.mean(0)),
             "the part along x_hat is missing: x_hat times the mean of dy * x_hat."),
            (scale * (dy - along), "the mean of dy is missing."),
            (scale * (dy - dy.sum(0) - len(dy) * along), "use means over the batch, not sums."),
        ],
        "Start with out = -x_hat * mean(dy * x_hat).",
        given="in out",
    )  # fmt: skip
