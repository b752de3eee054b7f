"""Chapter 3: the runaway bias, the two gradients that stop it, and its end."""

import numpy as np

from bnlab.chapters.naive_failure import naive


def hat(x):
    return (x - x.mean()) / x.std()


def through_statistics(x, g):
    return (g - g.mean() - hat(x) * (g * hat(x)).mean()) / x.std()


def run_with_beta(t, lr, k, b0):
    beta, b = 0.0, b0
    for _ in range(k):
        push = 2 * (beta - t.mean())
        beta, b = beta - lr * push, b - lr * push
    return b


RIGHT = {
    "bias_growth": [
        lambda t, lr: 2 * lr * t.mean(),
        lambda t, lr: naive.predicted_bias(t, lr=lr, steps=1)[1],
        lambda t, lr: float(np.diff(naive.train(t * 0 + 1, t, lr=lr, steps=1).b)[0]),
    ],
    "bias_with_beta": [
        lambda t, lr, k, b0: b0 + t.mean() * (1 - (1 - 2 * lr) ** k),
        run_with_beta,
    ],
    "gradient_through_mean": [lambda g: g - g.mean(), lambda g: (np.eye(4) - 1 / 4) @ g],
    "gradient_through_statistics": [through_statistics],
    "stall_point": [
        lambda step, digits: 2.0 ** (digits + np.ceil(np.log2(step))),
        lambda step, digits: next(2**k for k in range(60) if 2.0 ** (k - digits) >= step),
    ],
}

WRONG = {
    "bias_growth": {
        "with the gradient": (lambda t, lr: -2 * lr * t.mean(), "the sign is not"),
        "no factor 2": (lambda t, lr: lr * t.mean(), "half of what is needed"),
        "the sum": (lambda t, lr: 2 * lr * t.sum(), "the sum over the samples"),
        "no learning rate": (lambda t, lr: 2 * t.mean(), "return 2.6, expected 0.13. Start from dl/db"),
        "zero": (lambda t, lr: 0.0, "remember the mean of x_hat"),
        "an array": (lambda t, lr: 2 * lr * t, "has shape (5,), expected one number"),
        "NaN": (lambda t, lr: np.nan, "holds NaN or Inf"),
    },
    "bias_with_beta": {
        "beta": (lambda t, lr, k, b0: t.mean() * (1 - (1 - 2 * lr) ** k), "starts from b0"),
        "without beta": (lambda t, lr, k, b0: b0 + 2 * lr * t.mean() * k, "the run without beta"),
        "what is left": (lambda t, lr, k, b0: b0 + t.mean() * (1 - 2 * lr) ** k, "left to go"),
        "the limit": (lambda t, lr, k, b0: b0 + t.mean(), "shrinks by one factor a step"),
        "no factor 2": (
            lambda t, lr, k, b0: b0 + t.mean() * (1 - (1 - lr) ** k), "shrinks by one factor a step"),
        "exponential": (
            lambda t, lr, k, b0: b0 + t.mean() * (1 - np.exp(-2 * lr * k)), "shrinks by one factor"),
        "one step short": (
            lambda t, lr, k, b0: run_with_beta(t, lr, k - 1, b0), "shrinks by one factor a step"),
        "towards mean(t), from b0": (
            lambda t, lr, k, b0: t.mean() + (b0 - t.mean()) * (1 - 2 * lr) ** k,
            "return 2.099, expected 6.019."),
        "only the case asked first": (
            lambda t, lr, k, b0: 5.0 + 1.3 * (1 - 0.6**3), "right after 3 steps"),
        "no answer for the other": (
            lambda t, lr, k, b0: run_with_beta(t, lr, k, b0) if b0 else None, "returned None"),
    },
    "gradient_through_mean": {
        "naive": (lambda g: g, "the naive gradient"),
        "minus the sum": (lambda g: g - g.sum(), "not its sum"),
        "plus the mean": (lambda g: g + g.mean(), "the sum of your gradient is 12, expected 0"),
        "the mean alone": (lambda g: np.full_like(g, g.mean()), "shifting every x moves nothing"),
        "minus the median": (lambda g: g - np.median(g), "shifting every x moves nothing"),
        "standardized": (lambda g: (g - g.mean()) / g.std(), "the sum is 0, as it must be"),
        "zero": (lambda g: 0 * g, "the sum is 0, as it must be"),
        "a number": (lambda g: 0.0, "has shape (), expected an array of shape (4,)"),
    },
    "gradient_through_statistics": {
        "naive": (lambda x, g: g / x.std(), "the naive gradient"),
        "the mean only": (lambda x, g: (g - g.mean()) / x.std(), "the mean is done"),
        "no division": (lambda x, g: through_statistics(x, g) * x.std(), "up to the factor std"),
        "divided twice": (lambda x, g: through_statistics(x, g) / x.std(), "up to the factor std"),
        "the scale only": (
            lambda x, g: (g - hat(x) * (g * hat(x)).mean()) / x.std(),
            "Your gradient's sum is 0.998 and its sum against x_hat"),
        "unbiased std": (
            lambda x, g: through_statistics(x, g) * x.std() / x.std(ddof=1), "both must be 0"),
        "x for x_hat": (lambda x, g: (g - g.mean() - x * (g * x).mean()) / x.std(), "both must be 0"),
        "plus": (
            lambda x, g: (g - g.mean() + hat(x) * (g * hat(x)).mean()) / x.std(), "both must be 0"),
        "sum along x_hat": (
            lambda x, g: (g - g.mean() - hat(x) * (g * hat(x)).sum()) / x.std(), "both must be 0"),
        "zero": (lambda x, g: 0 * g, "both must be 0"),
    },
    "stall_point": {
        "a whole spacing": (
            lambda step, digits: 2.0 ** (digits + 1 + np.ceil(np.log2(step))),
            "for step = 0.3 and 24 digits: that is one power of two too far"),
        "strictly more": (
            lambda step, digits: 2.0 ** (digits + 1 + np.floor(np.log2(step))),
            "for step = 1 and 24 digits: that is one power of two too far"),
        "stored digits": (
            lambda step, digits: 2.0 ** (digits - 1 + np.ceil(np.log2(step))), "too early"),
        "floor": (lambda step, digits: 2.0 ** (digits + np.floor(np.log2(step))), "too early"),
        "not a power of two": (lambda step, digits: step * 2.0**digits, "find the first k"),
        "no step": (lambda step, digits: 2.0**digits, "too far"),
        "float32 only": (
            lambda step, digits: 2.0 ** (24 + np.ceil(np.log2(step))), "for step = 0.2 and 11 digits"),
        "the exponent": (
            lambda step, digits: digits + np.ceil(np.log2(step)), "you return 23, expected 8.389e+06"),
    },
}  # fmt: skip
