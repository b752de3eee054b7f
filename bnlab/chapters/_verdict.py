"""The answer every checker gives: a verdict that prints as one sentence and is true or false."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an exercise is solved, and one sentence that says why.

    Examples
    --------
    >>> verdict = Verdict(passed=False, message="your mean is 0.5, expected 0")
    >>> verdict
    Not yet: your mean is 0.5, expected 0
    >>> bool(verdict)
    False
    """

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'Correct' if self.passed else 'Not yet'}: {self.message}"


def correct(message: str) -> Verdict:
    """Return a passing verdict."""
    return Verdict(True, message)


def not_yet(message: str) -> Verdict:
    """Return a failing verdict; the message names the mistake and the next step."""
    return Verdict(False, message)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the reader's function on copies of the arrays; an exception or None becomes a failing verdict."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    try:
        answer = function(*copies, **kwargs)
    except NotImplementedError:
        return not_yet(
            "the function is still a stub. Replace `raise NotImplementedError` with your code."
        )
    except Exception as error:  # a reader's mistake, of any kind, is an answer and not a crash
        return not_yet(f"the function raised {type(error).__name__}: {error}")
    if answer is None:
        return not_yet("the function returned None. Did you forget `return`?")
    return answer


def numbers(
    function: Callable[..., Any], *args: Any, shape: tuple[int, ...]
) -> np.ndarray | Verdict:
    """Call the reader's function; return finite floats of the wanted shape, or the verdict that says what came."""
    answer = call(function, *args)
    return answer if isinstance(answer, Verdict) else as_numbers(answer, shape=shape)


def pair(
    function: Callable[..., Any], *args: Any, shapes: tuple[tuple[int, ...], ...], what: str
) -> tuple[np.ndarray, np.ndarray] | Verdict:
    """Call the reader's function; return its two arrays as finite floats, or the verdict that says what came."""
    answer = call(function, *args)
    if isinstance(answer, Verdict):
        return answer
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return not_yet(f"return two arrays, {what}.")
    first, second = (as_numbers(a, shape=s) for a, s in zip(answer, shapes, strict=True))
    return next((part for part in (first, second) if isinstance(part, Verdict)), (first, second))


def as_numbers(answer: Any, *, shape: tuple[int, ...]) -> np.ndarray | Verdict:
    """Return an answer as finite floats of the wanted shape, or the verdict that says what it is."""
    try:
        found = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return not_yet(f"the answer is a {type(answer).__name__}, expected numbers.")
    if found.shape != shape:
        wanted = f"an array of shape {shape}" if shape else "one number"
        return not_yet(f"the answer has shape {found.shape}, expected {wanted}.")
    if not np.isfinite(found).all():
        return not_yet("the answer holds NaN or Inf. Look for a division by zero.")
    return found
