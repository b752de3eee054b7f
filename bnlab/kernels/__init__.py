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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnlab import _validate

__all__ = [
    "KernelCache",
    "available",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "enable",
    "enabled",
]


def available() -> bool:
    """Tell whether numba, which compiles the kernels, is installed.

    Returns
    -------
    bool
        True if it is; it is not loaded for that.

    Examples
    --------
    >>> available()
    True
    """
    return importlib.util.find_spec("numba") is not None


def enabled() -> bool:
    """Tell whether :func:`bnlab.nn.functional.batch_norm` uses the kernels where it can.

    Returns
    -------
    bool
        True if they are switched on and numba can be loaded.

    Examples
    --------
    >>> with enable():
    ...     enabled()
    True
    """
    return _on and _can_be_loaded()


@cache
def _can_be_loaded() -> bool:
    """Load numba, or warn once that it fails: who did not ask for kernels can do without."""
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


class KernelCache(NamedTuple):
    """What the forward pass keeps: it serves the functions of :mod:`bnlab.reference` as well."""

    x: NDArray
    """The input itself, not a copy: do not write to it before the backward pass."""
    gamma: NDArray
    """Copy of the scale, shape (C,)."""
    mu_B: NDArray
    """Mean of the batch, float64, shape (C,)."""
    var_B: NDArray
    """Biased variance of the batch, float64, shape (C,)."""
    inv_std: NDArray
    r""":math:`1 / \sqrt{\sigma_B^2 + \epsilon}`, float64, shape (C,)."""
    eps: float
    """The constant added to the variance."""
    m: int
    """Number of values behind each statistic."""
    dtype: np.dtype
    """dtype of ``x``, and so of ``dx``."""
    threads: int
    """Number of threads, of the backward pass too."""

    @property
    def x_hat(self) -> NDArray:
        """Normalized input, computed when it is asked for."""
        one = np.ones(len(self.mu_B))
        return batch_norm_inference(self.x, one, 0 * one, self.mu_B, self.var_B, eps=self.eps)


def batch_norm_forward(
    x: NDArray, gamma: NDArray, beta: NDArray, *, eps: float = 1e-5, threads: int = 1
) -> tuple[NDArray, KernelCache]:
    r"""Normalize each feature over the mini-batch, as :func:`bnlab.reference.batch_norm_forward` does.

    Parameters
    ----------
    x : numpy.ndarray
        float32 or float64 of shape (N, C) or (N, C, \*spatial), C-contiguous, with m > 1 values per
        feature.
    gamma, beta : numpy.ndarray
        Scale and shift, floats of shape (C,).
    eps : float
        Added to the variance, inside the square root; at least 0.
    threads : int
        Number of threads, if torch has loaded an OpenMP runtime; any number gives the same bits.

    Returns
    -------
    y : numpy.ndarray
        Same shape and dtype as ``x``.
    cache : KernelCache
        For the backward pass, here or in the reference, and for
        :func:`bnlab.reference.update_running_statistics`.

    Raises
    ------
    ImportError
        If numba is not installed.
    TypeError, ValueError
        As the reference, and if an array is of another dtype than float32 and float64, or not
        contiguous. Only that y overflows is not noticed: then it holds Inf.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 1.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]], np.float32)
    >>> y, cache = batch_norm_forward(x, np.ones(1), np.zeros(1))
    >>> print(y.ravel().round(3), cache.mu_B, cache.var_B)
    [-1.  1.] [2.] [1.]
    """
    arrays, eps = _arrays(x, gamma, beta, eps)
    m = _validate.values_per_feature("x", x)
    mu_B, var_B = np.empty((2, x.shape[1]))
    _run("forward", arrays | {"mean": mu_B, "var": var_B}, eps, threads)
    if not np.isfinite(var_B).all():
        _validate.finite("x", x)
        _validate.squares_fit("x", var_B)
    if eps == 0:
        _validate.positive_variance("the batch variance", var_B)
    inv_std = 1 / np.sqrt(var_B + eps)
    cache = KernelCache(x, gamma.copy(), mu_B, var_B, inv_std, eps, m, x.dtype, threads)
    return arrays["out"], cache


