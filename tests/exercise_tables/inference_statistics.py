"""Chapter 7: pooling, correlated positions, running averages, folding, frozen layers."""

import numpy as np


def running(values, momentum, average=0.0):
    for value in values:
        average = (1 - momentum) * average + momentum * value
    return average


def weighted(values, momentum):
    weights = momentum * (1 - momentum) ** np.arange(len(values))[::-1]
    return (weights * values).sum() / weights.sum()


def pooled_mean(mu, m):
    return (m * mu).sum() / m.sum()


def pooled(var):
    return lambda mu, v, m: (pooled_mean(mu, m), var(mu, v, m))


def right_var(mu, var, m):
    return (m * var).sum() / (m - 1).sum()


def all_together(mu, var, m):
    return (m * (var + (mu - pooled_mean(mu, m)) ** 2)).sum() / (m.sum() - 1)


def fold(W, b, gamma, beta, mean, var, eps):
    s = gamma / np.sqrt(var + eps)
    return W * s, (b - mean) * s + beta


def weights_only(scaled):
    return lambda W, b, g, be, m, v, e: (scaled(W, g, v, e), fold(W, b, g, be, m, v, e)[1])


def bias_only(bias):
    return lambda W, b, g, be, m, v, e: (
        fold(W, b, g, be, m, v, e)[0],
        bias(b, g / np.sqrt(v + e), be, m),
    )


def spoils(W, b, *rest):
    W[:] = 0
    return W, b


def training_gradient(dy, x, gamma, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    inner = dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)
    return gamma / np.sqrt(var + eps) * inner


RIGHT = {
    "pooled_statistics": [
        pooled(right_var),
        lambda mu, var, m: np.array(
            [np.average(mu, weights=m), np.average(m / (m - 1) * var, weights=m - 1)]
        ),
    ],
    "factor_for_images": [
        lambda images, positions, rho: 1 / (1 - rho / images),
        lambda images, positions, rho: images / (images - rho),
    ],
    "debiased_average": [lambda v, a: running(v, a) / (1 - (1 - a) ** len(v)), weighted],
    "keras_momentum": [lambda n: 0.5 ** (1 / n), lambda n: np.exp(-np.log(2) / n)],
    "fold_pair": [fold],
    "frozen_gradient": [lambda dy, x, gamma, mean, var, eps: dy * gamma / np.sqrt(var + eps)],
}

