"""Argument checks shared by the modules: each error says what was given, expected, and the fix."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np


def float_array(name: str, value: object) -> np.ndarray:
    """Return `value` if it is a NumPy array of floats, else raise a TypeError with the fix."""
    if not isinstance(value, np.ndarray):
        is_tensor = hasattr(value, "detach")
        fix = f"{name}.detach().numpy()" if is_tensor else f"np.asarray({name}, dtype=float)"
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected a NumPy array of floats. "
            f"Convert it first: {fix}."
        )
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose masked values would be counted as data; expected a "
            f"plain NumPy array. Drop or impute them first, e.g. {name}.filled(value)."
        )
    if value.dtype.kind in "biu":
        raise TypeError(
            f"{name} has dtype {value.dtype}; expected a floating dtype, because integer arithmetic "
            f"would truncate the statistics. Convert it first: {name}.astype(float)."
        )
    if value.dtype.kind != "f":
        raise TypeError(
            f"{name} has dtype {value.dtype}; expected a floating dtype. "
            f"Make numbers of its values first, e.g. {name}.astype(float) or {name}.real."
        )
    return value


def finite(name: str, value: np.ndarray) -> None:
    """Raise a ValueError that counts and locates NaN or Inf, which would poison every statistic."""
    bad = ~np.isfinite(value)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} contains {int(bad.sum())} NaN or Inf value(s), the first at index {where}; "
            f"expected finite numbers, because one bad value poisons a whole statistic. "
            f"Drop or impute them first."
        )


def number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a float if it is a finite real number in [low, high], else raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name} is {value!r}, a {type(value).__name__}; expected a real number. "
            f"Pass a plain float."
        )
    if not (math.isfinite(value) and low <= value <= high):
        bounds = {
            (True, True): f"a number between {low:g} and {high:g}",
            (True, False): f"a finite number of at least {low:g}",
            (False, True): f"a finite number of at most {high:g}",
            (False, False): "a finite number",
        }[math.isfinite(low), math.isfinite(high)]
        fix = (
            f"Choose {name} in that range."
            if math.isfinite(value) or bounds != "a finite number"
            else "Look for a division by zero or an overflow where it was computed."
        )
        raise ValueError(f"{name} is {value}; expected {bounds}. {fix}")
    return float(value)


def integer(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is an integer in [low, high], else raise."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"{name} is {value!r}, a {type(value).__name__}; expected an integer. "
            f"Pass a whole number, without a decimal point."
        )
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} is {value}; expected {bounds}. Choose {name} in that range.")
    return int(value)


def features(name: str, value: object) -> np.ndarray:
    """Return `value` if it is a non-empty float array (N, C) or (N, C, *spatial), else raise."""
    array = float_array(name, value)
    if array.ndim < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (N, C) or (N, C, *spatial), with the features "
            f"on axis 1. For a single feature use {name}.reshape(-1, 1)."
        )
    if array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}, which holds no values; expected at least one sample, "
            f"one feature and one position. Skip empty batches."
        )
    return array


def per_feature(name: str, value: object, features: int) -> np.ndarray:
    """Return `value` if it is a finite float array of shape (features,), else raise."""
    array = float_array(name, value)
    if array.shape != (features,):
        raise ValueError(
            f"{name} has shape {array.shape}; expected ({features},), one value per feature. "
            f"Features are axis 1 of x: if yours are last, use np.moveaxis(x, -1, 1)."
        )
    finite(name, array)
    return array


def variance(name: str, value: object, features: int) -> np.ndarray:
    """Return `value` if it is finite, of shape (features,) and nowhere negative, else raise."""
    array = per_feature(name, value, features)
    if (array < 0).any():
        raise ValueError(
            f"{name} is negative for feature(s) {np.flatnonzero(array < 0).tolist()}; expected "
            f"variances, which are at least 0. Were mean and variance swapped, or is this a log?"
        )
    return array


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is nearest, "" if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def read_only(value: np.ndarray) -> np.ndarray:
    """Return a copy that refuses to be written, so that a result cannot change by accident."""
    copy = np.array(value)
    copy.flags.writeable = False
    return copy
