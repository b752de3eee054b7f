"""The checkers of Chapter 9 accept right answers and name what is wrong with others."""

import numpy as np
import pytest

from bnlab.chapters.figure_one import exercises


def stub(*arguments):
    raise NotImplementedError


def first_step(steps, accuracy, level):
    there = np.flatnonzero(accuracy >= level)
    return steps[there[0]] if len(there) else np.inf


def area(steps, accuracy):
    return float((np.diff(steps) * (accuracy[1:] + accuracy[:-1]) / 2).sum())


def spread(q):
    return q[:, 2] - q[:, 0]


RIGHT = {
    "steps_to_level": first_step,
    "mean_over_training": lambda steps, accuracy: area(steps, accuracy) / steps[-1],
    "paired_standard_error": lambda a, b: np.std(a - b, ddof=1) / np.sqrt(len(a)),
    "wander": lambda q: np.ptp(q[:, 1]) / spread(q).mean(),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_passes(name):
    verdict = getattr(exercises, name)(RIGHT[name])
    assert verdict, verdict
    assert repr(verdict).startswith("Correct")


@pytest.mark.parametrize("name", RIGHT)
def test_a_stub_is_not_yet_right(name):
    verdict = getattr(exercises, name)(stub)
    assert not verdict
    assert "stub" in repr(verdict)


WRONG = {
    "steps_to_level": {
        "number of the look": (lambda s, a, v: int(np.argmax(a >= v)), "number of the look"),
        "last time": (lambda s, a, v: s[np.flatnonzero(a < v)[-1] + 1], "first time"),
        "another step": (lambda s, a, v: 50, "first reached at step 100"),
        "strictly above": (
            lambda s, a, v: s[np.argmax(a > v)] if (a > v).any() else np.inf,
            ">=",
        ),
        "never is the first look": (lambda s, a, v: s[np.argmax(a >= v)], "forever"),
        "never is NaN": (
            lambda s, a, v: s[np.argmax(a >= v)] if (a >= v).any() else np.nan,
            "forever",
        ),
        "never is None": (
            lambda s, a, v: s[np.argmax(a >= v)] if (a >= v).any() else None,
            "never reached",
        ),
        "never is text": (
            lambda s, a, v: s[np.argmax(a >= v)] if (a >= v).any() else "never",
            "never reached",
        ),
        "never is an error": (lambda s, a, v: s[np.flatnonzero(a >= v)[0]], "never reached"),
    },
    "mean_over_training": {
        "mean of the looks": (lambda s, a: a.mean(), "over the looks"),
        "area": (area, "Divide"),
        "last ends": (lambda s, a: (np.diff(s) * a[1:]).sum() / s[-1], "last accuracy"),
        "first ends": (lambda s, a: (np.diff(s) * a[:-1]).sum() / s[-1], "first accuracy"),
        "final": (lambda s, a: a[-1], "expected"),
    },
    "paired_standard_error": {
        "independent": (
            lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)),
            "independent",
        ),
        "divides by n": (lambda a, b: (a - b).std() / len(a) ** 0.5, "n - 1"),
        "spread of one": (lambda a, b: (a - b).std(ddof=1), "spread of one"),
        "mean": (lambda a, b: (a - b).mean(), "mean difference"),
        "other": (lambda a, b: 1.0, "expected"),
    },
    "wander": {
        "end less start": (lambda q: (q[-1, 1] - q[0, 1]) / spread(q).mean(), "the range"),
        "range alone": (lambda q: np.ptp(q[:, 1]), "Divide"),
        "upside down": (lambda q: spread(q).mean() / np.ptp(q[:, 1]), "upside down"),
        "first spread": (lambda q: np.ptp(q[:, 1]) / spread(q)[0], "one moment"),
        "last spread": (lambda q: np.ptp(q[:, 1]) / spread(q)[-1], "one moment"),
        "other": (lambda q: 7.0, "expected"),
    },
}


@pytest.mark.parametrize(
    ("checker", "mistake"), [(c, m) for c, mistakes in WRONG.items() for m in mistakes]
)
def test_each_mistake_is_named(checker, mistake):
    function, words = WRONG[checker][mistake]
    verdict = getattr(exercises, checker)(function)
    assert not verdict
    assert words in verdict.message
