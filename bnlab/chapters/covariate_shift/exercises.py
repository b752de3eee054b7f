"""Exercise checkers of Chapter 2: standard format, weights, drift, saturation and depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers

__all__ = [
    "importance_weights",
    "relative_wasserstein",
    "saturated_share",
    "size_at_depth",
    "standard_format",
]


def standard_format(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(messages)``: each column with mean 0 and biased standard deviation 1.

    Examples
    --------
    >>> standard_format(lambda h: h - h.mean(axis=0))
    Not yet: the means are 0, but the first column's standard deviation is 3, expected 1. Divide by it.
    """
    messages = np.array([[1.0, 10.0, 0.0], [7.0, 10.0, 4.0], [7.0, 30.0, 5.0], [1.0, 20.0, 9.0]])
    answer = numbers(function, messages, shape=messages.shape)
    if isinstance(answer, Verdict):
        return answer
    mean, std = answer.mean(axis=0), answer.std(axis=0)
    if not np.allclose(mean, 0, atol=1e-9):
        return not_yet(
            f"the columns' means are {mean.round(3).tolist()}, expected 0. Subtract each column's own mean: axis 0 "
            "runs over the messages."
        )
    if not np.allclose(std, 1, rtol=1e-3):
        if np.allclose(answer.std(axis=0, ddof=1), 1):
            return not_yet("you divided by the unbiased standard deviation (ddof=1). Use ddof=0.")
        return not_yet(
            f"the means are 0, but the first column's standard deviation is {std[0]:.3g}, expected 1. "
            "Divide by it."
        )
    if not np.allclose(answer, (messages - messages.mean(0)) / messages.std(0), rtol=1e-3):
        return not_yet("mean and spread are right, but the messages changed. Keep order and sign.")
    return correct("every column has mean 0 and standard deviation 1, and the order is kept.")


def importance_weights(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(x, mean_train, std_train, mean_new, std_new)``: p_new(x) / p_train(x)."""
    x = np.array([-0.6, 0.0, 0.2, 0.9])
    answer = numbers(function, x, 0.5, 0.5, 0.0, 0.3, shape=x.shape)
    if isinstance(answer, Verdict):
        return answer
    right = _density(x, 0.0, 0.3) / _density(x, 0.5, 0.5)
    factor = answer[0] / right[0] or np.nan
    return judge(
        answer,
        right,
        correct("the weights are the ratio of the new density to the training density."),
        [
            (1 / right, "that is the ratio upside down. The new density goes on top."),
            (factor * right,
             f"the weights are off by the constant factor {factor:.3g}. A line fitted with them is the "
             "same, but a ratio of densities needs each one's 1/std."),
        ],
        "A normal density is exp(-((x - mean) / std)**2 / 2) / (std * sqrt(2 * pi)).",
    )  # fmt: skip


def relative_wasserstein(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(before, after)``: the earth mover's distance over the old std, one unit."""
    before = np.array([0.0, 4.0, 1.0, -1.0])
    after = np.array([9.0, 1.0, 2.0, 2.0])
    answer = numbers(function, before, after, shape=())
    if isinstance(answer, Verdict):
        return answer
    gap = np.abs(np.sort(after) - np.sort(before)).mean()
    verdict = judge(
        answer,
        gap / before.std(),
        correct("it compares sorted values and divides by the old standard deviation."),
        [
            (gap, "that is the distance itself. Divide by the std before."),
            (np.abs(after - before).mean() / before.std(),
             "you compared example with example. Sort both first: only distributions count."),
            (gap / after.std(), "you divided by the std after. Divide by the one before."),
        ],
    )  # fmt: skip
    wider = before.mean() + 3 * (before - before.mean())
    spread = numbers(function, before, wider, shape=())
    if verdict and (isinstance(spread, Verdict) or spread < 0.1):
        return not_yet("a distribution that widens about its mean gives 0. Compare all values.")
    return verdict


def saturated_share(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check ``function(z, fraction)``: the share with sigmoid slope below fraction times 1/4."""
    z = np.array([-9.0, -5.0, -3.0, -1.0, 0.0, 0.5, 1.5, 4.0])
    answer = numbers(function, z, 0.1, shape=())
    if isinstance(answer, Verdict):
        return answer
    s = 1 / (1 + np.exp(-z))
    slope = s * (1 - s)
    right = np.mean(slope < 0.025)
    verdict = judge(
        answer,
        right,
        correct("both tails count, against a fraction of the steepest slope, 1/4."),
        [
            (np.sum(slope < 0.025), "that is a number of inputs. Divide by how many there are."),
            (1 - right, "that is the share that is not saturated."),
            (np.mean(slope < 0.1),
             "you compared the slope with `fraction`; its steepest value is 1/4, so compare with "
             "fraction / 4."),
            (np.mean(s < 0.025), "you compared the sigmoid, not its slope s * (1 - s)."),
            (np.mean((slope < 0.025) & (z > 0)),
             "the left tail is missing: a sigmoid is flat on both sides."),
        ],
    )  # fmt: skip
    other = numbers(function, z, 0.9, shape=())
    if verdict and (isinstance(other, Verdict) or not np.isclose(other, np.mean(slope < 0.225))):
        return not_yet("right for fraction=0.1, wrong for 0.9. Use the argument `fraction`.")
    return verdict


def size_at_depth(function: Callable[..., float]) -> Verdict:
    """Check ``function(layer, width, weight_std, activation)``: predicted RMS of a layer's z."""
    for activation, halve in (("linear", 1.0), ("relu", 0.5)):
        for layer in (1, 4):
            factor = 100 * 0.05**2
            square = factor * (factor * halve) ** (layer - 1)
            verdict = judge(
                numbers(function, layer, 100, 0.05, activation, shape=()),
                np.sqrt(square),
                correct("each layer multiplies the mean square by n sigma^2, halved after a ReLU."),
                [
                    (square, "that is the mean square. Take the root."),
                    (np.sqrt(factor**layer), "a ReLU passes half of the mean square on."),
                    (np.sqrt((factor / 2) ** layer),
                     "the inputs of layer 1 went through no ReLU, so the first step is not halved."),
                ],
                "Each layer multiplies the mean square by width * weight_std**2, starting from 1.",
                given=f"layer {layer} of a {activation} network",
            )  # fmt: skip
            if not verdict:
                return verdict
    return verdict


def _density(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))
