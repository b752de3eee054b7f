"""Argument checks shared by the modules: each error says what was given, expected, and the fix."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
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
    if not (math.isfinite(value) and low <= float(value) <= high):
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
    if int(value) < low or (high is not None and int(value) > high):
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


def layer(
    x: object, gamma: object, beta: object, eps: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return what a normalization layer takes if it is finite and of matching shapes, else raise."""
    x = features("x", x)
    gamma = per_feature("gamma", gamma, x.shape[1])
    beta = per_feature("beta", beta, x.shape[1])
    eps = number("eps", eps, low=0)
    finite("x", x)
    return x, gamma, beta, eps


def values_per_feature(name: str, x: np.ndarray, inference: str = "batch_norm_inference") -> int:
    """Return the number of values of each feature if there are two or more, else raise."""
    m = x.size // x.shape[1]
    if m == 1:
        raise ValueError(
            f"{name} has shape {x.shape}, one value per feature; expected at least 2, because one "
            f"value has no variance. Use larger batches, or {inference} with fixed statistics."
        )
    return m


def batches(batches: object, inference: str = "batch_norm_inference") -> Iterator[np.ndarray]:
    """Yield batches, each read once; raise at one that is bad, unlike the first, or if there is none."""
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a {type(batches).__name__}; expected an iterable of arrays (N, C) or "
            f"(N, C, *spatial). Put a single batch in a list: [x]."
        )
    channels = None
    for i, batch in enumerate(batches):
        name = f"batches[{i}]"
        batch = features(name, batch)
        channels = channels or batch.shape[1]
        if batch.shape[1] != channels:
            raise ValueError(
                f"{name} has shape {batch.shape}; expected {channels} features on axis 1, like the "
                f"batches before it. Take all batches from one layer."
            )
        values_per_feature(name, batch, inference)
        finite(name, batch)
        yield batch
    if channels is None:
        raise ValueError(
            "batches holds no batch; expected at least one. A generator that was read once is empty: "
            "make a new one, or pass a list."
        )


def gradient(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return `value` if it is a finite float array of the shape of x, else raise."""
    array = float_array(name, value)
    if array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape}; expected {shape}, the shape of x. "
            f"Pass the cache that the same forward pass returned."
        )
    finite(name, array)
    return array


def cache(value: object, kind: type, call: str) -> None:
    """Raise a TypeError unless `value` has the fields of a cache."""
    if not all(hasattr(type(value), field) for field in kind._fields):
        raise TypeError(
            f"cache is a {type(value).__name__}; expected the {kind.__name__} that the forward pass "
            f"returns second: {call}."
        )


def positive_variance(name: str, var: np.ndarray) -> None:
    """Raise a ValueError that names the features whose variance is 0, which eps=0 cannot help."""
    if (var == 0).any():
        raise ValueError(
            f"{name} is 0 for feature(s) {np.flatnonzero(var == 0).tolist()} (constant) and eps=0, "
            f"so the result would be 0/0; expected a positive variance or eps. Pass eps=1e-5, or drop "
            f"the feature(s)."
        )


def squares_fit(name: str, squares: np.ndarray) -> None:
    """Raise a ValueError that names the features whose sums of squares overflowed."""
    lost = ~np.isfinite(squares)
    if lost.any():
        raise ValueError(
            f"{name} is so large that sums or squares overflow {squares.dtype} in feature(s) "
            f"{np.flatnonzero(lost).tolist()}; expected values that can be squared and summed. "
            f"Scale {name} down first."
        )


def rounded(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `value` in `dtype`; raise a ValueError if it overflowed there or on the way."""
    with np.errstate(over="ignore"):
        result = value.astype(dtype, copy=False)
    lost = ~np.isfinite(result)
    if lost.any():
        size = float(np.nan_to_num(np.abs(value[lost]), nan=np.inf, posinf=np.inf).max())
        raise ValueError(
            f"{name} reaches {size:.3g}, but {np.dtype(dtype)} ends at "
            f"{float(np.finfo(dtype).max):.3g}; expected values that fit. Pass arrays of a wider "
            f"dtype, or scale them down."
        )
    return result


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is nearest, "" if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def read_only(value: np.ndarray) -> np.ndarray:
    """Return a copy that refuses to be written, so that a result cannot change by accident."""
    copy = np.array(value)
    copy.flags.writeable = False
    return copy
