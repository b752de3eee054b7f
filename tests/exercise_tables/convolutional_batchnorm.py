"""Chapter 8: one mean a map, its gradient, what a batch is worth, folding."""

import numpy as np

AXES = (0, 2, 3)


def column(v):
    return v[:, None, None]


def std(x, **how):
    return x.std(axis=AXES, keepdims=True, **how)


def normalized(x, axes, gamma, beta, eps):
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def over(axes):
    return lambda x, g, b, eps: normalized(x, axes, column(g), column(b), eps)


def divided(by):
    return lambda x, g, b, eps: (
        column(g) * (x - x.mean(axis=AXES, keepdims=True)) / by(x, eps) + column(b)
    )


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
    "normalize_maps": [by_rows, over(AXES)],
    "map_counts": [lambda n, c, h, w: (n * h * w, 2 * c)],
    "maps_backward": [backward],
    "effective_values": [lambda x: len(x) / rho(x)],
    "fold_convolution": [fold, lambda *a: list(fold(*a))],
}

WRONG = {
    "normalize_maps": {
        "a mean for each position": (over(0), "each position has a mean"),
        "that mean, not scaled": (lambda x, g, b, eps: x - x.mean(axis=0), "each position has a mean"),
        "parameters along the width": (
            lambda x, g, b, eps: normalized(x, AXES, g, b, eps), "along the width"),
        "instance": (over((2, 3)), "instance normalization"),
        "layer": (over((1, 2, 3)), "layer normalization"),
        "one mean for all": (over(None), "all maps share one mean"),
        "over the maps": (over((0, 1)), "shares a mean over the maps"),
        "eps outside": (divided(lambda x, eps: std(x) + eps), "inside the root"),
        "m' - 1": (divided(lambda x, eps: np.sqrt(std(x, ddof=1) ** 2 + eps)), "not by m' - 1"),
        "nothing": (lambda x, g, b, eps: x, "Average over axes 0, 2 and 3"),
        "one image": (lambda x, g, b, eps: x[0], "has shape (3, 5, 3), expected an array of shape"),
    },
    "map_counts": {
        "swapped": (lambda n, c, h, w: (2 * c, n * h * w), "wrong order"),
        "examples": (lambda n, c, h, w: (n, 2 * c), "one mean a position"),
        "positions": (lambda n, c, h, w: (h * w, 2 * c), "one mean an image"),
        "everything": (lambda n, c, h, w: (n * c * h * w, 2 * c), "one mean for all maps"),
        "one": (lambda n, c, h, w: (1, 2 * c), "6 images of 4 x 3 positions share a mean"),
        "gamma alone": (lambda n, c, h, w: (n * h * w, c), "two numbers a map"),
        "per position": (lambda n, c, h, w: (n * h * w, 2 * c * h * w), "pair for each position"),
        "running ones too": (lambda n, c, h, w: (n * h * w, 4 * c), "kept, not learned"),
        "one learned": (lambda n, c, h, w: (n * h * w, 1), "5 maps learn a gamma"),
    },
    "maps_backward": {
        "no gamma": (lambda dy, x, g, eps: backward(dy, x, np.ones(3), eps), "gamma is missing"),
        "evaluation": (
            lambda dy, x, g, eps: dy * column(g) / np.sqrt(std(x) ** 2 + eps), "evaluation mode"),
        "mean only": (
            lambda dy, x, g, eps: (
                (dy - dy.mean(axis=AXES, keepdims=True)) * column(g) / np.sqrt(std(x) ** 2 + eps)),
            "along x_hat"),
        "over examples": (lambda dy, x, g, eps: backward(dy, x, g, eps, axes=0), "examples alone"),
        "divided by N": (lambda dy, x, g, eps: backward(dy, x, g, eps, n=len(x)), "not by N"),
        "nothing": (lambda dy, x, g, eps: dy, "Take the one-line form"),
    },
    "effective_values": {
        "all": (lambda x: x.size, "as independent"),
        "images": (lambda x: len(x), "counts images"),
        "of one image": (lambda x: 1 / rho(x), "one image is worth"),
        "times rho": (lambda x: len(x) * rho(x), "divide by rho"),
        "rho": (rho, "that is rho"),
        "of all": (lambda x: x.size / rho(x), "already knows"),
        "other axis": (lambda x: len(x) * x.var() / x.mean(axis=0).var(), "positions of each image"),
        "one": (lambda x: 1.0, "x.mean(axis=(1, 2)).var()"),
    },
    "fold_convolution": {
        "scale along the width": (
            kernels_only(lambda W, g, v, e: W * g / np.sqrt(v + e)),
            "the kernels: the scale lies along the width"),
        "maps that go in": (
            kernels_only(lambda W, g, v, e: W * column(g / np.sqrt(v + e))),
            "not to those that go in"),
        "no gamma": (
            kernels_only(lambda W, g, v, e: W / np.sqrt(v + e)[:, None, None, None]),
            "the kernels: gamma is missing"),
        "eps outside": (
            kernels_only(lambda W, g, v, e: W * (g / (np.sqrt(v) + e))[:, None, None, None]),
            "inside the root"),
        "untouched": (kernels_only(lambda W, g, v, e: W), "Scale each map that comes out"),
        "no mean": (
            bias_only(lambda b, s, be, m: b * s + be),
            "the kernels are right; the bias: the mean is missing"),
        "not scaled": (bias_only(lambda b, s, be, m: b - m * s + be), "scale it"),
        "no beta": (bias_only(lambda b, s, be, m: (b - m) * s), "the bias: beta is missing"),
        "bias untouched": (bias_only(lambda b, s, be, m: b), "Put an image of zeros"),
        "kernels alone": (
            lambda *a: fold(*a)[0], "two arrays, the folded kernels and the folded bias"),
    },
}  # fmt: skip
