"""Exercise checkers of Chapter 2: standard format, weights, drift, saturation and depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, not_yet, numbers

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
            f"the columns' means are {_list(mean)}, expected 0. Subtract each column's own mean: axis 0 "
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
    expected = _density(x, 0.0, 0.3) / _density(x, 0.5, 0.5)
    if np.allclose(answer, expected):
        return correct("the weights are the ratio of the new density to the training density.")
    if np.allclose(answer, 1 / expected):
        return not_yet("that is the ratio upside down. The new density goes on top.")
    if answer[0] != 0 and np.allclose(answer / answer[0], expected / expected[0]):
        return not_yet(
            f"the weights are off by the constant factor {answer[0] / expected[0]:.3g}. A line fitted "
            "with them is the same, but a ratio of densities needs each one's 1/std."
        )
    return not_yet(
        f"at x = 0 the weight is {answer[1]:.3g}, expected {expected[1]:.3g}. A normal density is "
        "exp(-((x - mean) / std)**2 / 2) / (std * sqrt(2 * pi))."
    )


def relative_wasserstein(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(before, after)``: the earth mover's distance over the old std, one unit."""
    before = np.array([0.0, 4.0, 1.0, -1.0])
    after = np.array([9.0, 1.0, 2.0, 2.0])
    answer = numbers(function, before, after, shape=())
    if isinstance(answer, Verdict):
        return answer
    gap = np.abs(np.sort(after) - np.sort(before)).mean()
    if np.allclose(answer, gap / before.std()):
        wider = before.mean() + 3 * (before - before.mean())
        spread = numbers(function, before, wider, shape=())
        if isinstance(spread, Verdict) or spread < 0.1:
            return not_yet("a distribution that widens about its mean gives 0. Compare all values.")
        return correct("it compares sorted values and divides by the old standard deviation.")
    if np.allclose(answer, gap):
        return not_yet(f"{float(answer):.3g} is the distance itself. Divide by the std before.")
    if np.allclose(answer, np.abs(after - before).mean() / before.std()):
        return not_yet(
            "you compared example with example. Sort both first: only distributions count."
        )
    if np.allclose(answer, gap / after.std()):
        return not_yet("you divided by the std after. Divide by the one before.")
    return not_yet(f"the answer is {float(answer):.3g}, expected {gap / before.std():.3g}.")


def saturated_share(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check ``function(z, fraction)``: the share with sigmoid slope below fraction times 1/4."""
    z = np.array([-9.0, -5.0, -3.0, -1.0, 0.0, 0.5, 2.5, 4.0])
    answer = numbers(function, z, 0.1, shape=())
    if isinstance(answer, Verdict):
        return answer
    s = 1 / (1 + np.exp(-z))
    slope = s * (1 - s)
    expected = np.mean(slope < 0.025)
    if np.allclose(answer, expected):
        other = numbers(function, z, 0.9, shape=())
        if isinstance(other, Verdict) or not np.allclose(other, np.mean(slope < 0.225)):
            return not_yet("right for fraction=0.1, wrong for 0.9. Use the argument `fraction`.")
        return correct("both tails count, against a fraction of the steepest slope, 1/4.")
    named = {
        np.sum(slope < 0.025): "that is a number of inputs. Divide by how many there are.",
        1 - expected: "that is the share that is not saturated.",
        np.mean(slope < 0.1): "you compared the slope with `fraction`; its steepest value is 1/4, "
        "so compare with fraction / 4.",
        np.mean(s < 0.025): "you compared the sigmoid, not its slope s * (1 - s).",
        np.mean(
            (slope < 0.025) & (z > 0)
        ): "the left tail is missing: a sigmoid is flat on both sides.",
    }
    for value, message in named.items():
        if np.allclose(answer, value):
            return not_yet(message)
    return not_yet(f"the share is {float(answer):.3g}, expected {expected:.3g}.")


def size_at_depth(function: Callable[..., float]) -> Verdict:
    """Check ``function(layer, width, weight_std, activation)``: predicted RMS of a layer's z."""
    for activation, halve in (("linear", 1.0), ("relu", 0.5)):
        for layer in (1, 4):
            answer = numbers(function, layer, 100, 0.05, activation, shape=())
            if isinstance(answer, Verdict):
                return answer
            factor = 100 * 0.05**2
            square = factor * (factor * halve) ** (layer - 1)
            where = f"layer {layer} of a {activation} network"
            if np.allclose(answer, np.sqrt(square)):
                continue
            if np.allclose(answer, square):
                return not_yet(f"{where}: that is the mean square. Take the root.")
            if activation == "relu" and np.allclose(answer, np.sqrt(factor**layer)):
                return not_yet(f"{where}: a ReLU passes half of the mean square on.")
            if activation == "relu" and np.allclose(answer, np.sqrt((factor / 2) ** layer)):
                return not_yet(f"{where}: the inputs of layer 1 went through no ReLU, so the first "
                               "step is not halved.")  # fmt: skip
            return not_yet(
                f"{where}: {float(answer):.4g}, expected {np.sqrt(square):.4g}. Each layer multiplies the "
                "mean square by width * weight_std**2, starting from 1."
            )
    return correct("each layer multiplies the mean square by n sigma^2, halved after a ReLU.")


def _density(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{v:.3g}" for v in values)
