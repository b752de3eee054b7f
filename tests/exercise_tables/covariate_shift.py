"""Chapter 2: standard format, weights, drift, saturation and depth."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def slope(z):
    return sigmoid(z) * (1 - sigmoid(z))


def normal(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / std


def pairs_by_sorting(before, after):
    return np.abs(np.sort(after) - np.sort(before)).mean()


def size(layer, width, weight_std, activation, half=0.5):
    factor = width * weight_std**2
    half = half if activation == "relu" else 1.0
    return np.sqrt(factor * (factor * half) ** (layer - 1))


RIGHT = {
    "standard_format": [
        lambda h: (h - h.mean(axis=0)) / h.std(axis=0),
        lambda h: (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5),  # an eps is welcome
    ],
    "importance_weights": [
        lambda x, m, s, m2, s2: normal(x, m2, s2) / normal(x, m, s),
        lambda x, m, s, m2, s2: (
            s / s2 * np.exp((x - m) ** 2 / s**2 / 2 - (x - m2) ** 2 / s2**2 / 2)
        ),
    ],
    "relative_wasserstein": [lambda b, a: pairs_by_sorting(b, a) / b.std()],
    "saturated_share": [
        lambda z, f: np.mean(slope(z) < f / 4),
        lambda z, f: float((np.abs(z) > np.log((1 + np.sqrt(1 - f)) ** 2 / f)).mean()),
    ],
    "size_at_depth": [size],
}

WRONG = {
    "standard_format": {
        "each message": (
            lambda h: (h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True), "axis 0 runs over"),
        "all columns together": (lambda h: (h - h.mean()) / h.std(), "the columns' means are [-0."),
        "scale only": (lambda h: h / h.std(axis=0), "the columns' means are [1."),
        "center only": (
            lambda h: h - h.mean(axis=0), "the first column's standard deviation is 3, expected 1."),
        "the variance": (
            lambda h: (h - h.mean(0)) / h.var(0), "the first column's standard deviation is 0.333"),
        "unbiased": (lambda h: (h - h.mean(axis=0)) / h.std(axis=0, ddof=1), "unbiased"),
        "median": (lambda h: (h - np.median(h, axis=0)) / h.std(axis=0), "axis 0 runs over"),
        "flipped": (lambda h: -(h - h.mean(axis=0)) / h.std(axis=0), "Keep order and sign"),
        "sorted": (
            lambda h: np.sort((h - h.mean(0)) / h.std(0), axis=0), "Keep order and sign"),
        "one column": (lambda h: h[:, 0], "has shape (4,), expected an array of shape (4, 3)"),
    },
    "importance_weights": {
        "upside down": (lambda x, m, s, m2, s2: normal(x, m, s) / normal(x, m2, s2), "upside down"),
        "no 1/std": (
            lambda x, m, s, m2, s2: normal(x, m2, s2) * s2 / normal(x, m, s) / s,
            "off by the constant factor 0.6."),
        "only the new density": (lambda x, m, s, m2, s2: normal(x, m2, s2), "A normal density is"),
        "std taken for variance": (
            lambda x, m, s, m2, s2: normal(x, m2, s2**0.5) / normal(x, m, s**0.5),
            "A normal density is"),
        "difference": (
            lambda x, m, s, m2, s2: normal(x, m2, s2) - normal(x, m, s), "A normal density is"),
        "zeros": (lambda x, *_: np.zeros_like(x), "A normal density is"),
        "no half": (
            lambda x, m, s, m2, s2: s / s2 * np.exp(((x - m) / s) ** 2 - ((x - m2) / s2) ** 2),
            "A normal density is"),
    },
    "relative_wasserstein": {
        "example by example": (lambda b, a: np.abs(a - b).mean() / b.std(), "Sort both first"),
        "not divided": (pairs_by_sorting, "the distance itself"),
        "std after": (lambda b, a: pairs_by_sorting(b, a) / a.std(), "by the std after"),
        "variance": (lambda b, a: pairs_by_sorting(b, a) / b.var(), "expected 1.336"),
        "mean only": (lambda b, a: abs(a.mean() - b.mean()) / b.std(), "widens about its mean"),
        "signed": (lambda b, a: (np.sort(a) - np.sort(b)).mean() / b.std(), "widens about its mean"),
        "squared": (
            lambda b, a: np.sqrt(((np.sort(a) - np.sort(b)) ** 2).mean()) / b.std(), "expected 1.336"),
        "one of each": (lambda b, a: np.abs(np.sort(a) - np.sort(b)) / b.std(), "one number"),
    },
    "saturated_share": {
        "a count": (lambda z, f: np.sum(slope(z) < f / 4), "a number of inputs"),
        "the others": (lambda z, f: np.mean(slope(z) >= f / 4), "the share that is not saturated"),
        "not of the steepest": (lambda z, f: np.mean(slope(z) < f), "its steepest value is 1/4"),
        "the sigmoid itself": (lambda z, f: np.mean(sigmoid(z) < f / 4), "compared the sigmoid"),
        "one tail": (lambda z, f: np.mean((slope(z) < f / 4) & (z > 0)), "the left tail is missing"),
        "tenth fixed": (lambda z, f: np.mean(slope(z) < 0.025), "wrong for 0.9. Use the argument"),
        "none": (lambda z, f: 0.0, "you return 0, expected 0.375"),
    },
    "size_at_depth": {
        "no root": (lambda *a: size(*a) ** 2, "layer 1 of a linear network: that is the mean square"),
        "no half": (
            lambda k, n, s, g: np.sqrt((n * s**2) ** k),
            "layer 4 of a relu network: a ReLU passes half"),
        "half at the first layer": (
            lambda k, n, s, g: np.sqrt((n * s**2 * (0.5 if g == "relu" else 1)) ** k),
            "layer 1 of a relu network: the inputs of layer 1 went through no ReLU"),
        "std not squared": (
            lambda k, n, s, g: np.sqrt((n * s) ** k), "width * weight_std**2, starting from 1"),
        "one layer short": (
            lambda k, n, s, g: size(k - 1, n, s, g), "width * weight_std**2, starting from 1"),
        "no depth": (
            lambda k, n, s, g: np.sqrt(n * s**2), "width * weight_std**2, starting from 1"),
        "a quarter": (
            lambda *a: size(*a, half=0.25), "layer 4 of a relu network: you return 0.007813"),
    },
}  # fmt: skip
