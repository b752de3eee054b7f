"""Chapter 13: the momentum of several updates, masks, folding before a layer."""

import numpy as np


def valid_rows(x, valid):
    return np.moveaxis(x, 1, -1)[valid]


def right_mean(x, valid):
    return valid_rows(x, valid).mean(0)


def spilled(x, valid):
    mean = right_mean(x, valid)
    zeroed = np.where(valid[:, None], x, 0.0)
    return ((zeroed - mean[:, None]) ** 2).sum((0, 2)) / valid.sum()


RIGHT = {
    "shared_momentum": [
        lambda a, n: 1 - (1 - a) ** (1 / n),
        lambda a, n: -np.expm1(np.log1p(-a) / n),
    ],
    "masked_statistics": [
        lambda x, valid: (right_mean(x, valid), valid_rows(x, valid).var(0)),
        lambda x, valid: (
            (x * valid[:, None]).sum((0, 2)) / valid.sum(),
            (x**2 * valid[:, None]).sum((0, 2)) / valid.sum() - right_mean(x, valid) ** 2,
        ),
    ],
    "fold_before": [
        lambda W, b, scale, shift: (W * scale, W @ shift + b),
        lambda W, b, scale, shift: (W @ np.diag(scale), b + (W * shift).sum(1)),
    ],
}

WRONG = {
    "shared_momentum": {
        "divided": (lambda a, n: a / n, "the updates overlap"),
        "same": (lambda a, n: a, "less than it should"),
        "kept": (lambda a, n: (1 - a) ** (1 / n), "Take one minus that"),
        "times": (lambda a, n: a * n, "for 0.5 and 2 updates: you return 1"),
        "other": (lambda a, n: a / 9, "the past has weight (1 - a)^2"),
    },
    "masked_statistics": {
        "no mask": (lambda x, v: (x.mean((0, 2)), x.var((0, 2))), "the mean counts the padding"),
        "mean of zeroed": (
            lambda x, v: ((x * v[:, None]).mean((0, 2)), x.var((0, 2))),
            "divide by their number",
        ),
        "variance of all": (
            lambda x, v: (right_mean(x, v), x.var((0, 2))),
            "the mean is right; the variance: it counts the padding",
        ),
        "unbiased": (
            lambda x, v: (right_mean(x, v), valid_rows(x, v).var(0, ddof=1)),
            "is divided by m",
        ),
        "spilled": (
            lambda x, v: (right_mean(x, v), spilled(x, v)),
            "Mask after the subtraction",
        ),
        "twice": (
            lambda x, v: (right_mean(x, v), 2 * valid_rows(x, v).var(0)),
            "sum over valid positions only",
        ),
    },
    "fold_before": {
        "rows": (lambda W, b, s, t: (W * np.resize(s, (2, 1)), b), "Each *column* of W"),
        "no shift": (lambda W, b, s, t: (W * s, b), "The shift goes through W"),
        "scaled shift": (lambda W, b, s, t: (W * s, (W * s) @ t + b), "The shift goes through W"),
    },
}
