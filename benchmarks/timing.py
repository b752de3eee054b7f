"""Time several functions side by side, so that what disturbs the machine disturbs all of them.

Two rules make ratios that can be trusted. Everything is measured in one run, in rounds: each round
times every function once, in an order that changes from round to round. And functions are compared
within a round: the ratio of two medians mixes quiet rounds with loud ones, the median of ratios
does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Run = Callable[[], object]


def interleave(
    runs: Mapping[str, Run],
    *,
    rounds: int,
    seconds: float = 0.005,
    limit: float = float("inf"),
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return the seconds per call of each function in each round.

    Parameters
    ----------
    runs : mapping of str to callable
        Functions of no argument. Each is called twice before the first round, to warm up.
    rounds : int
        How often each is timed.
    seconds : float
        A quick function is called as often as fits this time, so that the clock is fine enough.
    limit : float
        Seconds for all rounds together. Once they are over there is no new round, but never fewer
        than five of those asked for.
    seed : int
        Of the order within the rounds.

    Returns
    -------
    dict of str to numpy.ndarray
        Shape (rounds,), or fewer, in the order of `runs`.

    Examples
    --------
    >>> times = interleave({"one": lambda: sum(range(1000)), "two": int}, rounds=3, seconds=1e-4)
    >>> [(name, values.shape) for name, values in times.items()]
    [('one', (3,)), ('two', (3,))]
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; expected at least 1.")
    calls = {}
    for name, run in runs.items():
        run()
        calls[name] = max(1, min(10_000, int(seconds / max(clock(run, 1), 1e-9))))
    names, rng = list(runs), np.random.default_rng(seed)
    times = {name: np.empty(rounds) for name in names}
    start = time.perf_counter()
    for i in range(rounds):
        if i >= 5 and time.perf_counter() - start > limit:
            return {name: values[:i] for name, values in times.items()}
        for j in rng.permutation(len(names)):
            times[names[j]][i] = clock(runs[names[j]], calls[names[j]])
    return times


def clock(run: Run, calls: int) -> float:
    """Return the seconds that one of `calls` calls takes."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles.

    Examples
    --------
    >>> print(Spread.of(np.array([1.0, 2.0, 3.0, 4.0, 50.0])))
    3.00 [2.00, 4.00]
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Summarize the values."""
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def paired(times: Mapping[str, np.ndarray], base: str) -> dict[str, Spread]:
    """Divide each time by that of `base` in the same round, and summarize the ratios.

    Examples
    --------
    >>> print(paired({"a": np.array([2.0, 4.0]), "b": np.array([1.0, 2.0])}, base="b")["a"])
    2.00 [2.00, 2.00]
    """
    if base not in times:
        raise ValueError(f"base is {base!r}; expected one of {', '.join(times)}.")
    return {name: Spread.of(values / times[base]) for name, values in times.items()}
