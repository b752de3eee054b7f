"""Chapter 5: the transform, its gradient, its identity, its extremes, eps."""

import numpy as np


def norm(x, axis=0, ddof=0, eps=0.0):
    c = x - x.mean(axis=axis, keepdims=True)
    return c / np.sqrt(x.var(axis=axis, ddof=ddof, keepdims=True) + eps)


def forward(x, gamma, beta, eps):
    return gamma * norm(x, eps=eps) + beta


def in_place(x, gamma, beta, eps):
    x -= x.mean(0)
    x /= np.sqrt((x**2).mean(0) + eps)
    return gamma * x + beta


def six_formulas(dy, x, gamma, eps):
    m, mu, var = len(x), x.mean(0), x.var(0)
    dx_hat = dy * gamma
    dvar = (dx_hat * (x - mu)).sum(0) * -0.5 * (var + eps) ** -1.5
    dmu = -dx_hat.sum(0) / np.sqrt(var + eps) + dvar * (-2 * (x - mu)).sum(0) / m
    return dx_hat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / m + dmu / m


def combined(inner, ddof=0):
    """Answer with gamma / std times inner(dy, mean of dy, the part along x_hat)."""

    def backward(dy, x, gamma, eps):
        h = norm(x, eps=eps, ddof=ddof)
        return gamma / np.sqrt(x.var(0) + eps) * inner(dy, dy.mean(0), h * (dy * h).mean(0))

    return backward


one_line = combined(lambda dy, mean, along: dy - mean - along)


def std(x, eps):
    return np.sqrt(x.var(0) + eps)


def gamma_is(gamma):
    return lambda x, eps: (gamma(x, eps), x.mean(0))


RIGHT = {
    "minibatch_forward": [forward, in_place],
    "minibatch_backward": [one_line, six_formulas],
    "identity_parameters": [
        gamma_is(std),
        lambda x, eps: [np.sqrt((x**2).mean(0) - x.mean(0) ** 2 + eps), x.sum(0) / len(x)],
    ],
    "most_extreme_batch": [
        lambda m: np.eye(m)[0],
        lambda m: np.r_[np.full(m - 1, 7.0), -3.0],
        lambda m: [0] * (m - 1) + [1],
    ],
    "eps_output_std": [lambda std, gamma, eps: abs(gamma) * std / np.sqrt(std**2 + eps)],
}

