"""Checkers for the exercises of Chapter 14."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, not_yet, numbers, pair
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = ["attainable_speed", "fastest_time", "gradient_in_place", "merge_moments"]


def fastest_time(function: Callable[[tuple, float, int], float]) -> Verdict:
    """Check ``function(shape, bandwidth, itemsize)``: seconds that forward and backward take at least."""
    cases = [((32, 64, 56, 56), 20e9, 4), ((1000, 10), 1e9, 8)]
    for shape, bandwidth, itemsize in cases:
        answer = numbers(function, shape, bandwidth, itemsize, shape=())
        if isinstance(answer, Verdict):
            return answer
        one = np.prod(shape) * itemsize / bandwidth
        if np.isclose(answer, 5 * one):
            continue
        for count, hint in (
            (2, "that is the forward pass: x is read and y written. Add the backward pass."),
            (
                3,
                "that is the backward pass: x and dy are read and dx written. Add the forward pass.",
            ),
            (4, "one array is missing. The backward pass reads x again, beside dy."),
            (6, "one array too many: nothing but x, y, x again, dy and dx has to move."),
            (1, "that is one array. Count all that are read and all that are written."),
            (5 / itemsize, "numbers are not bytes: multiply by the itemsize."),
        ):
            if np.isclose(answer, count * one):
                return not_yet(hint)
        if np.isclose(answer, 5 * one * bandwidth**2):
            return not_yet("time is bytes divided by bandwidth.")
        return not_yet(f"for {shape} you return {answer:.3g} s, expected {5 * one:.3g} s.")
    return correct("five arrays have to pass, whatever the program does in between.")


def attainable_speed(function: Callable[[float, float, float, float], float]) -> Verdict:
    """Check ``function(flops, moved, peak, bandwidth)``: the flop/s under the roof."""
    cases = [(14.0, 20.0, 100e9, 20e9), (1e6, 1e3, 100e9, 20e9)]
    for flops, moved, peak, bandwidth in cases:
        answer = numbers(function, flops, moved, peak, bandwidth, shape=())
        if isinstance(answer, Verdict):
            return answer
        slope = bandwidth * flops / moved
        if np.isclose(answer, min(peak, slope)):
            continue
        if np.isclose(answer, peak):
            return not_yet(
                "that is the peak. With little to compute for each byte, memory is slower."
            )
        if np.isclose(answer, slope):
            return not_yet("no program is faster than the peak: take the smaller of the two.")
        if np.isclose(answer, bandwidth * moved / flops):
            return not_yet("intensity is flop per byte, not bytes per flop.")
        return not_yet(f"you return {answer:.3g}, expected {min(peak, slope):.3g} flop/s.")
    return correct("the roof is the lower of two lines, and intensity decides which one it is.")


def merge_moments(function: Callable[..., tuple[int, np.ndarray, np.ndarray]]) -> Verdict:
    """Check ``function(n_a, mean_a, var_a, n_b, mean_b, var_b)``: mean and biased variance of both."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), 4 + 2 * rng.normal(size=(11, 3))
    answer = pair(
        function, 5, a.mean(0), a.var(0), 11, b.mean(0), b.var(0),
        shapes=((3,), (3,)), what="the mean and the variance of all values",
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    mean, var = answer
    both = np.concatenate((a, b))
    within = (5 * a.var(0) + 11 * b.var(0)) / 16
    if np.allclose(mean, (a.mean(0) + b.mean(0)) / 2):
        return not_yet("the mean is off: weigh each mean by its number of values.")
    if not np.allclose(mean, both.mean(0)):
        return not_yet("the mean is off: add n times the mean of each, and divide by all n.")
    if np.allclose(var, both.var(0)):
        return correct("variance within the blocks, plus variance between their means.")
    if np.allclose(var, within):
        return not_yet("that is the variance within. The two means differ as well: add that part.")
    if np.allclose(var, both.var(0, ddof=1)):
        return not_yet("that is the unbiased variance; here divide by n, as the blocks do.")
    if np.allclose(var, (a.var(0) + b.var(0)) / 2):
        return not_yet("weigh each variance by its number of values, and add the part between.")
    return not_yet(
        f"the variance is {var.round(3).tolist()}, expected {both.var(0).round(3).tolist()}."
    )


def gradient_in_place(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(dy, x_hat, scale, out)``: dx written into out, dy and x_hat left alone."""
    rng = np.random.default_rng(1)
    x, dy = 3 + rng.normal(size=(2, 8, 4))
    gamma = np.array([1.0, 2.0, -0.5, 3.0])
    _, cache = batch_norm_forward(x, gamma, np.zeros(4))
    scale, out = gamma * cache.inv_std, np.full((8, 4), np.nan)
    given = dy.copy(), cache.x_hat.copy()
    try:
        answer = function(*given, scale, out)
    except NotImplementedError:
        return not_yet(
            "the function is still a stub. Replace `raise NotImplementedError` with your code."
        )
    except Exception as error:  # a reader's mistake is an answer and not a crash
        return not_yet(f"the function raised {type(error).__name__}: {error}")
    for name, before, after in zip(("dy", "x_hat"), (dy, cache.x_hat), given, strict=True):
        if not np.array_equal(before, after):
            return not_yet(f"{name} has changed. Write into out alone; others still need {name}.")
    if np.isnan(out).all():
        return not_yet(
            "out is untouched. Pass out=out to the first operation, then use *=, += and -=."
        )
    expected, _, _ = batch_norm_backward(dy, cache)
    if np.allclose(out, expected):
        if answer is not out:
            return not_yet("out is right; return it as well.")
        return correct("no array of the size of x was kept but the one that was given.")
    if np.allclose(out, expected / scale):
        return not_yet("the factor gamma / sqrt(var + eps) is missing at the end.")
    if np.allclose(out, scale * (dy - dy.mean(0))):
        return not_yet("the part along x_hat is missing: x_hat times the mean of dy * x_hat.")
    if np.allclose(out, scale * (dy - cache.x_hat * (dy * cache.x_hat).mean(0))):
        return not_yet("the mean of dy is missing.")
    if np.allclose(out, scale * (dy - dy.sum(0) - cache.x_hat * (dy * cache.x_hat).sum(0))):
        return not_yet("use means over the batch, not sums.")
    return not_yet("out holds other numbers than dx. Start with out = -x_hat * mean(dy * x_hat).")