WRONG = {
    "pooled_statistics": {
        "means alike": (lambda mu, v, m: (mu.mean(), right_var(mu, v, m)), "the mean is off."),
        "swapped": (lambda mu, v, m: (right_var(mu, v, m), pooled_mean(mu, m)), "Return E[x] first"),
        "biased": (pooled(lambda mu, v, m: (m * v).sum() / m.sum()), "one degree of freedom"),
        "unweighted": (
            pooled(lambda mu, v, m: (m / (m - 1) * v).mean()),
            "the mean is right; the variance: each batch is unbiased now"),
        "all together": (pooled(all_together), "all values together"),
        "average m": (
            pooled(lambda mu, v, m: m.mean() / (m.mean() - 1) * v.mean()), "the sum of squares of one"),
        "only the mean": (lambda mu, v, m: pooled_mean(mu, m), "has shape (), expected"),
        "NaN": (lambda mu, v, m: (np.nan, np.nan), "holds NaN or Inf"),
    },
    "factor_for_images": {
        "m over m - 1": (lambda n, p, rho: n * p / (n * p - 1), "right for independent values"),
        "n over n - 1": (lambda n, p, rho: n / (n - 1), "an image is all one value"),
        "the bias": (lambda n, p, rho: 1 - rho / n, "the bias itself"),
        "rho over m": (
            lambda n, p, rho: 1 / (1 - rho / (n * p)),
            "positions and rho = 0.3: you return 1.026, expected 1.111. Start from E[var_B]"),
        "an array": (lambda n, p, rho: np.ones(3), "has shape (3,), expected one number"),
    },
    "debiased_average": {
        "not corrected": (running, "Divide it out"),
        "momentum of the old": (lambda v, a: running(v, 1 - a), "as in torch"),
        "corrected, momentum of the old": (
            lambda v, a: running(v, 1 - a) / (1 - a ** len(v)), "as in torch"),
        "one step short": (
            lambda v, a: running(v, a) / (1 - (1 - a) ** (len(v) - 1)), "one step short"),
        "plain mean": (lambda v, a: v.mean(), "the plain mean"),
        "fixed for four": (lambda v, a: running(v, a) / (1 - (1 - a) ** 4), "right after 4 batches"),
        "started at the first": (
            lambda v, a: running(v[1:], a, v[0]), "[4.0, 6.0, 5.0, 9.0] and momentum 0.2: you return"),
        "the last": (lambda v, a: v[-1], "you return 9, expected"),
        "infinite": (lambda v, a: np.inf, "holds NaN or Inf"),
        "fails for one": (lambda v, a: weighted(v, a) if len(v) > 1 else None, "returned None"),
    },
    "keras_momentum": {
        "torch": (lambda n: 1 - 0.5 ** (1 / n), "torch's momentum"),
        "one over e": (lambda n: np.exp(-1 / n), "falls to 1/e"),
        "rule of thumb": (lambda n: 1 - 1 / n, "a rule of thumb"),
        "better rule of thumb": (lambda n: 1 - np.log(2) / n, "a rule of thumb"),
        "the default": (lambda n: 0.99, "return 0.99, expected 0.9659. Its 20th power"),
    },
    "fold_pair": {
        "eps outside": (weights_only(lambda W, g, v, e: W * g / (np.sqrt(v) + e)), "inside the root"),
        "no root": (
            weights_only(lambda W, g, v, e: W * g / (v + e)), "the weights: divide by the standard"),
        "no gamma": (weights_only(lambda W, g, v, e: W / np.sqrt(v + e)), "gamma is missing"),
        "rows": (
            weights_only(lambda W, g, v, e: W * np.resize(g / np.sqrt(v + e), 4)[:, None]),
            "Scale each column of W"),
        "unchanged": (lambda W, b, *_: (W, b), "Scale each column of W"),
        "spoiled": (spoils, "the weights: entry [2, 0] is 0, expected"),
        "no mean": (
            bias_only(lambda b, s, be, m: b * s + be),
            "the weights are right; the bias: the mean is missing"),
        "bias not scaled": (bias_only(lambda b, s, be, m: b - m * s + be), "scale it."),
        "no beta": (bias_only(lambda b, s, be, m: (b - m) * s), "beta is missing"),
        "beta scaled": (bias_only(lambda b, s, be, m: (b - m + be) * s), "is not scaled itself"),
        "mean added": (bias_only(lambda b, s, be, m: (b + m) * s + be), "not added"),
        "bias of nothing": (bias_only(lambda b, s, be, m: b), "Put u = 0 through both"),
        "weights alone": (
            lambda *a: fold(*a)[0], "two arrays, the folded weights and the folded bias"),
        "wrong shape": (lambda W, b, *_: (W.T, b), "the folded weights: the answer has shape (3, 4)"),
        "NaN bias": (bias_only(lambda b, s, be, m: b * np.nan), "the folded bias: the answer holds NaN"),
    },
    "frozen_gradient": {
        "training mode": (training_gradient, "that is training mode"),
        "no gamma": (lambda dy, x, g, mu, v, e: dy / np.sqrt(v + e), "gamma is missing"),
        "no root": (lambda dy, x, g, mu, v, e: dy * g / (v + e), "by the standard deviation"),
        "eps outside": (lambda dy, x, g, mu, v, e: dy * g / (np.sqrt(v) + e), "inside the root"),
        "centered": (
            lambda dy, x, g, mu, v, e: (dy - dy.mean(axis=0)) * g / np.sqrt(v + e), "nothing is subtracted"),
        "the output": (lambda dy, x, g, mu, v, e: (x - mu) * g / np.sqrt(v + e), "Write y as a x + b"),
        "unchanged": (lambda dy, x, g, mu, v, e: dy, "Write y as a x + b"),
        "a number": (lambda dy, x, g, mu, v, e: 1.0, "has shape ()"),
    },
}  # fmt: skip
