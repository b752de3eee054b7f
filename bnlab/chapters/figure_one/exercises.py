"""Exercise checkers of Chapter 9: steps to an accuracy, means over training, paired seeds, wandering inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, call, correct, not_yet, numbers

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
    answer = numbers(function, steps, accuracy, 0.72, shape=())
    if isinstance(answer, Verdict):
        return answer
    if answer == 2:
        return not_yet("that is the number of the look. Return its step: steps[number].")
    if answer == 400:
        return not_yet(
            "accuracy falls again after step 100 and comes back at 400. Asked for is the first time."
        )
    if answer != 100:
        return not_yet(f"the level 0.72 is first reached at step 100; you return {answer:g}.")
    at = numbers(function, steps, accuracy, 0.75, shape=())
    if isinstance(at, Verdict):
        return at
    if at != 100:
        return not_yet("at step 100 accuracy is exactly 0.75, which is at least 0.75. Use >=.")
    never = call(function, steps, accuracy, 0.95)
    if isinstance(never, Verdict):
        return not_yet(f"for a level that is never reached, {never.message}")
    try:
        never = float(never)
    except (TypeError, ValueError):
        return not_yet("for a level that is never reached, return one number: np.inf.")
    if never == np.inf:
        return correct("the first look at or above the level, and forever if there is none.")
    return not_yet(
        f"a run that never gets there returned {never:g}. It takes forever: return np.inf."
    )


def mean_over_training(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(steps, accuracy)``: the mean over all steps, looks being joined by lines.

    Examples
    --------
    >>> mean_over_training(lambda steps, accuracy: accuracy.mean())
    Not yet: that is the mean over the looks, which are crowded at the start. Weight each stretch by its steps.
    """
    steps, accuracy = np.array([0, 10, 20, 100]), np.array([0.1, 0.5, 0.7, 0.9])
    answer = numbers(function, steps, accuracy, shape=())
    if isinstance(answer, Verdict):
        return answer
    width = np.diff(steps)
    total = float((width * (accuracy[1:] + accuracy[:-1]) / 2).sum())
    if np.isclose(answer, total / 100):
        return correct(
            "each stretch counts by its steps, whether there are many looks in it or few."
        )
    if np.isclose(answer, total):
        return not_yet("that is the area under the curve. Divide it by the number of steps.")
    if np.isclose(answer, accuracy.mean()):
        return not_yet(
            "that is the mean over the looks, which are crowded at the start. Weight each stretch by its steps."
        )
    if np.isclose(answer, (width * accuracy[1:]).sum() / 100):
        return not_yet("each stretch counts with its last accuracy. Use the mean of its two ends.")
    if np.isclose(answer, (width * accuracy[:-1]).sum() / 100):
        return not_yet("each stretch counts with its first accuracy. Use the mean of its two ends.")
    return not_yet(
        f"you return {answer:.4g}, expected {total / 100:.4g}: sum the areas under the lines, then divide "
        f"by the last step."
    )


def paired_standard_error(function: Callable[[np.ndarray, np.ndarray], float]) -> Verdict:
    """Check ``function(a, b)``: the standard error of the mean of a - b, entry i of both from seed i."""
    a, b = np.array([0.80, 0.84, 0.90, 0.86]), np.array([0.78, 0.83, 0.87, 0.85])
    answer = numbers(function, a, b, shape=())
    if isinstance(answer, Verdict):
        return answer
    d, n = a - b, len(a)
    if np.isclose(answer, d.std(ddof=1) / n**0.5):
        return correct("what a seed does to both arms cancels in the difference.")
    if np.isclose(answer, np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)):
        return not_yet("that treats the arms as independent. Take differences seed by seed first.")
    if np.isclose(answer, d.std() / n**0.5):
        return not_yet("the standard deviation divides by n. A sample's divides by n - 1: ddof=1.")
    if np.isclose(answer, d.std(ddof=1)):
        return not_yet(
            "that is the spread of one difference. The mean of n has sqrt(n) times less."
        )
    if np.isclose(answer, d.mean()):
        return not_yet("that is the mean difference itself. Asked for is how far to trust it.")
    return not_yet(
        f"you return {answer:.4g}, expected {d.std(ddof=1) / n**0.5:.4g}: the standard deviation of a - b "
        f"over sqrt(n)."
    )


def wander(function: Callable[[np.ndarray], float]) -> Verdict:
    """Check ``function(q)``: the range of the median over the mean spread, q of shape (times, 3)."""
    q = np.array([[-1.0, 0.0, 2.0], [1.0, 5.0, 6.0], [-3.0, 1.0, 2.0]])
    answer = numbers(function, q, shape=())
    if isinstance(answer, Verdict):
        return answer
    low, middle, high = q.T
    spread = high - low
    if np.isclose(answer, 5 / spread.mean()):
        return correct("how far the middle moved, in units of how wide the distribution is.")
    if np.isclose(answer, (middle[-1] - middle[0]) / spread.mean()):
        return not_yet(
            "that compares the end with the start. On the way it moved further: take the range."
        )
    if np.isclose(answer, 5.0):
        return not_yet("the range is right. Divide it by the mean of (85th - 15th).")
    if np.isclose(answer, spread.mean() / 5):
        return not_yet("upside down: the range goes above, the spread below.")
    if np.isclose(answer, 5 / spread[0]) or np.isclose(answer, 5 / spread[-1]):
        return not_yet("the spread is that of one moment. Take its mean over the times.")
    return not_yet(f"you return {answer:.4g}, expected {5 / spread.mean():.4g}.")
