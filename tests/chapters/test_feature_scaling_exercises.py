"""Each checker of Chapter 1 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab import scaling
from bnlab.chapters.feature_scaling import exercises


def eigen(x):
    centered = x - x.mean(axis=0)
    return centered, *np.linalg.eigh(centered.T @ centered / len(x))


def zca(x):
    centered, variances, v = eigen(x)
    return centered @ v @ np.diag(variances**-0.5) @ v.T


def by(rows):
    return lambda x: (x - rows.mean(axis=0)) / rows.std(axis=0)


def extremes(hessian):
    eigenvalues = np.linalg.eigvalsh(hessian)
    return eigenvalues[0], eigenvalues[-1]


RIGHT = {
    "standardize_columns": [
        lambda x: (x - x.mean(0)) / x.std(0),
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
        "sample standard deviation": (lambda x: (x - x.mean(0)) / x.std(0, ddof=1), "ddof=0"),
        "over rows": (
            lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
            "each row",
        ),
        "over the whole array": (lambda x: (x - x.mean()) / x.std(), "whole table"),
        "forgetting the mean": (lambda x: x / x.std(0), "did not subtract the mean"),
        "forgetting the spread": (lambda x: x - x.mean(0), "did not divide"),
        "the variance": (lambda x: (x - x.mean(0)) / x.var(0), "square root"),
        "no parentheses": (lambda x: x - x.mean(0) / x.std(0), "parentheses"),
        "min-max": (lambda x: scaling.min_max(x).values, "expected"),
        "one feature short": (lambda x: x[:, :2], "shape"),
        "columns of zeros": (lambda x: np.zeros_like(x), "expected"),
    },
    "scale_to_interval": {
        "to [0, 1]": (lambda x, low, high: scaling.min_max(x).values, "from 0 to 1"),
        "stretched by high": (
            lambda x, low, high: low + high * scaling.min_max(x).values,
            "stretched by high",
        ),
        "not shifted": (
            lambda x, low, high: (high - low) * scaling.min_max(x).values,
            "did not shift",
        ),
        "always [-1, 1]": (
            lambda x, low, high: 2 * scaling.min_max(x).values - 1,
            r"\[-1, 1\] only",
        ),
        "reversed": (
            lambda x, low, high: high - (high - low) * scaling.min_max(x).values,
            "reversed",
        ),
        "divided by the maximum": (
            lambda x, low, high: low + (high - low) * x / x.max(0),
            "divided by the maximum",
        ),
        "over the whole array": (
            lambda x, low, high: low + (high - low) * (x - x.min()) / (x.max() - x.min()),
            "whole table",
        ),
        "standardized": (lambda x, low, high: scaling.standardize(x).values, "expected"),
        "clipped": (lambda x, low, high: np.clip(x, low, high), "expected"),
    },
    "undo_standardize": {
        "wrong order": (lambda z, mean, std: (z + mean) * std, "order"),
        "standardized again": (lambda z, mean, std: (z - mean) / std, "second time"),
        "no mean": (lambda z, mean, std: z * std, "not the subtraction"),
        "no spread": (lambda z, mean, std: z + mean, "not the division"),
        "divided": (lambda z, mean, std: z / std + mean, "multiplying"),
        "subtracted": (lambda z, mean, std: z * std - mean, "adding"),
        "statistics of z": (lambda z, mean, std: z * z.std(0) + z.mean(0), "arguments"),
        "untouched": (lambda z, mean, std: z, "expected"),
    },
    "scale_like_training": {
        "fitted on test": (
            lambda train, test: (by(test)(train), by(test)(test)),
            "fitted on the test rows",
        ),
        "fitted on all": (
            lambda train, test: [by(np.vstack([train, test]))(r) for r in (train, test)],
            "leaked",
        ),
        "each by itself": (lambda train, test: (by(train)(train), by(test)(test)), "their own"),
        "test unscaled": (
            lambda train, test: (by(train)(train), test),
            "did not scale the test rows",
        ),
        "swapped": (
            lambda train, test: (by(train)(test), by(train)(train)),
            "train_scaled: .*shape",
        ),
        "one array": (lambda train, test: by(train)(np.vstack([train, test])), "two arrays"),
        "sample standard deviation": (
            lambda train, test: [(r - train.mean(0)) / train.std(0, ddof=1) for r in (train, test)],
            "ddof=0",
        ),
        "test holds NaN": (
            lambda train, test: (by(train)(train), test * np.nan),
            "test_scaled: .*NaN",
        ),
        "neither scaled": (lambda train, test: (train, test), "expected"),
    },
    "zca_whiten": {
        "standardized, not decorrelated": (
            lambda x: scaling.standardize(x).values,
            "still correlated",
        ),
        "PCA": (lambda x: scaling.whiten(x, method="pca").values, "not ZCA"),
        "turned only": (lambda x: eigen(x)[0] @ eigen(x)[2], "did not divide"),
        "by the variances": (
            lambda x: eigen(x)[0] @ np.linalg.inv(np.cov(x.T, bias=True)),
            "square roots",
        ),
        "colored": (
            lambda x: eigen(x)[0] @ (eigen(x)[2] * eigen(x)[1] ** 0.5) @ eigen(x)[2].T,
            "Divide by it",
        ),
        "not centered": (
            lambda x: zca(x) + x.mean(0) @ scaling.whiten(x).matrix,
            "subtract the mean",
        ),
        "np.cov as it is": (lambda x: zca(x) * np.sqrt((len(x) - 1) / len(x)), "N - 1"),
        "large eps": (lambda x: scaling.whiten(x, eps=1.0).values, "off the identity"),
        "zeros": (lambda x: np.zeros_like(x), "off the identity"),
    },
    "best_step": {
        "1 / L": (lambda h: 1 / extremes(h)[1], "safe"),
        "2 / L": (lambda h: 2 / extremes(h)[1], "stops converging"),
        "half": (lambda h: 1 / sum(extremes(h)), "half"),
        "trace": (lambda h: 2 / np.trace(h), "trace"),
        "diagonal": (lambda h: 2 / (h.diagonal().min() + h.diagonal().max()), "diagonal"),
        "difference": (lambda h: 2 / (extremes(h)[1] - extremes(h)[0]), "sign"),
        "1 / mu": (lambda h: 1 / extremes(h)[0], "diverges"),
        "a constant": (lambda h: 2 / 4.5 if h.max() > 1 else 0.1, r"step is 0\.1"),
        "the eigenvalues": (lambda h: np.linalg.eigvalsh(h), "one number"),
    },
}


@pytest.mark.parametrize(
    ("name", "answer"), [(n, a) for n, answers in RIGHT.items() for a in answers]
)
def test_right_answers_pass(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict, verdict


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [(n, *case) for n, cases in WRONG.items() for case in cases.values()],
    ids=[f"{n}: {mistake}" for n, cases in WRONG.items() for mistake in cases],
)
def test_wrong_answers_fail_and_are_named(name, answer, words):
    verdict = getattr(exercises, name)(answer)
    assert not verdict
    assert verdict.message
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(verdict.message)


@pytest.mark.parametrize("name", RIGHT)
def test_stubs_and_crashes_are_not_yet(name):
    def stub(*args):
        raise NotImplementedError

    for function in (stub, lambda *args: None, lambda *args: 1 / 0, lambda *args: "text"):
        verdict = getattr(exercises, name)(function)
        assert not verdict
        assert repr(verdict).startswith("Not yet: ")


def test_answers_that_change_their_input_are_still_judged():
    def in_place(x):
        x -= x.mean(axis=0)
        x /= x.std(axis=0)
        return x

    assert exercises.standardize_columns(in_place)
    assert exercises.standardize_columns(in_place)  # the next reader gets the same table
