"""Chapter 12: group norm, statistics of many replicas, Batch Renormalization, batches of two."""

import numpy as np


def normalized(x, axes, eps):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def group(x, groups, eps):
    n, c = x.shape[:2]
    parts = x.reshape(n, groups, c // groups, *x.shape[2:])
    return normalized(parts, (2, 3, 4), eps).reshape(x.shape)


def by_loops(x, groups, eps):
    y, size = np.empty_like(x), x.shape[1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            y[n, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return y


def in_parts(axes, woven=False):
    def answer(x, groups, eps):
        n, c, h, w = x.shape
        shape = (n, c // groups, groups, h, w) if woven else (n, groups, c // groups, h, w)
        return normalized(x.reshape(shape), axes, eps).reshape(x.shape)

    return answer


def eps_outside(x, groups, eps):
    parts = x.reshape(len(x), groups, -1)
    centered = parts - parts.mean(axis=2, keepdims=True)
    return (centered / (parts.std(axis=2, keepdims=True) + eps)).reshape(x.shape)


def common_mean(m, mean):
    return (m * mean).sum() / m.sum()


def pooled(m, mean, var):
    mu = common_mean(m, mean)
    return mu, (m * (var + mean**2)).sum() / m.sum() - mu**2


def spread(m, mean):
    return np.average((mean - common_mean(m, mean)) ** 2, weights=m)


def with_variance(variance):
    return lambda m, mean, var: (common_mean(m, mean), variance(m, mean, var))


def parts_of(x, mean, var, eps):
    mu, s, sigma = x.mean(axis=0), np.sqrt(x.var(axis=0) + eps), np.sqrt(var + eps)
    return (x - mu) / s, s / sigma, (mu - mean) / sigma


def renorm(change):
    def answer(x, mean, var, r_max, d_max, eps):
        x_hat, r, d = parts_of(x, mean, var, eps)
        return change(x_hat, r, d, r_max, d_max)

    return answer


def clip(x_hat, r, d, r_max, d_max):
    return x_hat * np.clip(r, 1 / r_max, r_max) + np.clip(d, -d_max, d_max)


def d_of_the_batch(x, mean, var, r_max, d_max, eps):
    x_hat, r, _ = parts_of(x, mean, var, eps)
    return clip(x_hat, r, (x.mean(axis=0) - mean) / np.sqrt(x.var(axis=0) + eps), r_max, d_max)


def below(x):
    return (x < x[:, None]).sum(axis=1)


def rank(x):
    return 2 * np.argsort(np.argsort(x)) / (len(x) - 1) - 1


def by_signs(x):
    return np.sign(x[:, None] - x).sum(axis=1) / (len(x) - 1)


RIGHT = {
    "group_norm": [group, by_loops],
    "synchronized": [pooled, lambda m, mean, var: np.array(pooled(m, mean, var))],
    "renormalize": [renorm(clip)],
    "rank_at_two": [rank, by_signs],
}

WRONG = {
    "group_norm": {
        "the batch, too": (in_parts((0, 2, 3, 4)), "other images share"),
        "layer norm": (lambda x, g, e: normalized(x, (1, 2, 3), e), "that is layer norm"),
        "instance norm": (lambda x, g, e: normalized(x, (2, 3), e), "that is instance norm"),
        "a position": (in_parts(2), "each position has a mean of its own"),
        "woven": (in_parts((1, 3, 4), woven=True), "A group holds neighbors"),
        "eps outside": (eps_outside, "inside the root"),
        "unchanged": (lambda x, g, e: x, "Reshape x to"),
    },
    "synchronized": {
        "swapped": (lambda *a: pooled(*a)[::-1], "Return the mean first"),
        "means alike": (lambda m, mean, var: (mean.mean(), pooled(m, mean, var)[1]), "the mean is off"),
        "within": (with_variance(lambda m, mean, var: np.average(var, weights=m)),
                   "the mean is right; the variance: you average the variances within"),
        "variances alike": (with_variance(lambda m, mean, var: var.mean() + spread(m, mean)),
                            "weight the variances by m as well"),
        "means unweighted": (
            with_variance(lambda m, mean, var: np.average(var, weights=m)
                          + np.mean((mean - common_mean(m, mean)) ** 2)),
            "weight the spread of the means by m, too"),
        "spread of means": (with_variance(lambda m, mean, var: np.average(var, weights=m) + mean.var()),
                            "around the common mean"),
        "unbiased": (with_variance(lambda m, mean, var: pooled(m, mean, var)[1] * m.sum() / (m.sum() - 1)),
                     "that is the unbiased"),
        "the largest": (with_variance(lambda m, mean, var: var.max()), "Start from E[x^2]"),
        "one number": (lambda m, mean, var: common_mean(m, mean), "has shape ()"),
    },
    "renormalize": {
        "batch norm": (renorm(lambda x, r, d, *_: x), "that is Batch Normalization"),
        "not clipped": (renorm(lambda x, r, d, *_: x * r + d), "Clip both"),
        "d not clipped": (renorm(lambda x, r, d, a, b: x * np.clip(r, 1 / a, a) + d), "d is not clipped"),
        "r not clipped": (renorm(lambda x, r, d, a, b: x * r + np.clip(d, -b, b)), "r is not clipped"),
        "r clipped above": (renorm(lambda x, r, d, a, b: x * np.minimum(r, a) + np.clip(d, -b, b)),
                            "a limit below"),
        "d clipped above": (renorm(lambda x, r, d, a, b: x * np.clip(r, 1 / a, a) + np.minimum(d, b)),
                            "far below zero"),
        "r upside down": (renorm(lambda x, r, d, *c: clip(x, 1 / r, d, *c)), "upside down"),
        "d negative": (renorm(lambda x, r, d, *c: clip(x, r, -d, *c)), "the wrong sign"),
        "d of the batch": (d_of_the_batch, "in running standard deviations"),
        "nothing": (lambda x, *_: x, "With r = s_B / s"),
    },
    "rank_at_two": {
        "share below": (lambda x: below(x) / (len(x) - 1), "share of partners below"),
        "over n": (lambda x: (2 * below(x) - len(x) + 1) / len(x), "divide by n - 1"),
        "over n, less one": (lambda x: 2 * below(x) / len(x) - 1, "there are n - 1 others"),
        "negative": (lambda x: -rank(x), "the larger of two becomes +1"),
        "differences": (lambda x: (x[:, None] - x).sum(axis=1) / (len(x) - 1), "the average difference"),
        "one batch": (lambda x: (x - x.mean()) / x.std(), "one batch of all values"),
        "sign": (np.sign, "below it or above it"),
    },
}  # fmt: skip
