"""Each checker of Chapter 8 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.convolutional_batchnorm import exercises

AXES = (0, 2, 3)


def column(v):
    return v[:, None, None]


def normalized(x, axes, gamma, beta, eps):
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def by_rows(x, gamma, beta, eps):
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    rows = normalized(rows, 0, gamma, beta, eps)
    return np.moveaxis(rows.reshape(*np.moveaxis(x, 1, -1).shape), -1, 1)


def backward(dy, x, gamma, eps, axes=AXES, n=None):
    def average(v):
        total = v.sum(axis=axes, keepdims=True)
        return total / (n or v.size / total.size)

    std = np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) / std
    return column(gamma) / std * (dy - average(dy) - x_hat * average(dy * x_hat))


def rho(x):
    return x.mean(axis=(1, 2)).var() / x.var()


def fold(W, b, gamma, beta, mean, var, eps):
    s = gamma / np.sqrt(var + eps)
    return W * s[:, None, None, None], s * (b - mean) + beta


def kernels_only(scale):
    return lambda W, b, g, be, m, v, e: (scale(W, g, v, e), fold(W, b, g, be, m, v, e)[1])


def bias_only(bias):
    return lambda W, b, g, be, m, v, e: (
        fold(W, b, g, be, m, v, e)[0],
        bias(b, g / np.sqrt(v + e), be, m),
    )


RIGHT = {
    "normalize_maps": [
        by_rows,
        lambda x, g, b, eps: normalized(x, AXES, column(g), column(b), eps),
    ],
    "map_counts": [lambda n, c, h, w: (n * h * w, 2 * c)],
    "maps_backward": [backward],
    "effective_values": [lambda x: len(x) / rho(x)],
    "fold_convolution": [fold, lambda *a: list(fold(*a))],
}

WRONG = {
    "normalize_maps": {
        "each position has a mean": lambda x, g, b, eps: normalized(
            x, 0, column(g), column(b), eps
        ),
        "along the width": lambda x, g, b, eps: normalized(x, AXES, g, b, eps),
        "instance": lambda x, g, b, eps: normalized(x, (2, 3), column(g), column(b), eps),
        "layer normalization": lambda x, g, b, eps: normalized(
            x, (1, 2, 3), column(g), column(b), eps
        ),
        "all maps share": lambda x, g, b, eps: normalized(x, None, column(g), column(b), eps),
        "over the maps": lambda x, g, b, eps: normalized(x, (0, 1), column(g), column(b), eps),
        "inside the root": lambda x, g, b, eps: (
            column(g)
            * (x - x.mean(axis=AXES, keepdims=True))
            / (x.std(axis=AXES, keepdims=True) + eps)
            + column(b)
        ),
        "not by m' - 1": lambda x, g, b, eps: (
            column(g)
            * (x - x.mean(axis=AXES, keepdims=True))
            / np.sqrt(x.var(axis=AXES, keepdims=True, ddof=1) + eps)
            + column(b)
        ),
        "expected": lambda x, g, b, eps: x,
        "shape": lambda x, g, b, eps: x[0],
    },
    "map_counts": {
        "wrong order": lambda n, c, h, w: (2 * c, n * h * w),
        "one mean a position": lambda n, c, h, w: (n, 2 * c),
        "one mean an image": lambda n, c, h, w: (h * w, 2 * c),
        "one mean for all maps": lambda n, c, h, w: (n * c * h * w, 2 * c),
        "share a mean": lambda n, c, h, w: (1, 2 * c),
        "two numbers a map": lambda n, c, h, w: (n * h * w, c),
        "pair for each position": lambda n, c, h, w: (n * h * w, 2 * c * h * w),
        "kept, not learned": lambda n, c, h, w: (n * h * w, 4 * c),
        "learn a gamma": lambda n, c, h, w: (n * h * w, 1),
    },
    "maps_backward": {
        "gamma is missing": lambda dy, x, g, eps: backward(dy, x, np.ones(3), eps),
        "evaluation mode": lambda dy, x, g, eps: (
            dy * column(g) / np.sqrt(x.var(axis=AXES, keepdims=True) + eps)
        ),
        "along x_hat": lambda dy, x, g, eps: (
            (dy - dy.mean(axis=AXES, keepdims=True))
            * column(g)
            / np.sqrt(x.var(axis=AXES, keepdims=True) + eps)
        ),
        "examples alone": lambda dy, x, g, eps: backward(dy, x, g, eps, axes=0),
        "not by N": lambda dy, x, g, eps: backward(dy, x, g, eps, n=len(x)),
        "expected": lambda dy, x, g, eps: dy,
    },
    "effective_values": {
        "as independent": lambda x: x.size,
        "counts images": lambda x: len(x),
        "one image is worth": lambda x: 1 / rho(x),
        "divide by rho": lambda x: len(x) * rho(x),
        "that is rho": rho,
        "already knows": lambda x: x.size / rho(x),
        "positions of each image": lambda x: len(x) * x.var() / x.mean(axis=0).var(),
        "expected": lambda x: 1.0,
    },
    "fold_convolution": {
        "along the width": kernels_only(lambda W, g, v, e: W * g / np.sqrt(v + e)),
        "not to those that go in": kernels_only(lambda W, g, v, e: W * column(g / np.sqrt(v + e))),
        "gamma is missing": kernels_only(
            lambda W, g, v, e: W / np.sqrt(v + e)[:, None, None, None]
        ),
        "inside the root": kernels_only(
            lambda W, g, v, e: W * (g / (np.sqrt(v) + e))[:, None, None, None]
        ),
        "kernels are off": kernels_only(lambda W, g, v, e: W),
        "mean is missing": bias_only(lambda b, s, be, m: b * s + be),
        "scale it": bias_only(lambda b, s, be, m: b - m * s + be),
        "beta is missing": bias_only(lambda b, s, be, m: (b - m) * s),
        "image of zeros": bias_only(lambda b, s, be, m: b),
        "two arrays": lambda *a: fold(*a)[0],
    },
}


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, fs in RIGHT.items() for i in range(len(fs))])
def test_right_answers_pass(name, i):
    verdict = getattr(exercises, name)(RIGHT[name][i])
    assert verdict.passed, verdict


@pytest.mark.parametrize(("name", "mistake"), [(n, m) for n, fs in WRONG.items() for m in fs])
def test_wrong_answers_fail_and_the_message_names_the_mistake(name, mistake):
    verdict = getattr(exercises, name)(WRONG[name][mistake])
    assert not verdict.passed
    assert mistake in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_stubs_are_not_solutions(name):
    def stub(*args):
        raise NotImplementedError

    assert "still a stub" in getattr(exercises, name)(stub).message
    assert "None" in getattr(exercises, name)(lambda *args: None).message
