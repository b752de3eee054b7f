r"""Fused kernels for Batch Normalization on a CPU, compiled by numba: as few passes as there can be.

.. math::

   y = \gamma \, \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}} + \beta, \qquad
   \frac{\partial \ell}{\partial x} = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}} \left(
       \frac{\partial \ell}{\partial y}
       - \overline{\frac{\partial \ell}{\partial y}}
       - \hat x \; \overline{\frac{\partial \ell}{\partial y} \hat x} \right)

where a bar is the mean over the batch. Where numba is installed,
:func:`bnlab.nn.functional.batch_norm` uses them, unless :func:`enable` or the environment says
otherwise: ``BNLAB_KERNELS=0`` switches them off, and ``BNLAB_KERNELS=1`` makes it an error if they
cannot be had. numba is loaded and compiles at first use.

Precision. Sums of :math:`x - k` and its square accumulate in float64, with :math:`k` the first value
of the feature. Since :math:`(k - \mu_B)^2 \le (m - 1) \, \sigma_B^2` for any data, at most a factor
:math:`m` of float64's precision is lost. A second pass works in the type of x, and subtracts a mean
in two parts: what fits that type, then the rest.

Threads. They are those of the OpenMP runtime that torch has loaded. Work comes in blocks, which
depend on the shape alone, as does the order in which their sums are merged. So every number of
threads gives the same bits.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["available", "backward", "enable", "enabled", "forward", "inference"]


def available() -> bool:
    """Tell whether numba, which compiles the kernels, is installed."""
    return importlib.util.find_spec("numba") is not None


def enabled() -> bool:
    """Tell whether :func:`bnlab.nn.functional.batch_norm` uses the kernels where it can."""
    return _on and _can_be_loaded()


@cache
def _can_be_loaded() -> bool:
    """Load numba; where nobody asked for kernels, one that fails to load costs speed and a warning."""
    try:
        runner()
    except ImportError as error:
        message = (
            f"bnlab.nn computes without its kernels: {error.__cause__ or error}. Repair numba, "
        )
        warnings.warn(message + "or set BNLAB_KERNELS=0 in the environment.", stacklevel=2)
        return False
    return True


class enable:
    """Use the kernels from now on; as a context manager, until the end of the block.

    Parameters
    ----------
    on : bool
        False to stop using them.

    Raises
    ------
    ImportError
        If numba is not installed.

    Examples
    --------
    >>> with enable(False):
    ...     enabled()
    False
    """

    def __init__(self, on: bool = True) -> None:
        global _on
        if on:
            runner()
        self._before, _on = _on, bool(on)

    def __enter__(self) -> enable:
        return self

    def __exit__(self, *_: object) -> None:
        global _on
        _on = self._before


def forward(
    x: NDArray,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    threads: int = 1,
    out: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray]:
    r"""Normalize a batch by its own statistics.

    Parameters
    ----------
    x : numpy.ndarray
        float32 or float64 of shape (N, C) or (N, C, \*spatial), contiguous, not empty.
    gamma, beta : array of shape (C,) or None
        None for ones and zeros.
    eps : float
        Added to the variance, inside the square root.
    threads : int
        Number of threads, if torch has loaded an OpenMP runtime; any number gives the same bits.
    out : numpy.ndarray or None
        Where to write y: contiguous, of the shape and type of x.

    Returns
    -------
    tuple
        ``y``, and the mean and biased variance, float64 of shape (C,).

    Raises
    ------
    ImportError
        If numba is not installed.
    TypeError, ValueError
        If an array is of the wrong type or shape, or not contiguous.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 1.

    Examples
    --------
    >>> y, mean, var = forward(np.array([[1.0], [3.0]], np.float32))
    >>> print(y.ravel().round(3), mean, var)
    [-1.  1.] [2.] [1.]
    """
    gamma, beta = _check(x, gamma=gamma, beta=beta)
    y = _result(x, out)
    mean, var = np.empty((2, x.shape[1]))
    arrays = {"x": x, "out": y, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    _run("forward", arrays, eps, threads)
    return y, mean, var


def inference(
    x: NDArray,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
    threads: int = 1,
    out: NDArray | None = None,
) -> NDArray:
    """Normalize by given statistics; arguments and errors are those of :func:`forward`."""
    gamma, beta = _check(x, gamma=gamma, beta=beta)
    mean, var = _check(x, np.float64, mean=mean, var=var)
    y = _result(x, out)
    arrays = {"x": x, "out": y, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    _run("inference", arrays, eps, threads)
    return y


def backward(
    dy: NDArray,
    x: NDArray,
    gamma: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
    threads: int = 1,
    out: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray]:
    r"""Return the gradients of a loss from dy, its gradient with respect to y of :func:`forward`.

    Parameters
    ----------
    dy, x : numpy.ndarray
        Of one shape and type, as in :func:`forward`.
    gamma : array of shape (C,) or None
        As given to :func:`forward`.
    mean, var : array of shape (C,)
        As returned by :func:`forward`.
    eps, threads
        As in :func:`forward`.
    out : numpy.ndarray or None
        Where to write dx.

    Returns
    -------
    tuple
        ``dx``, ``dgamma`` and ``dbeta``, of the type of x.

    Raises
    ------
    ImportError, TypeError, ValueError
        As in :func:`forward`.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3, simplified.
    """
    (gamma,) = _check(x, gamma=gamma)
    mean, var = _check(x, np.float64, mean=mean, var=var)
    _like(x, dy, "dy")
    dx = _result(x, out)
    dgamma, dbeta = np.empty((2, x.shape[1]), x.dtype)
    arrays = {"x": x, "dy": dy, "out": dx, "gamma": gamma, "mean": mean, "var": var}
    arrays |= {"dgamma": dgamma, "dbeta": dbeta}
    _run("backward", arrays, eps, threads)
    return dx, dgamma, dbeta


@cache
def runner() -> Callable[..., None]:
    """Return what runs a kernel on memory given by addresses; compiled code knows no arrays."""
    try:
        from bnlab.kernels._entry import run
    except ImportError as error:
        raise ImportError(
            "numba is not installed, or cannot be loaded; the kernels of bnlab are compiled by it. "
            "Install it with: pip install numba"
        ) from error
    return run


def _run(kind: str, arrays: dict[str, NDArray | None], eps: float, threads: int) -> None:
    x = arrays["x"]
    fields = {name: a.ctypes.data for name, a in arrays.items() if a is not None}
    fields |= {"n": x.shape[0], "c": x.shape[1], "s": math.prod(x.shape[2:]), "eps": eps}
    runner()(kind, x.dtype.type, threads, **fields)


def _check(x: NDArray, dtype: Any = None, **per_feature: ArrayLike | None) -> list[NDArray | None]:
    """Check x, and return one contiguous array of C values for each argument that is there."""
    if not (isinstance(x, np.ndarray) and x.dtype in (np.float32, np.float64)):
        raise TypeError(
            f"x is a {getattr(x, 'dtype', type(x).__name__)}; expected a NumPy array of float32 or "
            f"float64. Convert it first: np.asarray(x, np.float32)."
        )
    if x.ndim < 2 or x.size == 0 or not x.flags.c_contiguous:
        raise ValueError(
            f"x has shape {x.shape} and strides {x.strides}; expected (N, C) or (N, C, *spatial), "
            f"not empty and contiguous. Use np.ascontiguousarray(x)."
        )
    arrays = []
    for name, value in per_feature.items():
        array = None if value is None else np.ascontiguousarray(value, dtype or x.dtype)
        if array is not None and array.shape != x.shape[1:2]:
            raise ValueError(
                f"{name} has shape {array.shape}; expected {x.shape[1:2]}, one value for each "
                f"feature of axis 1 of x, which has shape {x.shape}. Use {name}.reshape(-1)."
            )
        arrays.append(array)
    return arrays


def _like(x: NDArray, array: NDArray, name: str) -> NDArray:
    """Return the array if it has the shape, type and order of x."""
    given = getattr(array, "dtype", type(array).__name__), np.shape(array)
    if given != (x.dtype, x.shape) or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is {given[0]} of shape {given[1]}; expected contiguous {x.dtype} of shape "
            f"{x.shape}, as x. Use np.ascontiguousarray({name}, x.dtype)."
        )
    return array


def _result(x: NDArray, out: NDArray | None) -> NDArray:
    return np.empty_like(x) if out is None else _like(x, out, "out")


def _asked_for() -> bool:
    """Read the environment: whether the kernels are wanted, or by default whether they can be had."""
    asked = os.environ.get("BNLAB_KERNELS")
    if asked not in (None, "0", "1"):
        raise ValueError(
            f"BNLAB_KERNELS is {asked!r} in the environment; expected 0 (no kernels) or 1 (kernels). "
            f"Set one of these, or unset it to use the kernels where numba is installed."
        )
    if asked == "1":
        runner()
    return available() if asked is None else asked == "1"


_on = _asked_for()
