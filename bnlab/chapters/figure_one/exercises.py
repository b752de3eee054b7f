"""Exercise checkers of Chapter 9: steps to an accuracy, means over training, paired seeds, wandering inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, call, correct, judge, not_yet, numbers

__all__ = ["mean_over_training", "paired_standard_error", "steps_to_level", "wander"]


def steps_to_level(function: Callable[[np.ndarray, np.ndarray, float], float]) -> Verdict:
    """Check ``function(steps, accuracy, level)``: the first step at which accuracy is at least level.

    Examples
    --------
    >>> steps_to_level(lambda steps, accuracy, level: steps[np.argmax(accuracy >= level)])
    Not yet: a run that never gets there returned 0. It takes forever: return np.inf.
    """
    steps = np.array([0, 50, 100, 200, 400, 800])
    accuracy = np.array([0.1, 0.4, 0.75, 0.7, 0.75, 0.9])
    first = judge(
        numbers(function, steps, accuracy, 0.72, shape=()),
        100,
        correct("as far as the first time goes."),
        [
            (2, "that is the number of the look. Return its step: steps[number]."),
            (400, "accuracy falls again after step 100 and comes back at 400. Asked for is the first time."),
        ],
        given="for the level 0.72",
    )  # fmt: skip
    if not first:
        return first
    at = numbers(function, steps, accuracy, 0.75, shape=())
    if isinstance(at, Verdict):
        return at
    if at != 100:
        return not_yet("at step 100 accuracy is exactly 0.75, which is at least 0.75. Use >=.")
    never = call(function, steps, accuracy, 0.95)
    if isinstance(never, Verdict):
        return not_yet(f"for a level that is never reached, {never.message}")
    if np.ndim(never) or never != np.inf:
        return not_yet(
            f"a run that never gets there returned {never}. It takes forever: return np.inf."
        )
    return correct("the first look at or above the level, and forever if there is none.")


def mean_over_training(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(steps, accuracy)``: the mean over all steps, looks being joined by lines.

    Examples
    --------
    >>> mean_over_training(lambda steps, accuracy: accuracy.mean())
    Not yet: that is the mean over the looks, which are crowded at the start. Weight each stretch by its steps.
    """
    steps, accuracy = np.array([0, 10, 20, 100]), np.array([0.1, 0.5, 0.7, 0.9])
    width = np.diff(steps)
    total = float((width * (accuracy[1:] + accuracy[:-1]) / 2).sum())
    return judge(
        numbers(function, steps, accuracy, shape=()),
        total / 100,
        correct("each stretch counts by its steps, whether there are many looks in it or few."),
        [
            (total, "that is the area under the curve. Divide it by the number of steps."),
            (accuracy.mean(),
             "that is the mean over the looks, which are crowded at the start. Weight each stretch by its steps."),
            ((width * accuracy[1:]).sum() / 100,
             "each stretch counts with its last accuracy. Use the mean of its two ends."),
            ((width * accuracy[:-1]).sum() / 100,
             "each stretch counts with its first accuracy. Use the mean of its two ends."),
        ],
        "Sum the areas under the lines, then divide by the last step.",
    )  # fmt: skip


def paired_standard_error(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(a, b)``: the standard error of the mean of a - b, entry i of both from seed i."""
    a, b = np.array([0.80, 0.84, 0.90, 0.86]), np.array([0.78, 0.83, 0.87, 0.85])
    d, n = a - b, len(a)
    return judge(
        numbers(function, a, b, shape=()),
        d.std(ddof=1) / n**0.5,
        correct("what a seed does to both arms cancels in the difference."),
        [
            (np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n),
             "that treats the arms as independent. Take differences seed by seed first."),
            (d.std() / n**0.5,
             "the standard deviation divides by n. A sample's divides by n - 1: ddof=1."),
            (d.std(ddof=1),
             "that is the spread of one difference. The mean of n has sqrt(n) times less."),
            (d.mean(), "that is the mean difference itself. Asked for is how far to trust it."),
        ],
        "It is the standard deviation of a - b over sqrt(n).",
    )  # fmt: skip


def wander(function: Callable[[np.ndarray], float]) -> Verdict:
    """Check ``function(q)``: the range of the median over the mean spread, q of shape (times, 3)."""
    q = np.array([[-1.0, 0.0, 2.0], [1.0, 5.0, 6.0], [-3.0, 1.0, 2.0]])
    low, middle, high = q.T
    spread = high - low
    moment = "the spread is that of one moment. Take its mean over the times."
    return judge(
        numbers(function, q, shape=()),
        5 / spread.mean(),
        correct("how far the middle moved, in units of how wide the distribution is."),
        [
            ((middle[-1] - middle[0]) / spread.mean(),
             "that compares the end with the start. On the way it moved further: take the range."),
            (5.0, "the range is right. Divide it by the mean of (85th - 15th)."),
            (spread.mean() / 5, "upside down: the range goes above, the spread below."),
            (5 / spread[0], moment),
            (5 / spread[-1], moment),
        ],
    )  # fmt: skip
