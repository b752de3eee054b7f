"""Chapter 4: the gradient of whitening, what it cannot see, and its batches."""

import numpy as np

from bnlab import whitening


def divided(a, b):
    return -1 / (np.sqrt(a * b) * (np.sqrt(a) + np.sqrt(b)))


def quotient(a, b):
    return (a**-0.5 - b**-0.5) / (a - b)


def gradient(weigh, center=True, basis=True):
    def backward(x, g):
        c = x - x.mean(axis=0)
        values, v = np.linalg.eigh(c.T @ c / len(x))
        s = np.sqrt(values)
        if not basis:
            v, w = np.eye(len(s)), (v / s) @ v.T
            z = c @ w
        else:
            w = np.diag(1 / s)
            z = c @ v / s
        g = (g - g.mean(axis=0) * center) @ v
        a = z.T @ g / len(x)
        return (g - z @ weigh(a, s[:, None], s)) @ w @ v.T

    return backward


def weights(a, sk, sl):
    return (sk * a + (sk * a).T) / (sk + sl)


def through_package(x, g):
    return whitening.whitening_backward(g, whitening.whitening_forward(x, eps=0)[1])


def through_gaps(x, g):
    """Right in general, but it divides by the differences of eigenvalues."""
    c = x - x.mean(axis=0)
    values, v = np.linalg.eigh(c.T @ c / len(x))
    with np.errstate(all="ignore"):
        k = (values[:, None] ** -0.5 - values**-0.5) / (values[:, None] - values)
    np.fill_diagonal(k, -0.5 * values**-1.5)
    m = v.T @ (c.T @ g) @ v
    dc = g @ (v / np.sqrt(values)) @ v.T + c @ (v @ (k * (m + m.T)) @ v.T) / len(x)
    return dc - dc.mean(axis=0)


def each_feature(x, g):
    h = (x - x.mean(0)) / x.std(0)
    return (g - g.mean(0) - h * (g * h).mean(0)) / x.std(0)


def rank(m, d):
    """Count the directions of the package's gradient."""
    x = np.random.default_rng(0).normal(size=(m, d))
    passed = [through_package(x, e.reshape(m, d)).ravel() for e in np.eye(m * d)]
    return np.linalg.matrix_rank(np.array(passed), tol=1e-9)


def q_of(kappa):
    return (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)


RIGHT = {
    "divided_difference": [
        divided,
        lambda a, b: -0.5 * a**-1.5 if a == b else divided(a, b),
        lambda a, b: -1 / (a * np.sqrt(b) + b * np.sqrt(a)),
    ],
    "whitening_gradient": [gradient(weights), through_package],
    "directions_left": [
        lambda m, d: m * d - d - d * (d + 1) // 2,
        lambda m, d: (m - 1) * d - d * (d + 1) / 2,
        rank,
    ],
    "smallest_batch": [
        lambda d, kappa: int(np.ceil(d / q_of(kappa) ** 2)),
        lambda d, kappa: next(
            m
            for m in range(d + 1, 10**6)
            if (1 + np.sqrt(d / m)) ** 2 <= kappa * (1 - np.sqrt(d / m)) ** 2 * (1 + 1e-12)
        ),
    ],
    "whitened_distance": [lambda m: np.sqrt(2 * m), lambda m: (2 * m) ** 0.5],
}

WRONG = {
    "divided_difference": {
        "the quotient": (
            lambda a, b: quotient(a, b) if a != b else -0.5 * a**-1.5,
            "at a = 2 and b = 2.0000005 you keep only a few digits"),
        "a tolerance": (
            lambda a, b: -0.5 * a**-1.5 if abs(a - b) < 1e-6 else quotient(a, b),
            "at a = 2 and b = 2.0000005 you return the derivative at a. It is needed only where"),
        "the derivative": (
            lambda a, b: -0.5 * a**-1.5, "at a = 1 and b = 4 you return the derivative at a."),
        "the sign": (lambda a, b: -divided(a, b), "the sign is not"),
        "twice": (
            lambda a, b: 2 * divided(a, b),
            "at a = 1 and b = 4 you return -0.333333, expected -0.166667."),
        "zero where equal": (
            lambda a, b: divided(a, b) if a != b else 0.0,
            "at a = 2 and b = 2 you return 0; the limit is f'(a)"),
        "infinite where equal": (
            lambda a, b: divided(a, b) if a != b else np.inf, "holds NaN or Inf"),
    },
    "whitening_gradient": {
        "all constant": (gradient(lambda a, *_: 0 * a, center=False), "every x also moves both"),
        "the covariance constant": (gradient(lambda a, *_: 0 * a), "the mean is done"),
        "the mean constant": (
            gradient(weights, center=False), "over the rows; expected 0, because shifting"),
        "equal eigenvalues": (gradient(lambda a, *_: (a + a.T) / 2), "with equal weights"),
        "no symmetric part": (gradient(lambda a, *_: a), "that subtracts A itself"),
        "the diagonal": (
            gradient(lambda a, *_: np.diag(np.diag(a))), "finite differences disagree: the relative"),
        "weights swapped": (
            gradient(lambda a, sk, sl: (sl * a + (sl * a).T) / (sk + sl)),
            "finite differences disagree: the relative"),
        "features as eigenvectors": (
            gradient(weights, basis=False), "finite differences disagree: the relative"),
        "each feature": (each_feature, "finite differences disagree: the relative"),
        "the gaps": (
            through_gaps, "on a batch with equal eigenvalues finite differences disagree"),
        "one batch size": (
            lambda x, g: gradient(weights)(x, g).reshape(9, 3), "on a batch of shape (6, 3): "),
        "transposed": (lambda x, g: gradient(weights)(x, g).T, "has shape (3, 9), expected"),
    },
    "directions_left": {
        "everything": (lambda m, d: m * d, "for m = 9 and d = 5: nothing is lost there"),
        "batch norm": (lambda m, d: m * d - 2 * d, "normalized on its own"),
        "a full covariance": (lambda m, d: m * d - d - d * d, "it is symmetric"),
        "no mean": (lambda m, d: m * d - d * (d + 1) // 2, "are both fixed"),
        "what is lost": (lambda m, d: d + d * (d + 1) // 2, "the directions lost"),
        "one": (lambda m, d: 1, "for m = 9 and d = 5: you return 1, expected 25."),
    },
    "smallest_batch": {
        "d plus one": (lambda d, kappa: d + 1, "for d = 64 and kappa = 4: d + 1 rows make"),
        "not squared": (lambda d, kappa: int(np.ceil(d / q_of(kappa))), "square it"),
        "kappa not rooted": (
            lambda d, kappa: int(np.ceil(d * ((kappa + 1) / (kappa - 1)) ** 2)),
            "the edges are squares"),
        "not rounded": (lambda d, kappa: d / q_of(kappa) ** 2, "Round up"),
        "rounded down": (lambda d, kappa: int(d / q_of(kappa) ** 2), "Round up"),
        "one edge": (lambda d, kappa: int(np.ceil(d / (1 - kappa**-0.5) ** 2)), "expected 576. Solve"),
    },
    "whitened_distance": {
        "squared": (lambda m: 2 * m, "for m = 5: that is the square"),
        "columns of length one": (lambda m: np.sqrt(2), "the columns of z"),
        "length of a row": (lambda m: np.sqrt(m - 1), "the length of each row"),
        "one less": (lambda m: np.sqrt(2 * (m - 1)), "less 1 in every entry"),
        "an array": (lambda m: np.full(m, np.sqrt(2 * m)), "expected one number"),
    },
}  # fmt: skip
