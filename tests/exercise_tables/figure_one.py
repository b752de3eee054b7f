"""Chapter 9: steps to an accuracy, means over training, paired seeds, wandering inputs."""

import numpy as np


def first_step(steps, accuracy, level):
    there = np.flatnonzero(accuracy >= level)
    return steps[there[0]] if len(there) else np.inf


def or_never(answer):
    return lambda s, a, v: first_step(s, a, v) if (a >= v).any() else answer


def area(steps, accuracy):
    return float((np.diff(steps) * (accuracy[1:] + accuracy[:-1]) / 2).sum())


def spread(q):
    return q[:, 2] - q[:, 0]


RIGHT = {
    "steps_to_level": [first_step],
    "mean_over_training": [lambda steps, accuracy: area(steps, accuracy) / steps[-1]],
    "paired_standard_error": [lambda a, b: np.std(a - b, ddof=1) / np.sqrt(len(a))],
    "wander": [lambda q: np.ptp(q[:, 1]) / spread(q).mean()],
}

WRONG = {
    "steps_to_level": {
        "number of the look": (lambda s, a, v: int(np.argmax(a >= v)), "number of the look"),
        "last time": (lambda s, a, v: s[np.flatnonzero(a < v)[-1] + 1], "Asked for is the first time"),
        "another step": (lambda s, a, v: 50, "for the level 0.72: you return 50, expected 100."),
        "strictly above": (
            lambda s, a, v: s[np.argmax(a > v)] if (a > v).any() else np.inf, "Use >=."),
        "never is the first look": (lambda s, a, v: s[np.argmax(a >= v)], "returned 0. It takes forever"),
        "never is NaN": (or_never(np.nan), "returned nan. It takes forever"),
        "never is text": (or_never("never"), "returned never. It takes forever"),
        "never is a list": (or_never([np.inf]), "returned [inf]. It takes forever"),
        "never is None": (or_never(None), "never reached, the function returned None"),
        "never is an error": (
            lambda s, a, v: s[np.flatnonzero(a >= v)[0]],
            "never reached, the function raised IndexError"),
    },
    "mean_over_training": {
        "mean of the looks": (lambda s, a: a.mean(), "mean over the looks"),
        "area": (area, "the area under the curve"),
        "last ends": (lambda s, a: (np.diff(s) * a[1:]).sum() / s[-1], "with its last accuracy"),
        "first ends": (lambda s, a: (np.diff(s) * a[:-1]).sum() / s[-1], "with its first accuracy"),
        "final": (lambda s, a: a[-1], "return 0.9, expected 0.73. Sum the areas"),
    },
    "paired_standard_error": {
        "independent": (
            lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)), "arms as independent"),
        "divides by n": (lambda a, b: (a - b).std() / len(a) ** 0.5, "n - 1"),
        "spread of one": (lambda a, b: (a - b).std(ddof=1), "spread of one"),
        "mean": (lambda a, b: (a - b).mean(), "the mean difference itself"),
        "other": (lambda a, b: 1.0, "the standard deviation of a - b over"),
    },
    "wander": {
        "end less start": (lambda q: (q[-1, 1] - q[0, 1]) / spread(q).mean(), "the end with the start"),
        "range alone": (lambda q: np.ptp(q[:, 1]), "the range is right. Divide"),
        "upside down": (lambda q: spread(q).mean() / np.ptp(q[:, 1]), "upside down"),
        "first spread": (lambda q: np.ptp(q[:, 1]) / spread(q)[0], "one moment"),
        "last spread": (lambda q: np.ptp(q[:, 1]) / spread(q)[2], "one moment"),
        "other": (lambda q: 7.0, "you return 7, expected 1.154"),
    },
}  # fmt: skip
