"""Chapter 1: scale, undo, fit on the training rows, whiten, choose a step."""

import numpy as np

from bnlab import scaling


def eigen(x):
    centered = x - x.mean(axis=0)
    return centered, *np.linalg.eigh(centered.T @ centered / len(x))


def zca(x):
    centered, variances, v = eigen(x)
    return centered @ v @ np.diag(variances**-0.5) @ v.T


def by(rows):
    return lambda x: (x - rows.mean(axis=0)) / rows.std(axis=0)


def by_rows(x):
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


def in_place(x):
    x -= x.mean(axis=0)
    x /= x.std(axis=0)
    return x


def extremes(hessian):
    eigenvalues = np.linalg.eigvalsh(hessian)
    return eigenvalues[0], eigenvalues[-1]


def unit(x):
    return scaling.min_max(x).values


RIGHT = {
    "standardize_columns": [
        lambda x: (x - x.mean(0)) / x.std(0),
        in_place,  # and the next reader gets the same table:
        lambda x: scaling.standardize(x).values,
    ],
    "scale_to_interval": [
        lambda x, low, high: low + (high - low) * (x - x.min(0)) / (x.max(0) - x.min(0)),
        lambda x, low, high: scaling.min_max(x, low=low, high=high).values,
    ],
    "undo_standardize": [lambda z, mean, std: z * std + mean],
    "scale_like_training": [
        lambda train, test: (by(train)(train), by(train)(test)),
        lambda train, test: [scaling.standardize(train).apply(rows) for rows in (train, test)],
    ],
    "zca_whiten": [zca, lambda x: scaling.whiten(x).values],
    "best_step": [
        lambda h: 2 / sum(extremes(h)),
        lambda h: 2 / (np.linalg.norm(h, 2) + np.linalg.norm(h, -2)),
    ],
}

WRONG = {
    "standardize_columns": {
        "sample standard deviation": (lambda x: (x - x.mean(0)) / x.std(0, ddof=1), "Use ddof=0"),
        "over rows": (by_rows, "you standardized each row"),
        "over the whole array": (lambda x: (x - x.mean()) / x.std(), "for the whole table"),
        "forgetting the mean": (lambda x: x / x.std(0), "did not subtract the mean"),
        "forgetting the spread": (lambda x: x - x.mean(0), "did not divide"),
        "the variance": (lambda x: (x - x.mean(0)) / x.var(0), "square root"),
        "no parentheses": (lambda x: x - x.mean(0) / x.std(0), "parentheses"),
        "min-max": (unit, "expected"),
        "one feature short": (lambda x: x[:, :2], "has shape (5, 2), expected an array of shape"),
        "columns of zeros": (lambda x: 0 * x, "entry [3, 1] is 0, expected 1.926"),
    },
    "scale_to_interval": {
        "to [0, 1]": (lambda x, low, high: unit(x), "go from 0 to 1"),
        "stretched by high": (lambda x, low, high: low + high * unit(x), "stretched by high"),
        "not shifted": (lambda x, low, high: (high - low) * unit(x), "did not shift"),
        "always [-1, 1]": (lambda x, low, high: 2 * unit(x) - 1, "[-1, 1] only"),
        "reversed": (lambda x, low, high: high - (high - low) * unit(x), "reversed"),
        "divided by the maximum": (
            lambda x, low, high: low + (high - low) * x / x.max(0), "divided by the maximum"),
        "over the whole array": (
            lambda x, low, high: low + (high - low) * (x - x.min()) / np.ptp(x), "whole table"),
        "standardized": (lambda x, low, high: scaling.standardize(x).values, "expected"),
        "clipped": (lambda x, low, high: np.clip(x, low, high), "expected"),
    },
    "undo_standardize": {
        "wrong order": (lambda z, mean, std: (z + mean) * std, "the order is wrong"),
        "standardized again": (lambda z, mean, std: (z - mean) / std, "second time"),
        "no mean": (lambda z, mean, std: z * std, "not the subtraction"),
        "no spread": (lambda z, mean, std: z + mean, "not the division"),
        "divided": (lambda z, mean, std: z / std + mean, "undone by multiplying"),
        "subtracted": (lambda z, mean, std: z * std - mean, "undone by adding"),
        "statistics of z": (lambda z, mean, std: z * z.std(0) + z.mean(0), "statistics of z"),
        "untouched": (lambda z, mean, std: z, "expected"),
    },
    "scale_like_training": {
        "fitted on test": (
            lambda train, test: (by(test)(train), by(test)(test)), "fitted on the test rows"),
        "fitted on all": (
            lambda train, test: [by(np.vstack([train, test]))(r) for r in (train, test)], "leaked"),
        "each by itself": (lambda train, test: (by(train)(train), by(test)(test)), "their own"),
        "test unscaled": (lambda train, test: (by(train)(train), test), "the same transform"),
        "rows": (lambda train, test: (by_rows(train), by_rows(test)), "you standardized each row"),
        "swapped": (
            lambda train, test: (by(train)(test), by(train)(train)),
            "train_scaled: the answer has shape (2, 3)"),
        "one array": (
            lambda train, test: by(train)(np.vstack([train, test])),
            "return two arrays, train_scaled and test_scaled"),
        "sample standard deviation": (
            lambda train, test: [(r - train.mean(0)) / train.std(0, ddof=1) for r in (train, test)],
            "Use ddof=0"),
        "test holds NaN": (
            lambda train, test: (by(train)(train), test * np.nan),
            "test_scaled: the answer holds NaN or Inf"),
        "neither scaled": (lambda train, test: (train, test), "expected"),
    },
    "zca_whiten": {
        "standardized": (lambda x: scaling.standardize(x).values, "still correlated"),
        "PCA": (lambda x: scaling.whiten(x, method="pca").values, "not ZCA"),
        "turned only": (lambda x: eigen(x)[0] @ eigen(x)[2], "did not divide by the std along"),
        "by the variances": (
            lambda x: eigen(x)[0] @ np.linalg.inv(np.cov(x.T, bias=True)), "square roots"),
        "colored": (
            lambda x: eigen(x)[0] @ (eigen(x)[2] * eigen(x)[1] ** 0.5) @ eigen(x)[2].T,
            "Divide by it"),
        "not centered": (lambda x: zca(x) + x.mean(0) @ scaling.whiten(x).matrix, "before multiplying"),
        "np.cov as it is": (lambda x: zca(x) * np.sqrt((len(x) - 1) / len(x)), "N - 1"),
        "large eps": (lambda x: scaling.whiten(x, eps=1.0).values, "off the identity by up to 0."),
        "zeros": (lambda x: 0 * x, "off the identity by up to 1."),
    },
    "best_step": {
        "1 / h_max": (lambda h: 1 / extremes(h)[1], "(4.0, 1.0, 0.5): 1 / h_max is safe"),
        "2 / h_max": (lambda h: 2 / extremes(h)[1], "stops converging"),
        "half": (lambda h: 1 / sum(extremes(h)), "half the best step"),
        "trace": (lambda h: 2 / np.trace(h), "the trace adds"),
        "diagonal": (lambda h: 2 / (h.diagonal().min() + h.diagonal().max()), "the diagonal holds"),
        "difference": (lambda h: 2 / (extremes(h)[1] - extremes(h)[0]), "the sign is wrong"),
        "1 / h_min": (lambda h: 1 / extremes(h)[0], "far too long"),
        "a constant": (lambda h: 2 / 4.5 if h.max() > 1 else 0.1, "expected 5. Make the two worst"),
        "the eigenvalues": (lambda h: np.linalg.eigvalsh(h), "expected one number"),
    },
}  # fmt: skip
