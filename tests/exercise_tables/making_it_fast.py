"""Chapter 14: the time that memory allows, the roof, merged moments, a gradient in place."""

import numpy as np


def floor(count):
    return lambda shape, bandwidth, itemsize: count * np.prod(shape) * itemsize / bandwidth


def merged(n_a, mean_a, var_a, n_b, mean_b, var_b):
    n = n_a + n_b
    within = (n_a * var_a + n_b * var_b) / n
    between = n_a * n_b / n**2 * (mean_a - mean_b) ** 2
    return (n_a * mean_a + n_b * mean_b) / n, within + between


def wrong_mean(mean):
    return lambda *a: (mean(*a), merged(*a)[1])


def wrong_var(var):
    return lambda *a: (merged(*a)[0], var(*a))


def in_place(dy, x_hat, scale, out):
    np.multiply(x_hat, -(dy * x_hat).mean(0), out=out)
    out += dy
    out -= dy.mean(0)
    out *= scale
    return out


def into(formula):
    def function(dy, x_hat, scale, out):
        out[:] = formula(dy, x_hat, scale)
        return out

    return function


def spoils(name):
    def function(dy, x_hat, scale, out):
        in_place(dy, x_hat, scale, out)
        {"dy": dy, "x_hat": x_hat}[name][0] += 1
        return out

    return function


RIGHT = {
    "fastest_time": [floor(5)],
    "attainable_speed": [lambda f, m, p, b: min(p, b * f / m)],
    "merge_moments": [merged],
    "gradient_in_place": [in_place],
}

WRONG = {
    "fastest_time": {
        "forward": (
            floor(2), "for (32, 64, 56, 56) of 4 bytes each: that is the forward pass"),
        "backward": (floor(3), "that is the backward pass"),
        "x once": (floor(4), "one array is missing"),
        "one too many": (floor(6), "one array too many"),
        "one": (floor(1), "that is one array. Count"),
        "numbers": (lambda s, b, i: 5 * np.prod(s) / b, "numbers are not bytes"),
        "times bandwidth": (lambda s, b, i: 5 * np.prod(s) * i * b, "divided by bandwidth"),
        "float32 alone": (lambda s, b, i: 20 * np.prod(s) / b, "for (1000, 10) of 8 bytes each"),
        "a second": (lambda s, b, i: 1.0, "you return 1, expected 0.006423."),
    },
    "attainable_speed": {
        "peak": (lambda f, m, p, b: p, "that is the peak"),
        "slope": (lambda f, m, p, b: b * f / m, "faster than the peak"),
        "bytes per flop": (lambda f, m, p, b: min(p, b * m / f), "not bytes per flop"),
        "the larger": (lambda f, m, p, b: max(p, b * f / m), "that is the peak"),
        "bandwidth": (lambda f, m, p, b: b, "you return 2e+10, expected 1.4e+10."),
    },
    "merge_moments": {
        "means alike": (
            wrong_mean(lambda n, m, v, k, mean, var: (m + mean) / 2), "the mean: weigh each mean"),
        "a mean beside it": (wrong_mean(lambda *a: merged(*a)[0] + 1), "Add n times the mean of each"),
        "within": (
            wrong_var(lambda n, m, v, k, mean, var: (n * v + k * var) / (n + k)),
            "the mean is right; the variance: that is the variance within"),
        "unbiased": (wrong_var(lambda *a: merged(*a)[1] * 16 / 15), "the unbiased variance"),
        "variances alike": (
            wrong_var(lambda n, m, v, k, mean, var: (v + var) / 2), "weigh each variance"),
        "zero": (wrong_var(lambda *a: np.zeros(3)), "is 0, expected"),
        "one array": (lambda *a: a[1], "two arrays, the mean and the variance of all values"),
        "three": (lambda *a: a[:3], "two arrays, the mean and the variance of all values"),
        "numbers": (lambda *a: (1.0, 2.0), "the mean: the answer has shape ()"),
        "one variance": (
            lambda *a: (a[1], 2.0), "the variance of all values: the answer has shape ()"),
    },
    "gradient_in_place": {
        "dy spoiled": (spoils("dy"), "dy has changed. Write into out alone"),
        "x_hat spoiled": (spoils("x_hat"), "x_hat has changed. Write into out alone"),
        "another array": (lambda dy, x_hat, scale, out: dy * scale, "out is untouched"),
        "returns a copy": (lambda *a: in_place(*a).copy(), "out is right; return it"),
        "no scale": (into(lambda g, h, s: g - g.mean(0) - h * (g * h).mean(0)), "the factor gamma"),
        "mean only": (into(lambda g, h, s: s * (g - g.mean(0))), "the part along x_hat is missing"),
        "no mean": (into(lambda g, h, s: s * (g - h * (g * h).mean(0))), "the mean of dy is missing"),
        "sums": (into(lambda g, h, s: s * (g - g.sum(0) - h * (g * h).sum(0))), "not sums"),
        "scale alone": (into(lambda g, h, s: s * g), "expected 3.15. Start with out ="),
        "place": (into(lambda g, h, s: s * g), "in out: entry [0, 3]"),
    },
}  # fmt: skip
