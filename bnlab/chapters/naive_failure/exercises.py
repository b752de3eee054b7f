"""Exercise checkers of Chapter 3: the runaway bias, the two gradients that stop it, and its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = [
    "bias_growth",
    "bias_with_beta",
    "gradient_through_mean",
    "gradient_through_statistics",
    "stall_point",
]

T = np.array([0.5, -1.0, 2.0, 4.0, 1.0])


def bias_growth(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check ``function(t, lr)``: what one naive step adds to the bias of the centered layer.

    Examples
    --------
    >>> bias_growth(lambda t, lr: lr * t.mean())
    Not yet: half of what is needed. The square brings a factor 2 when it is differentiated.
    """
    right = 2 * 0.05 * T.mean()
    return judge(
        numbers(function, T, 0.05, shape=()),
        right,
        correct("each step adds 2 * lr * mean(t), whatever u is and wherever b has got to."),
        [
            (-right, "the size is right, the sign is not. A step goes against the gradient."),
            (right / 2,
             "half of what is needed. The square brings a factor 2 when it is differentiated."),
            (right * len(T), "that is the sum over the samples. The loss is their mean."),
        ],
        "Start from dl/db = 2 mean(x_hat - t), and remember the mean of x_hat.",
    )  # fmt: skip


def bias_with_beta(function: Callable[[np.ndarray, float, int, float], float]) -> Verdict:
    """Check ``function(t, lr, k, b0)``: the bias after k naive steps, with a learned beta from 0."""
    left = (1 - 2 * 0.2) ** 3
    right = 5.0 + T.mean() * (1 - left)
    verdict = judge(
        numbers(function, T, 0.2, 3, 5.0, shape=()),
        right,
        correct("b moves with beta, from b0 towards b0 + mean(t), by the factor 1 - 2 lr."),
        [
            (right - 5.0, "that is beta. b makes the same moves, but starts from b0."),
            (5.0 + 2 * 0.2 * T.mean() * 3,
             "that is the run without beta. Here each step shrinks the push on b."),
            (5.0 + T.mean() * left,
             "that is what is left to go. The bias has covered the rest, 1 minus that."),
        ],
        "Show first that the distance mean(t) - beta shrinks by one factor a step.",
    )  # fmt: skip
    if not verdict:
        return verdict
    limit = numbers(function, T, 0.2, 10_000, 0.0, shape=())
    if isinstance(limit, Verdict):
        return limit
    if not np.isclose(limit, T.mean()):
        return not_yet("right after 3 steps, but after 10,000 from 0 it should be at mean(t).")
    return verdict


def gradient_through_mean(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(g)``: from dl/dx_hat to dl/dx when x_hat = x - E[x]."""
    g = np.array([2.0, -1.0, 0.5, 4.5])
    answer = numbers(function, g, shape=g.shape)
    if isinstance(answer, Verdict):
        return answer
    if np.allclose(answer, g - g.mean()):
        return correct("the gradient loses its mean, so that the bias gets none: its sum is 0.")
    if np.allclose(answer, g):
        return not_yet("that is the naive gradient. Every x also enters every x_hat through E[x].")
    if np.allclose(answer, g - g.sum()):
        return not_yet("E[x] holds each x with weight 1/n: subtract the mean of g, not its sum.")
    if np.isclose(answer.sum(), 0):
        return not_yet("the sum is 0, as it must be, but single entries differ from g - mean(g).")
    return not_yet(
        f"the sum of your gradient is {answer.sum():.3g}, expected 0: shifting every x moves nothing."
    )


def gradient_through_statistics(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Verdict:
    """Check ``function(x, g)``: from dl/dx_hat to dl/dx when x_hat = (x - E[x]) / std[x]."""
    x, g = np.array([1.0, 4.0, -2.0, 7.0, 0.5]), np.array([0.3, -1.0, 2.0, 0.7, 1.1])
    answer = numbers(function, x, g, shape=x.shape)
    if isinstance(answer, Verdict):
        return answer
    one, zero = np.ones(1), np.zeros(1)
    _, cache = batch_norm_forward(x[:, None], one, zero, eps=0.0)
    right = batch_norm_backward(g[:, None], cache)[0][:, 0]
    x_hat, std = (x - x.mean()) / x.std(), x.std()
    factor = "right up to the factor std[x]. Divide by it once."
    return judge(
        answer,
        right,
        correct("this is Batch Normalization's backward pass, and b and a get no push from it."),
        [
            (g / std, "that is the naive gradient, which holds both statistics constant."),
            ((g - g.mean()) / std,
             "the mean is done. The standard deviation also depends on every x."),
            (right / std, factor),
            (right * std, factor),
        ],
        f"Your gradient's sum is {answer.sum():.3g} and its sum against x_hat {(answer * x_hat).sum():.3g}; both must "
        "be 0. Subtract from g what lies along 1 and along x_hat, then divide by std[x].",
    )  # fmt: skip


def stall_point(function: Callable[[float, int], float]) -> Verdict:
    """Check ``function(step, digits)``: where adding `step` again and again stops, a power of two."""
    cases = {(0.3, 24): 2.0**23, (1.0, 24): 2.0**24, (0.2, 11): 2.0**9, (100.0, 11): 2.0**18}
    for (step, digits), expected in cases.items():
        verdict = judge(
            numbers(function, step, digits, shape=()),
            expected,
            correct("at that power of two half a spacing is no smaller than the step, so it is lost."),
            [
                (2 * expected,
                 "that is one power of two too far. Half a spacing is enough to lose the step, and a tie "
                 "goes to the even neighbor."),
                (expected / 2,
                 "that is one power of two too early: there the step still rounds up to a spacing."),
            ],
            "At 2**k the spacing is 2**(k + 1 - digits); find the first k at which half of it is at least the step.",
            given=f"for step = {step:g} and {digits} digits",
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict
