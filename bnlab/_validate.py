"""Argument checks shared by the NumPy modules: each error says what was given, what is expected and how to fix it."""

from __future__ import annotations

import numpy as np


def float_array(name: str, value: object) -> np.ndarray:
    """Return `value` if it is a NumPy array of floats, else raise a TypeError that says how to get one."""
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected a NumPy array of floats. "
            f"Convert it first: np.asarray({name}, dtype=float)."
        )
    if not np.issubdtype(value.dtype, np.floating):
        raise TypeError(
            f"{name} has dtype {value.dtype}; expected a floating dtype, because integer arithmetic "
            f"would truncate the statistics. Convert it first: {name}.astype(float)."
        )
    return value


def finite(name: str, value: np.ndarray) -> None:
    """Raise a ValueError that counts and locates NaN or Inf, which would poison every statistic."""
    bad = ~np.isfinite(value)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} contains {int(bad.sum())} NaN or Inf value(s), the first at index {where}; expected "
            f"finite numbers, because one bad value poisons a whole statistic. Drop or impute them first."
        )
