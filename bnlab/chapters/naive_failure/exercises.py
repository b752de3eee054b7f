"""Exercise checkers of Chapter 3: the runaway bias, the two gradients that stop it, and its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, not_yet, numbers
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
    answer = numbers(function, T, 0.05, shape=())
    if isinstance(answer, Verdict):
        return answer
    expected = 2 * 0.05 * T.mean()
    if np.isclose(answer, expected):
        return correct("each step adds 2 * lr * mean(t), whatever u is and wherever b has got to.")
    if np.isclose(answer, -expected):
        return not_yet("the size is right, the sign is not. A step goes against the gradient.")
    if np.isclose(answer, expected / 2):
        return not_yet(
            "half of what is needed. The square brings a factor 2 when it is differentiated."
        )
    if np.isclose(answer, expected * len(T)):
        return not_yet("that is the sum over the samples. The loss is their mean.")
    return not_yet(
        f"for lr = 0.05 and targets of mean {T.mean():g} you return {answer:.4g}, expected "
        f"{expected:.4g}. Start from dl/db = 2 mean(x_hat - t), and remember the mean of x_hat."
    )


def bias_with_beta(function: Callable[[np.ndarray, float, int, float], float]) -> Verdict:
    """Check ``function(t, lr, k, b0)``: the bias after k naive steps, with a learned beta from 0."""
    answer = numbers(function, T, 0.2, 3, 5.0, shape=())
    if isinstance(answer, Verdict):
        return answer
    left = (1 - 2 * 0.2) ** 3
    expected = 5.0 + T.mean() * (1 - left)
    if np.isclose(answer, expected):
        limit = numbers(function, T, 0.2, 10_000, 0.0, shape=())
        if isinstance(limit, Verdict):
            return limit
        if not np.isclose(limit, T.mean()):
            return not_yet("right after 3 steps, but after 10,000 from 0 it should be at mean(t).")
        return correct("b moves with beta, from b0 towards b0 + mean(t), by the factor 1 - 2 lr.")
    if np.isclose(answer, expected - 5.0):
        return not_yet("that is beta. b makes the same moves, but starts from b0.")
    if np.isclose(answer, 5.0 + 2 * 0.2 * T.mean() * 3):
        return not_yet("that is the run without beta. Here each step shrinks the push on b.")
    if np.isclose(answer, 5.0 + T.mean() * left):
        return not_yet("that is what is left to go. The bias has covered the rest, 1 minus that.")
    return not_yet(
        f"for lr = 0.2, k = 3, b0 = 5 and mean(t) = {T.mean():g} you return {answer:.4g}, expected "
        f"{expected:.4g}. Show first that the distance mean(t) - beta shrinks by one factor a step."
    )


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
    expected = batch_norm_backward(g[:, None], cache)[0][:, 0]
    x_hat = (x - x.mean()) / x.std()
    if np.allclose(answer, expected):
        return correct(
            "this is Batch Normalization's backward pass, and b and a get no push from it."
        )
    if np.allclose(answer, g / x.std()):
        return not_yet("that is the naive gradient, which holds both statistics constant.")
    if np.allclose(answer, (g - g.mean()) / x.std()):
        return not_yet("the mean is done. The standard deviation also depends on every x.")
    if np.allclose(answer * x.std(), expected) or np.allclose(answer / x.std(), expected):
        return not_yet("right up to the factor std[x]. Divide by it once.")
    shift, scale = answer.sum(), (answer * x_hat).sum()
    return not_yet(
        f"your gradient's sum is {shift:.3g} and its sum against x_hat {scale:.3g}; both must be 0. "
        f"Subtract from g what lies along 1 and along x_hat, then divide by std[x]."
    )


def stall_point(function: Callable[[float, int], float]) -> Verdict:
    """Check ``function(step, digits)``: where adding `step` again and again stops, a power of two."""
    cases = {(0.3, 24): 2.0**23, (1.0, 24): 2.0**24, (0.2, 11): 2.0**9, (100.0, 11): 2.0**18}
    for (step, digits), expected in cases.items():
        answer = numbers(function, step, digits, shape=())
        if isinstance(answer, Verdict):
            return answer
        if np.isclose(answer, expected, rtol=1e-12):
            continue
        given = f"for step = {step:g} and {digits} digits you return {answer:.6g}"
        if np.isclose(answer, 2 * expected):
            return not_yet(
                f"{given}, one power of two too far. Half a spacing is enough to lose the step, "
                f"and a tie goes to the even neighbor."
            )
        if np.isclose(answer, expected / 2):
            return not_yet(
                f"{given}, one power of two too early: there the step still rounds up to a spacing."
            )
        return not_yet(
            f"{given}, expected {expected:g}. At 2**k the spacing is 2**(k + 1 - digits); find the "
            f"first k at which half of it is at least the step."
        )
    return correct(
        "at that power of two half a spacing is no smaller than the step, so it is lost."
    )
