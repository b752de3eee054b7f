"""Chapter 11: a share of an advantage, twins, decay as a rate, and the effective rank."""

import numpy as np


def squares(h):
    return np.linalg.svd(h, compute_uv=False) ** 2


def by_gram(h):
    gram = h @ h.T
    return np.trace(gram) ** 2 / (gram**2).sum()


def layer(gamma=lambda z, e: np.sqrt(z.var() + e), beta=lambda z, b: z.mean() + b):
    return lambda z, b, eps: (gamma(z, eps), beta(z, b))


RIGHT = {
    "share_of_advantage": [lambda p, a, w: np.log(p / a) / np.log(p / w)],
    "inserted_layer": [layer()],
    "growing_rate": [lambda lr, d, t: lr * (1 - lr * d) ** -(2 * t + 1)],
    "effective_rank": [lambda h: squares(h).sum() ** 2 / (squares(h) ** 2).sum(), by_gram],
}

WRONG = {
    "share_of_advantage": {
        "difference": (lambda p, a, w: (p - a) / (p - w), "share of a difference"),
        "factors": (lambda p, a, w: w / a, "ratio of factors"),
        "missing": (lambda p, a, w: 1 - np.log(p / a) / np.log(p / w), "that is missing"),
        "upside down": (lambda p, a, w: np.log(p / w) / np.log(p / a), "upside down"),
        "no plain": (lambda p, a, w: np.log(a) / np.log(w), "forgets the plain net"),
        "nearly": (lambda p, a, w: 0.67, "you return 0.67, expected 0.6667"),
    },
    "inserted_layer": {
        "no eps": (layer(lambda z, e: z.std()), "forgets eps"),
        "variance": (layer(lambda z, e: z.var() + e), "is the variance"),
        "unbiased": (layer(lambda z, e: np.sqrt(z.var(ddof=1) + e)), "divides by m - 1"),
        "upside down": (layer(lambda z, e: 1 / np.sqrt(z.var() + e)), "gamma: is upside down"),
        "one": (layer(lambda z, e: 1.0), "leaves the values normalized"),
        "bias": (layer(beta=lambda z, b: b), "is the bias alone"),
        "mean": (layer(beta=lambda z, b: z.mean()), "the bias is missing"),
        "minus": (layer(beta=lambda z, b: b - z.mean()), "subtracts the mean once more"),
        "one array": (lambda z, b, e: 1.0, "return two arrays, gamma and beta"),
        "far": (layer(beta=lambda z, b: 9.0), "you return 9, expected"),
    },
    "growing_rate": {
        "constant": (lambda lr, d, t: lr, "is constant"),
        "once": (lambda lr, d, t: lr * (1 - lr * d) ** -(t + 1), "counts the length once"),
        "no own": (lambda lr, d, t: lr * (1 - lr * d) ** -(2 * t), "misses the decay of step t"),
        "own twice": (lambda lr, d, t: lr * (1 - lr * d) ** -(2 * t + 2), "of step t twice"),
        "shrinks": (lambda lr, d, t: lr * (1 - lr * d) ** (2 * t + 1), "shrinks; the rate"),
        "no rate": (lambda lr, d, t: lr * (1 - d) ** -(2 * t + 1), "forgets the rate in the decay"),
        "far": (lambda lr, d, t: 2.0, "you return 2, expected"),
    },
    "effective_rank": {
        "rank": (np.linalg.matrix_rank, "counts every direction alike"),
        "no squares": (
            lambda h: np.sqrt(squares(h)).sum() ** 2 / squares(h).sum(),
            "use their squares",
        ),
        "upside down": (lambda h: (squares(h) ** 2).sum() / squares(h).sum() ** 2, "upside down"),
        "stable": (lambda h: squares(h).sum() / squares(h).max(), "the stable rank"),
        "centred": (
            lambda h: RIGHT["effective_rank"][0](h - h.mean(axis=0)),
            "subtracts the mean first",
        ),
        "far": (lambda h: 3.3, "you return 3.3, expected"),
    },
}