def batch_norm_backward(dy: NDArray, cache: KernelCache) -> tuple[NDArray, NDArray, NDArray]:
    """Propagate the gradient of a loss, as :func:`bnlab.reference.batch_norm_backward` does.

    Parameters
    ----------
    dy : numpy.ndarray
        Gradient of the loss with respect to ``y``: C-contiguous, of the shape and dtype of ``x``.
    cache : KernelCache
        Second result of :func:`batch_norm_forward` of this module.

    Returns
    -------
    dx : numpy.ndarray
        Shape and dtype of ``x``.
    dgamma, dbeta : numpy.ndarray
        Shape (C,), dtype of ``gamma``.

    Raises
    ------
    ImportError, TypeError, ValueError
        As :func:`batch_norm_forward`.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3, simplified.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [4.0]])
    >>> y, cache = batch_norm_forward(x, np.ones(1), np.zeros(1))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> print(dx.ravel().round(3), dgamma.round(3), dbeta)
    [ 0.229 -0.344  0.115] [-1.069] [1.]
    """
    _validate.cache(cache, KernelCache, "y, cache = batch_norm_forward(x, gamma, beta)")
    x, dy = cache.x, _validate.float_array("dy", dy)
    if (dy.dtype, dy.shape) != (x.dtype, x.shape) or not dy.flags.c_contiguous:
        raise ValueError(
            f"dy is {dy.dtype} of shape {dy.shape}; expected C-contiguous {x.dtype} of shape "
            f"{x.shape}, as x. Use np.ascontiguousarray(dy, np.{x.dtype})."
        )
    gamma, dx = np.ascontiguousarray(cache.gamma, x.dtype), np.empty_like(x)
    dgamma, dbeta = np.empty((2, x.shape[1]), x.dtype)
    arrays = {"x": x, "dy": dy, "out": dx, "gamma": gamma, "mean": cache.mu_B, "var": cache.var_B}
    _run("backward", arrays | {"dgamma": dgamma, "dbeta": dbeta}, cache.eps, cache.threads)
    if not np.isfinite(dbeta).all():
        _validate.finite("dy", dy)
    return (
        dx,
        _validate.rounded("dgamma", dgamma, cache.gamma.dtype),
        _validate.rounded("dbeta", dbeta, cache.gamma.dtype),
    )


def batch_norm_inference(
    x: NDArray,
    gamma: NDArray,
    beta: NDArray,
    mean: NDArray,
    var: NDArray,
    *,
    eps: float = 1e-5,
    threads: int = 1,
) -> NDArray:
    """Normalize with fixed statistics, as :func:`bnlab.reference.batch_norm_inference` does.

    Parameters
    ----------
    x, gamma, beta : numpy.ndarray
        As of :func:`batch_norm_forward`; one value per feature is enough here.
    mean, var : numpy.ndarray
        Statistics of the population, floats of shape (C,).
    eps, threads : float, int
        As of :func:`batch_norm_forward`.

    Returns
    -------
    numpy.ndarray
        ``y``, of the shape and dtype of ``x``; it is NaN or Inf where x is.

    Raises
    ------
    ImportError, TypeError, ValueError
        As :func:`batch_norm_forward`, and if a variance is negative.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11.

    Examples
    --------
    >>> one = np.ones(1)
    >>> batch_norm_inference(np.array([[3.0]]), one, 7 * one, mean=one, var=4 * one, eps=0)
    array([[8.]])
    """
    arrays, eps = _arrays(x, gamma, beta, eps)
    mean = _validate.per_feature("mean", mean, x.shape[1])
    var = _validate.variance("var", var, x.shape[1])
    if eps == 0:
        _validate.positive_variance("var", var)
    arrays |= {"mean": np.ascontiguousarray(mean, float), "var": np.ascontiguousarray(var, float)}
    _run("inference", arrays, eps, threads)
    return arrays["out"]


@cache
def runner() -> Callable[..., None]:
    """Return the function that runs a kernel on addresses of memory: compiled code knows no arrays."""
    try:
        from bnlab.kernels._entry import run
    except ImportError as error:
        raise ImportError(
            "numba is not installed, or cannot be loaded; the kernels of bnlab are compiled by it. "
            "Install it with: pip install numba"
        ) from error
    return run


def _run(kind: str, arrays: dict[str, NDArray], eps: float, threads: int) -> None:
    x = arrays["x"]
    fields = {name: a.ctypes.data for name, a in arrays.items()}
    fields |= {"n": x.shape[0], "c": x.shape[1], "s": math.prod(x.shape[2:]), "eps": eps}
    runner()(kind, x.dtype.type, threads, **fields)


def _arrays(
    x: NDArray, gamma: NDArray, beta: NDArray, eps: float
) -> tuple[dict[str, NDArray], float]:
    """Return the arrays that compiled code will see, all contiguous and of the dtype of x, and eps."""
    x = _validate.features("x", x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"x has dtype {x.dtype}; expected float32 or float64, for which the kernels are compiled. "
            f"Convert it first, x.astype(np.float32), or use bnlab.reference."
        )
    if not x.flags.c_contiguous:
        raise ValueError(
            f"x has shape {x.shape} and strides {x.strides}; expected a C-contiguous array. "
            f"Use np.ascontiguousarray(x)."
        )
    arrays = {"x": x, "out": np.empty_like(x)}
    for name, value in (("gamma", gamma), ("beta", beta)):
        checked = _validate.per_feature(name, value, x.shape[1])
        arrays[name] = np.ascontiguousarray(checked, x.dtype)
    return arrays, _validate.number("eps", eps, low=0)


def _asked_for() -> bool:
    """Return what BNLAB_KERNELS in the environment asks for; if it is not set, whether there is numba."""
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
