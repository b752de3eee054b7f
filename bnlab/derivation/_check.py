"""Check several lines, and show the verdicts as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnlab import _validate
from bnlab.derivation._step import Step

_TOLERANCE = 1e-20


@dataclass(frozen=True, repr=False)
class Report:
    r"""What :func:`check` found; prints as a table and is true if every line holds.

    Attributes
    ----------
    names : tuple of str
        Names of the lines.
    exact : tuple of dict
        For each line, batch size to whether it holds exactly.
    numerical : tuple of (int, float)
        For each line, a random batch size and the relative error there.
    """

    names: tuple[str, ...]
    exact: tuple[dict[int, bool], ...]
    numerical: tuple[tuple[int, float], ...]

    def __bool__(self) -> bool:
        return all(all(row.values()) for row in self.exact) and all(
            error < _TOLERANCE for _, error in self.numerical
        )

    def __repr__(self) -> str:
        sizes = sorted({size for row in self.exact for size in row})
        lines = ["line".ljust(21) + "".join(f"m = {size}".ljust(8) for size in sizes) + "random m"]
        words = {True: "exact", False: "WRONG", None: "-"}
        for name, row, (size, error) in zip(self.names, self.exact, self.numerical, strict=True):
            cells = "".join(words[row.get(s)].ljust(8) for s in sizes)
            verdict = "holds" if error < _TOLERANCE else f"off by {error:.1g}"
            lines.append(f"{name:21}{cells}m = {size}: {verdict}")
        return "\n".join(lines)


def check(
    lines: Sequence[Step], *, sizes: Sequence[int] = (2, 3, 4), largest: int = 60, seed: int = 0
) -> Report:
    r"""Check lines exactly for small batches, and numerically for one batch of random size each.

    Parameters
    ----------
    lines : sequence of Step
        For example ``CHAIN_RULE``.
    sizes : sequence of int
        Batch sizes for :meth:`Step.verify`.
    largest : int
        Largest random batch size for :meth:`Step.error`; at least 5.
    seed : int
        Seed of the random batches.

    Returns
    -------
    Report
        True if every line holds; prints as a table.

    Raises
    ------
    ValueError
        If `lines` is empty or holds something else, `largest` is below 5, or a size below 2.

    Examples
    --------
    >>> from bnlab.derivation import find
    >>> check([find("mean"), find("batch of two")])
    line                 m = 2   m = 3   m = 4   random m
    mean                 exact   exact   exact   m = 52: holds
    batch of two         exact   -       -       m = 2: holds
    """
    if len(lines) == 0 or not all(isinstance(line, Step) for line in lines):
        raise ValueError(
            f"lines is {lines!r}; expected at least one Step, or a check would prove nothing. "
            f"Pass CHAIN_RULE, or [find(name)]."
        )
    largest = _validate.integer("largest", largest, low=5)
    rng = np.random.default_rng(seed)
    exact, numerical = [], []
    for line in lines:
        exact.append({size: line.verify(size) for size in sizes if line.only in (None, size)})
        size = line.only or int(rng.integers(5, largest + 1))
        numerical.append((size, line.error(size, seed=seed)))
    return Report(tuple(line.name for line in lines), tuple(exact), tuple(numerical))
