"""Chapter 6: the one-line gradient, its projection, and what scale invariance does."""

import numpy as np


def one_line(dy, x_hat, gamma, inv_std):
    return gamma * inv_std * (dy - dy.mean() - x_hat * (dy * x_hat).mean())


def projection(x_hat):
    m = x_hat.size
    return np.eye(m) - np.ones((m, m)) / m - np.outer(x_hat, x_hat) / m


def growth(g, slope):
    z = np.random.default_rng(5).normal(size=100_000)
    return (slope(z) ** 2).mean() / g(z).var()


def sampled(rate):
    """Answer with a rate that is computed from many values of g and of its slope."""
    z = np.random.default_rng(7).normal(size=100_000)
    return lambda g, slope: rate(g(z), slope(z))


RIGHT = {
    "one_line_gradient": [one_line],
    "projection_matrix": [projection],
    "next_squared_length": [lambda n, g, lr, d: (1 - lr * d) ** 2 * n + lr**2 * g],
    "equilibrium_length": [
        lambda g, lr, d: (lr * g / (2 * d)) ** 0.25,
        lambda g, lr, d: (lr * g / (d * (2 - lr * d))) ** 0.25,  # exact
    ],
    "growth_per_layer": [growth],
}

WRONG = {
    "one_line_gradient": {
        "mean constant": (lambda dy, h, g, s: g * s * (dy - h * (dy * h).mean()), "the mean as a constant"),
        "variance constant": (lambda dy, h, g, s: g * s * (dy - dy.mean()), "the variance as a constant"),
        "both constant": (lambda dy, h, g, s: g * s * dy, "both the mean and the variance"),
        "sign": (
            lambda dy, h, g, s: g * s * (dy - dy.mean() + h * (dy * h).mean()), "has the wrong sign"),
        "sums": (lambda dy, h, g, s: g * s * (dy - dy.sum() - h * (dy * h).sum()), "a 1/m is missing"),
        "no gamma": (lambda dy, h, g, s: one_line(dy, h, 1.0, s), "gamma is missing"),
        "no inv_std": (lambda dy, h, g, s: one_line(dy, h, g, 1.0), "multiply by inv_std"),
        "inv_std upside down": (lambda dy, h, g, s: one_line(dy, h, g, 1 / s), "so multiply"),
        "flipped": (lambda *a: -one_line(*a), "entry [5] is 0.846, expected -0.846."),
        "a row": (lambda *a: one_line(*a)[None], "has shape (1, 6), expected an array of shape (6,)"),
    },
    "projection_matrix": {
        "identity": (lambda h: np.eye(h.size), "removes nothing"),
        "ones": (lambda h: np.eye(h.size) - 1 / h.size, "of ones only"),
        "x_hat": (lambda h: np.eye(h.size) - np.outer(h, h) / h.size, "of x_hat only"),
        "no 1/m": (lambda h: np.eye(h.size) - 1 - np.outer(h, h), "a 1/m is missing"),
        "signs": (lambda h: np.eye(h.size) + 1 / h.size + np.outer(h, h) / h.size, "wrong signs"),
        "the rest": (lambda h: np.eye(h.size) - projection(h), "is what is removed"),
        "length": (
            lambda h: np.eye(h.size) - 1 / h.size - np.outer(h, h) / h.size**0.5, "not its square"),
    },
    "next_squared_length": {
        "neither": (lambda n, g, lr, d: n + lr * g, "belongs squared: lr**2"),
        "lr": (lambda n, g, lr, d: (1 - lr * d) ** 2 * n + lr * g, "with or without decay"),
        "no decay": (lambda n, g, lr, d: n + lr**2 * g, "forgets the weight decay"),
        "decay not squared": (lambda n, g, lr, d: (1 - lr * d) * n + lr**2 * g, "its square acts"),
        "minus": (lambda n, g, lr, d: (1 - lr * d) ** 2 * n - lr**2 * g, "subtracts; a step"),
        "lengths": (lambda n, g, lr, d: ((1 - lr * d) * n**0.5 + lr * g**0.5) ** 2, "adds lengths"),
        "decay alone": (lambda n, g, lr, d: (1 - d) ** 2 * n + lr**2 * g, "with the learning rate"),
    },
    "equilibrium_length": {
        "no root": (lambda g, lr, d: lr * g / (2 * d), "take the fourth root"),
        "square root": (lambda g, lr, d: (lr * g / (2 * d)) ** 0.5, "the gradient as constant"),
        "no 2": (lambda g, lr, d: (lr * g / d) ** 0.25, "a factor of 2"),
        "swapped": (lambda g, lr, d: (d * g / (2 * lr)) ** 0.25, "each other's place"),
        "lr twice": (lambda g, lr, d: (lr**2 * g / (2 * d)) ** 0.25, "lr enters once"),
        "nearly": (lambda g, lr, d: 1.001 * (lr * g / (2 * d)) ** 0.25, "expected 1.565"),
    },
    "growth_per_layer": {
        "second moment": (
            sampled(lambda a, d: (d**2).mean() / (a**2).mean()),
            "for a shifted leaky ReLU: divides by E[phi^2]"),
        "mean slope": (sampled(lambda a, d: d.mean() ** 2 / a.var()), "for tanh: squares the mean slope"),
        "upside down": (sampled(lambda a, d: a.var() / (d**2).mean()), "upside down"),
        "root": (sampled(lambda a, d: ((d**2).mean() / a.var()) ** 0.5), "the question is its square"),
        "std": (sampled(lambda a, d: (d**2).mean() / a.std()), "divides by the standard deviation"),
        "no growth": (lambda g, slope: 1.0, "for tanh: you return 1, expected 1.178."),
    },
}  # fmt: skip
