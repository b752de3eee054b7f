"""The answer every checker gives: a verdict that prints as one sentence and is true or false."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def judge(
    answer: np.ndarray | Verdict,
    right: Any,
    praise: Verdict,
    mistakes: Iterable[tuple[Any, str]],
    advice: str = "",
    *,
    given: str = "",
    rtol: float = 1e-6,
) -> Verdict:
    """Compare an answer with the right one, then with what each known mistake gives, each paired with its hint.

    An answer that is none of these is told the number that is furthest off, and the advice. `given` says for which
    arguments, where a checker tries several.

    Examples
    --------
    >>> mistakes = [(4.0, "that is the square. Take the root.")]
    >>> judge(np.array(4.0), 2.0, correct("a length."), mistakes)
    Not yet: that is the square. Take the root.
    >>> judge(np.array(3.0), 2.0, correct("a length."), mistakes, "Use the law of cosines.", given="for m = 5")
    Not yet: for m = 5: you return 3, expected 2. Use the law of cosines.
    """
    if isinstance(answer, Verdict):
        return answer
    if np.allclose(answer, right, rtol=rtol, atol=1e-9):
        return praise
    place = f"{given}: " if given else ""
    for wrong, hint in mistakes:
        if np.allclose(answer, wrong, rtol=rtol, atol=1e-9):
            return not_yet(place + hint)
    right = np.asarray(right, dtype=float)
    at = np.unravel_index(int(np.argmax(np.abs(answer - right))), right.shape)
    what = f"entry {[int(i) for i in at]} is" if at else "you return"
    return not_yet(f"{place}{what} {answer[at]:.4g}, expected {right[at]:.4g}. {advice}".rstrip())


def call(function: Callable[..., Any], *args: Any, copy: bool = True) -> Any:
    """Call the reader's function on copies of the arrays; an exception or None becomes a failing verdict."""
    if copy:
        args = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)
    try:
        answer = function(*args)
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
    return _as_numbers(call(function, *args), shape)


def pair(
    function: Callable[..., Any],
    *args: Any,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    names: tuple[str, str],
) -> tuple[np.ndarray, np.ndarray] | Verdict:
    """Call the reader's function; return its two arrays as finite floats, or the verdict that says what came."""
    answer = call(function, *args)
    if isinstance(answer, Verdict):
        return answer
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return not_yet(f"return two arrays, {names[0]} and {names[1]}.")
    first, second = (_as_numbers(part, shape) for part, shape in zip(answer, shapes, strict=True))
    if isinstance(first, Verdict):
        return not_yet(f"{names[0]}: {first.message}")
    if isinstance(second, Verdict):
        return not_yet(f"{names[1]}: {second.message}")
    return first, second


def _as_numbers(answer: Any, shape: tuple[int, ...]) -> np.ndarray | Verdict:
    """Return an answer as finite floats of the wanted shape, or the verdict that says what it is."""
    if isinstance(answer, Verdict):
        return answer
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
