"""Each checker of Chapter 5 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.minibatch_batchnorm import exercises


def norm(x, axis=0, ddof=0, eps=0.0):
    c = x - x.mean(axis=axis, keepdims=True)
    return c / np.sqrt(x.var(axis=axis, ddof=ddof, keepdims=True) + eps)


def forward(x, gamma, beta, eps):
    return gamma * norm(x, eps=eps) + beta


def six_formulas(dy, x, gamma, eps):
    m, mu, var = len(x), x.mean(0), x.var(0)
    dx_hat = dy * gamma
    dvar = (dx_hat * (x - mu)).sum(0) * -0.5 * (var + eps) ** -1.5
    dmu = -dx_hat.sum(0) / np.sqrt(var + eps) + dvar * (-2 * (x - mu)).sum(0) / m
    return dx_hat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / m + dmu / m


def parts(dy, x, gamma, eps, ddof=0):
    h = norm(x, eps=eps, ddof=ddof)
    return gamma / np.sqrt(x.var(0) + eps), dy.mean(0), h * (dy * h).mean(0)


def one_line(dy, x, gamma, eps):
    scale, mean, along = parts(dy, x, gamma, eps)
    return scale * (dy - mean - along)


def in_place(x, gamma, beta, eps):
    x -= x.mean(0)
    x /= np.sqrt((x**2).mean(0) + eps)
    return gamma * x + beta


RIGHT = {
    "minibatch_forward": [forward, in_place],
    "minibatch_backward": [one_line, six_formulas],
    "identity_parameters": [
        lambda x, eps: (np.sqrt(x.var(0) + eps), x.mean(0)),
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
        "not centered": (lambda x, g, b, e: g * x / np.sqrt(x.var(0) + e) + b, "still there"),
        "raw second moment": (
            lambda x, g, b, e: g * (x - x.mean(0)) / np.sqrt((x**2).mean(0) + e) + b, "about the mean"),
        "a default eps": (lambda x, g, b, e: forward(x, g, b, 1e-5), "expected"),
        "one feature": (lambda x, g, b, e: forward(x, g, b, e)[:, 0], "shape"),
        "divided by zero": (lambda x, g, b, e: x * np.nan, "NaN"),
        "text": (lambda x, g, b, e: "y", "expected numbers"),
    },
    "minibatch_backward": {
        "constants": (lambda dy, x, g, e: g / np.sqrt(x.var(0) + e) * dy, "treated as constants"),
        "no variance path": (
            lambda dy, x, g, e: g / np.sqrt(x.var(0) + e) * (dy - dy.mean(0)), "through the variance"),
        "no mean path": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy - b))(*parts(dy, x, g, e)), "through the mean"),
        "sums": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy - 4 * a - 4 * b))(*parts(dy, x, g, e)), "sums"),
        "signs": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy + a + b))(*parts(dy, x, g, e)), "both corrections"),
        "one sign": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy - a + b))(*parts(dy, x, g, e)), "wrong sign"),
        "no gamma": (lambda dy, x, g, e: one_line(dy, x, 1.0, e), "gamma is missing"),
        "no scale": (
            lambda dy, x, g, e: one_line(dy, x, g, e) * np.sqrt(x.var(0) + e), "factor 1 / sqrt"),
        "m - 1": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy - a - b * 4 / 3))(*parts(dy, x, g, e)), "m - 1"),
        "unbiased x_hat": (
            lambda dy, x, g, e: (lambda s, a, b: s * (dy - a - b))(
                parts(dy, x, g, e)[0], *parts(dy, x, g, e, ddof=1)[1:]), "ddof=1"),
        "negative": (lambda dy, x, g, e: -one_line(dy, x, g, e), "whole gradient"),
        "no eps": (lambda dy, x, g, e: one_line(dy, x, g, 0.0), "expected"),
        "zeros": (lambda dy, x, g, e: 0 * x, "expected"),
    },
    "identity_parameters": {
        "eps forgotten": (lambda x, e: (x.std(0), x.mean(0)), "forgot eps"),
        "eps outside": (lambda x, e: (x.std(0) + e, x.mean(0)), "inside the root"),
        "variance": (lambda x, e: (x.var(0) + e, x.mean(0)), "is the variance"),
        "upside down": (lambda x, e: (1 / np.sqrt(x.var(0) + e), x.mean(0)), "upside down"),
        "unbiased": (lambda x, e: (np.sqrt(x.var(0, ddof=1) + e), x.mean(0)), "m - 1"),
        "minus the mean": (lambda x, e: (np.sqrt(x.var(0) + e), -x.mean(0)), "minus the mean"),
        "swapped": (lambda x, e: (x.mean(0), np.sqrt(x.var(0) + e)), "changed places"),
        "start values": (lambda x, e: (np.ones(3), np.zeros(3)), "beta is"),
        "one alone": (lambda x, e: x.mean(0), "return two"),
        "axis 1": (lambda x, e: (np.sqrt(x.var(1) + e), x.mean(1)), "expected (3,)"),
        "words": (lambda x, e: ("a", "b"), "arrays of numbers"),
        "gamma one": (lambda x, e: (np.ones(3), x.mean(0)), "expected"),
    },
    "most_extreme_batch": {
        "a ramp": (lambda m: np.arange(float(m)), "other values to be equal"),
        "two outliers": (lambda m: np.r_[np.zeros(m - 2), 1.0, 1.0], "other values to be equal"),
        "opposite outliers": (lambda m: np.r_[np.zeros(m - 2), 1.0, -1.0], "other values to be equal"),
        "half and half": (lambda m: np.arange(m) % 2.0, "other values to be equal"),
        "a huge value among noise": (
            lambda m: np.r_[1e3, np.random.default_rng(0).normal(size=m - 1)], "other values to be equal"),
        "constant": (lambda m: np.ones(m), "all values are equal"),
        "wrong length": (lambda m: np.eye(m), "shape"),
        "only for three": (lambda m: np.r_[1.0, 0.0, 0.0], "shape"),
    },
    "eps_output_std": {
        "sign": (lambda s, g, e: g * s / np.sqrt(s**2 + e), "not negative"),
        "no eps": (lambda s, g, e: abs(g), "without eps"),
        "no eps and sign": (lambda s, g, e: g, "without eps"),
        "variance": (lambda s, g, e: g**2 * s**2 / (s**2 + e), "variance of the output"),
        "eps outside": (lambda s, g, e: abs(g) * s / (s + e), "outside the root"),
        "eps with std": (lambda s, g, e: abs(g) * s / np.sqrt(s + e), "not to std"),
        "no gamma": (lambda s, g, e: s / np.sqrt(s**2 + e), "gamma is missing"),
        "nonsense": (lambda s, g, e: 12.0, "expected"),
        "a list": (lambda s, g, e: [s, g], "shape"),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "answer"), [(n, a) for n in RIGHT for a in RIGHT[n]])
def test_right_answers_pass(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(("name", "mistake"), [(n, mistake) for n in WRONG for mistake in WRONG[n]])
def test_wrong_answers_are_named(name, mistake):
    answer, hint = WRONG[name][mistake]
    verdict = getattr(exercises, name)(answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_stubs_and_crashes_are_answers(name):
    def stub(*args):
        raise NotImplementedError

    assert "still a stub" in getattr(exercises, name)(stub).message
    assert "returned None" in getattr(exercises, name)(lambda *a: None).message
    assert "ZeroDivisionError" in getattr(exercises, name)(lambda *a: 1 / 0).message