WRONG = {
    "minibatch_forward": {
        "eps outside the root": (
            lambda x, g, b, e: g * (x - x.mean(0)) / (x.std(0) + e) + b, "eps is outside the root"),
        "eps forgotten": (lambda x, g, b, e: g * norm(x) + b, "eps is missing"),
        "unbiased variance": (lambda x, g, b, e: g * norm(x, ddof=1, eps=e) + b, "m - 1"),
        "over the features": (lambda x, g, b, e: g * norm(x, axis=1, eps=e) + b, "over its features"),
        "over everything": (lambda x, g, b, e: g * norm(x, axis=None, eps=e) + b, "one mean serves"),
        "beta before gamma": (lambda x, g, b, e: g * (norm(x, eps=e) + b), "before multiplying"),
        "gamma and beta swapped": (lambda x, g, b, e: b * norm(x, eps=e) + g, "changed places"),
        "neither": (lambda x, g, b, e: norm(x, eps=e), "Now scale by gamma"),
        "by the variance": (lambda x, g, b, e: g * (x - x.mean(0)) / (x.var(0) + e) + b, "its root"),
        "not centered": (lambda x, g, b, e: g * x / std(x, e) + b, "still there"),
        "raw second moment": (
            lambda x, g, b, e: g * (x - x.mean(0)) / np.sqrt((x**2).mean(0) + e) + b, "about the mean"),
        "a default eps": (lambda x, g, b, e: forward(x, g, b, 1e-5), "expected"),
        "one feature": (lambda x, g, b, e: forward(x, g, b, e)[:, 0], "has shape (4,), expected"),
        "divided by zero": (lambda x, g, b, e: x * np.nan, "holds NaN or Inf"),
    },
    "minibatch_backward": {
        "constants": (combined(lambda dy, mean, along: dy), "treated as constants"),
        "no variance path": (combined(lambda dy, mean, along: dy - mean), "path through the variance"),
        "no mean path": (combined(lambda dy, mean, along: dy - along), "path through the mean"),
        "sums": (combined(lambda dy, mean, along: dy - 4 * mean - 4 * along), "you took sums"),
        "signs": (combined(lambda dy, mean, along: dy + mean + along), "both corrections"),
        "one sign": (combined(lambda dy, mean, along: dy - mean + along), "part has the wrong sign"),
        "no gamma": (lambda dy, x, g, e: one_line(dy, x, 1.0, e), "gamma is missing"),
        "no scale": (lambda dy, x, g, e: one_line(dy, x, g, e) * std(x, e), "the factor 1 / sqrt"),
        "m - 1": (combined(lambda dy, mean, along: dy - mean - along * 4 / 3), "divided by m - 1"),
        "unbiased x_hat": (combined(lambda dy, mean, along: dy - mean - along, ddof=1), "ddof=1"),
        "negative": (lambda *a: -one_line(*a), "the whole gradient"),
        "no eps": (lambda dy, x, g, e: one_line(dy, x, g, 0.0), "expected"),
        "zeros": (lambda dy, x, g, e: 0 * x, "expected"),
    },
    "identity_parameters": {
        "eps forgotten": (gamma_is(lambda x, e: x.std(0)), "gamma: eps is forgotten"),
        "eps outside": (gamma_is(lambda x, e: x.std(0) + e), "inside the root"),
        "variance": (gamma_is(lambda x, e: x.var(0) + e), "that is the variance"),
        "upside down": (gamma_is(lambda x, e: 1 / std(x, e)), "upside down"),
        "unbiased": (gamma_is(lambda x, e: np.sqrt(x.var(0, ddof=1) + e)), "m - 1"),
        "one": (gamma_is(lambda x, e: np.ones(3)), "gamma: entry [1] is 1, expected 3.031."),
        "minus the mean": (lambda x, e: (std(x, e), -x.mean(0)), "beta: that is minus the mean"),
        "start values": (lambda x, e: (np.ones(3), np.zeros(3)), "It is the mean of the batch"),
        "swapped": (lambda x, e: (x.mean(0), std(x, e)), "changed places"),
        "one alone": (lambda x, e: x.mean(0), "return two arrays, gamma and beta."),
        "axis 1": (lambda x, e: (x.var(1), x.mean(1)), "gamma: the answer has shape (4,)"),
        "words": (lambda x, e: (x[0], "b"), "beta: the answer is a str, expected numbers"),
    },
    "most_extreme_batch": {
        "a ramp": (
            lambda m: np.arange(float(m)), "for m = 3 the largest |x_hat| is 1.225, the bound is 1.414"),
        "two outliers": (lambda m: np.r_[np.zeros(m - 2), 1.0, 1.0], "other values to be equal"),
        "opposite outliers": (lambda m: np.r_[np.zeros(m - 2), 1.0, -1.0], "other values to be equal"),
        "half and half": (lambda m: np.arange(m) % 2.0, "for m = 8 the largest |x_hat| is 1.000"),
        "a huge value among noise": (
            lambda m: np.r_[1e3, np.random.default_rng(0).normal(size=m - 1)], "other values to be equal"),
        "constant": (lambda m: np.ones(m), "all values are equal"),
        "wrong length": (lambda m: np.eye(m), "has shape (3, 3), expected an array of shape (3,)"),
        "only for three": (lambda m: np.r_[1.0, 0.0, 0.0], "expected an array of shape (8,)"),
    },
    "eps_output_std": {
        "sign": (lambda s, g, e: g * s / np.sqrt(s**2 + e), "take |gamma|"),
        "no eps": (lambda s, g, e: abs(g), "is of the size of eps"),
        "no eps and sign": (lambda s, g, e: g, "and a standard deviation is not negative"),
        "variance": (lambda s, g, e: g**2 * s**2 / (s**2 + e), "variance of the output"),
        "eps outside": (lambda s, g, e: abs(g) * s / (s + e), "outside the root"),
        "eps with std": (lambda s, g, e: abs(g) * s / np.sqrt(s + e), "not to std"),
        "no gamma": (lambda s, g, e: s / np.sqrt(s**2 + e), "gamma is missing"),
        "nonsense": (lambda s, g, e: 12.0, "you return 12, expected 1.569."),
        "a list": (lambda s, g, e: [s, g], "has shape (2,), expected one number"),
    },
}  # fmt: skip
