r"""Batch Normalization in NumPy: the paper's Algorithms 1 and 2 and its gradients.

Features are axis 1 of an array (N, C) or (N, C, \*spatial); statistics run over all other axes, so
each feature has m = N values, or m = N times the number of positions. Every function is pure:
inputs are never written.

Precision. ``y`` and ``dx`` have the dtype of ``x``; ``dgamma`` and ``dbeta`` that of ``gamma``,
which may differ from that of ``x``. Arithmetic runs in the dtype of ``x``, in float32 if ``x`` is
float16, and sums always accumulate in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bnlab import _validate


class BatchNormCache(NamedTuple):
    """What the forward pass keeps for the backward pass and for the running statistics."""

    x_hat: np.ndarray
    """Normalized input, of the shape and dtype of ``x`` (float32 if ``x`` is float16)."""
    gamma: np.ndarray
    """Copy of the scale, shape (C,)."""
    mu_B: np.ndarray
    """Mean of the batch, float64, shape (C,)."""
    var_B: np.ndarray
    """Biased variance of the batch (the sum of squares is divided by m), float64, shape (C,)."""
    inv_std: np.ndarray
    r""":math:`1 / \sqrt{\sigma_B^2 + \epsilon}`, float64, shape (C,)."""
    eps: float
    """The constant added to the variance."""
    m: int
    """Number of values behind each statistic."""
    dtype: np.dtype
    """dtype of ``x``, and so of ``dx``."""


def batch_norm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, BatchNormCache]:
    r"""Normalize each feature over the mini-batch, then scale and shift it.

    .. math::

       \mu_B = \frac{1}{m} \sum_i x_i, \qquad
       \sigma_B^2 = \frac{1}{m} \sum_i (x_i - \mu_B)^2, \qquad
       \hat{x}_i = \frac{x_i - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}, \qquad
       y_i = \gamma \hat{x}_i + \beta

    Parameters
    ----------
    x : numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial), with m > 1 values per feature.
    gamma, beta : numpy.ndarray
        Scale and shift, floats of shape (C,).
    eps : float
        Added to the variance, inside the square root; at least 0.

    Returns
    -------
    y : numpy.ndarray
        Same shape and dtype as ``x``.
    cache : BatchNormCache
        For :func:`batch_norm_backward` and :func:`update_running_statistics`.

    Raises
    ------
    TypeError
        If an array is not a NumPy array of floats, or ``eps`` is not a number.
    ValueError
        If shapes do not match, a value is NaN or Inf, ``eps`` is negative, a feature has no values
        or only one, a feature is constant while ``eps`` is 0, or a result overflows its dtype.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 1.

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 50.0]])
    >>> y, cache = batch_norm_forward(x, gamma=np.ones(2), beta=np.zeros(2))
    >>> print(y.round(3))
    [[-1.225 -1.225]
     [ 0.     0.   ]
     [ 1.225  1.225]]
    >>> print(cache.mu_B, cache.var_B.round(3))
    [ 2. 30.] [  0.667 266.667]
    """
    x = _validate.features("x", x)
    gamma = _validate.per_feature("gamma", gamma, x.shape[1])
    beta = _validate.per_feature("beta", beta, x.shape[1])
    eps = _validate.number("eps", eps, low=0)
    c, mu_B, var_B = _moments("x", x)
    if eps == 0:
        # Centering twice leaves exactly 0 of a constant feature, so the comparison is safe.
        _refuse_zero("the batch variance", var_B == 0)
    with np.errstate(over="ignore", invalid="ignore"):  # _cast refuses what overflows
        inv_std = 1 / np.sqrt(var_B + eps)
        x_hat = np.multiply(c, _along_features(inv_std, x.ndim, c.dtype), out=c)
        y = x_hat * _along_features(gamma, x.ndim, c.dtype)
        y += _along_features(beta, x.ndim, c.dtype)
    m = x.size // x.shape[1]
    cache = BatchNormCache(x_hat, gamma.copy(), mu_B, var_B, inv_std, eps, m, x.dtype)
    return _cast("y", y, x.dtype), cache


def batch_norm_backward(
    dy: np.ndarray, cache: BatchNormCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Propagate the gradient of a loss through :func:`batch_norm_forward`.

    .. math::

       \frac{\partial \ell}{\partial x_i} = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}}
       \Big( dy_i - \frac{1}{m} \sum_j dy_j - \hat{x}_i \frac{1}{m} \sum_j dy_j \hat{x}_j \Big),
       \qquad
       \frac{\partial \ell}{\partial \gamma} = \sum_i dy_i \hat{x}_i, \qquad
       \frac{\partial \ell}{\partial \beta} = \sum_i dy_i

    Parameters
    ----------
    dy : numpy.ndarray
        Gradient of the loss with respect to ``y``, floats of the shape of ``x``.
    cache : BatchNormCache
        Second result of :func:`batch_norm_forward`.

    Returns
    -------
    dx : numpy.ndarray
        Shape and dtype of ``x``.
    dgamma, dbeta : numpy.ndarray
        Shape (C,), dtype of ``gamma``.

    Raises
    ------
    TypeError
        If ``dy`` is not a NumPy array of floats, or ``cache`` is not a :class:`BatchNormCache`.
    ValueError
        If the shape of ``dy`` is not that of ``x``, ``dy`` holds NaN or Inf, or a result overflows.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3, simplified to one line.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [4.0]])
    >>> y, cache = batch_norm_forward(x, gamma=np.ones(1), beta=np.zeros(1))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> print(dx.ravel().round(3), dgamma.round(3), dbeta)
    [ 0.229 -0.344  0.115] [-1.069] [1.]
    """
    _require_cache(cache)
    x_hat, m = cache.x_hat, cache.m
    dy = _validate.float_array("dy", dy)
    if dy.shape != x_hat.shape:
        raise ValueError(
            f"dy has shape {dy.shape}; expected {x_hat.shape}, the shape of x and y. "
            f"Pass the cache that the same forward pass returned."
        )
    # The paper's chain rule, with s = sqrt(var_B + eps) and sums over the batch:
    #   dx_hat = dy * gamma
    #   dvar_B = sum(dx_hat * (x - mu_B)) * -1/2 / s^3
    #   dmu_B  = -sum(dx_hat) / s - dvar_B * 2 sum(x - mu_B) / m,  where sum(x - mu_B) = 0
    #   dx     = dx_hat / s + dvar_B * 2 (x - mu_B) / m + dmu_B / m
    #   dgamma = sum(dy * x_hat)
    #   dbeta  = sum(dy)
    # Substituting dvar_B, dmu_B and x - mu_B = x_hat * s into dx leaves one line:
    #   dx     = gamma / s * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    # As sum(x_hat) = 0, centering dy first does not change dgamma, and keeps digits if dy has a
    # large mean.
    with np.errstate(over="ignore", invalid="ignore"):  # _cast refuses what overflows
        c, mean_dy = _center("dy", dy, x_hat.dtype)
        dbeta = m * mean_dy
        dgamma = _sum_over_batch(c, x_hat)
        c -= x_hat * _along_features(dgamma / m, c.ndim, c.dtype)
        c *= _along_features(cache.gamma * cache.inv_std, c.ndim, c.dtype)
    return (
        _cast("dx", c, cache.dtype),
        _cast("dgamma", dgamma, cache.gamma.dtype),
        _cast("dbeta", dbeta, cache.gamma.dtype),
    )


def batch_norm_inference(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-5,
) -> np.ndarray:
    r"""Normalize with fixed statistics, so that each output depends on its own input alone.

    .. math::

       y = \gamma \, \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta

    Parameters
    ----------
    x : numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial); one value per feature is enough here.
    gamma, beta, mean, var : numpy.ndarray
        Floats of shape (C,): scale, shift, and the population statistics that
        :func:`population_statistics` or :func:`update_running_statistics` returned.
    eps : float
        Added to the variance, inside the square root; the same as in training.

    Returns
    -------
    numpy.ndarray
        ``y``, of the shape and dtype of ``x``.

    Raises
    ------
    TypeError
        If an array is not a NumPy array of floats, or ``eps`` is not a number.
    ValueError
        If shapes do not match, ``x`` is empty, a value is NaN or Inf, a variance or ``eps`` is
        negative, both are 0, or ``y`` overflows its dtype.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11.

    Examples
    --------
    >>> x = np.array([[3.0, 0.5]])
    >>> mean, var = np.array([1.0, 0.5]), np.array([4.0, 9.0])
    >>> y = batch_norm_inference(x, np.ones(2), np.array([0.0, 7.0]), mean, var)
    >>> print(y.round(3))
    [[1. 7.]]
    """
    x = _validate.features("x", x)
    _validate.finite("x", x)
    channels = x.shape[1]
    gamma = _validate.per_feature("gamma", gamma, channels)
    beta = _validate.per_feature("beta", beta, channels)
    mean = _validate.per_feature("mean", mean, channels)
    var = _validate.variance("var", var, channels)
    eps = _validate.number("eps", eps, low=0)
    if eps == 0:
        _refuse_zero("var", var == 0)
    # Subtract the mean first, in the wider dtype of the two: folding it into the shift instead
    # would lose the digits of x when the mean is large.
    dtype = np.result_type(x, mean, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # _cast refuses what overflows
        y = x - _along_features(mean, x.ndim, dtype)
        y *= _along_features(gamma / np.sqrt(var.astype(np.float64) + eps), x.ndim, dtype)
        y += _along_features(beta, x.ndim, dtype)
    return _cast("y", y, x.dtype)


def population_statistics(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    r"""Estimate the mean and variance of the population from training mini-batches.

    .. math::

       \mathrm{E}[x] = \mathrm{E}_B[\mu_B], \qquad
       \mathrm{Var}[x] = \frac{m}{m - 1} \, \mathrm{E}_B[\sigma_B^2]

    For batches of unequal sizes :math:`m_i`, means are weighted by :math:`m_i` and unbiased
    variances by :math:`m_i - 1`, which is the pooled estimate; for equal sizes it reduces to the
    formula above:

    .. math::

       \mathrm{E}[x] = \frac{\sum_i m_i \, \mu_i}{\sum_i m_i}, \qquad
       \mathrm{Var}[x] = \frac{\sum_i m_i \, \sigma_i^2}{\sum_i (m_i - 1)}

    Parameters
    ----------
    batches : iterable of numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial) with one C for all. Each batch is read once, so
        a generator works, and only one batch is held at a time.

    Returns
    -------
    mean, var : numpy.ndarray
        Shape (C,), dtype of the batches, at least float32.

    Raises
    ------
    TypeError
        If ``batches`` is one array or not iterable, or a batch is not a NumPy array of floats.
    ValueError
        If there is no batch, a batch is empty, has one value per feature, holds NaN or Inf or has
        another number of features, or a statistic overflows its dtype.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 10. The variance is the one *within* batches: it
    is unbiased when the values of a batch are independent draws.

    Examples
    --------
    >>> batches = [np.array([[1.0], [3.0]]), np.array([[5.0], [9.0]])]
    >>> mean, var = population_statistics(batches)
    >>> print(mean, var)  # var = 2 / (2 - 1) * (1 + 4) / 2
    [4.5] [5.]
    """
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a {type(batches).__name__}; expected an iterable of arrays (N, C) or "
            f"(N, C, *spatial). Put a single batch in a list: [x]."
        )
    count, degrees, weighted_mean, squares, dtype = 0, 0, 0.0, 0.0, np.dtype(np.float32)
    for i, batch in enumerate(batches):
        name = f"batches[{i}]"
        batch = _validate.features(name, batch)
        if i and batch.shape[1] != weighted_mean.size:
            raise ValueError(
                f"{name} has shape {batch.shape}; expected {weighted_mean.size} features on axis 1, "
                f"like the batches before it. Take all batches from one layer."
            )
        _, mu_B, var_B = _moments(name, batch)
        m = batch.size // batch.shape[1]
        count, degrees = count + m, degrees + m - 1
        weighted_mean = weighted_mean + m * mu_B
        squares = squares + m * var_B
        dtype = np.result_type(dtype, batch)
    if count == 0:
        raise ValueError(
            "batches holds no batch; expected at least one. A generator that was read once is empty: "
            "make a new one, or pass a list."
        )
    return _cast("mean", weighted_mean / count, dtype), _cast("var", squares / degrees, dtype)


def update_running_statistics(
    running_mean: np.ndarray,
    running_var: np.ndarray,
    cache: BatchNormCache,
    *,
    momentum: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Move running statistics towards those of the batch, in the convention of torch.

    .. math::

       \mu \leftarrow (1 - \alpha) \, \mu + \alpha \, \mu_B, \qquad
       \sigma^2 \leftarrow (1 - \alpha) \, \sigma^2 + \alpha \, \frac{m}{m - 1} \, \sigma_B^2

    Parameters
    ----------
    running_mean, running_var : numpy.ndarray
        Statistics so far, floats of shape (C,); training starts from zeros and ones.
    cache : BatchNormCache
        Second result of :func:`batch_norm_forward`.
    momentum : float
        Weight :math:`\alpha` of the *new* batch, from 0 to 1 (other libraries call
        :math:`1 - \alpha` the momentum).

    Returns
    -------
    mean, var : numpy.ndarray
        New arrays; shape and dtype of ``running_mean`` and ``running_var``.

    Raises
    ------
    TypeError
        If an array is not a NumPy array of floats, ``cache`` is not a :class:`BatchNormCache`, or
        ``momentum`` is not a number.
    ValueError
        If shapes do not match, a value is NaN or Inf, a variance is negative, ``momentum`` lies
        outside [0, 1], or a result overflows its dtype.

    Notes
    -----
    Source: the moving averages of Ioffe & Szegedy 2015, section 3.1, as in torch.nn.BatchNorm1d.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]])
    >>> y, cache = batch_norm_forward(x, np.ones(1), np.zeros(1))
    >>> mean, var = update_running_statistics(np.zeros(1), np.ones(1), cache, momentum=0.1)
    >>> print(mean, var)  # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2 / (2 - 1) * 1
    [0.2] [1.1]
    """
    _require_cache(cache)
    channels = cache.mu_B.size
    running_mean = _validate.per_feature("running_mean", running_mean, channels)
    running_var = _validate.variance("running_var", running_var, channels)
    momentum = _validate.number("momentum", momentum, low=0, high=1)
    # Dividing by m would fall short of the population variance by (m - 1) / m on average, because
    # mu_B is fitted to the same m values.
    unbiased = cache.var_B * (cache.m / (cache.m - 1))
    mean = (1 - momentum) * running_mean + momentum * cache.mu_B
    var = (1 - momentum) * running_var + momentum * unbiased
    return (
        _cast("running_mean", mean, running_mean.dtype),
        _cast("running_var", var, running_var.dtype),
    )


def _sum_over_batch(*factors: np.ndarray) -> np.ndarray:
    """Sum the product of the factors over all axes but the features', accumulating in float64."""
    axes = list(range(factors[0].ndim))
    operands = [operand for factor in factors for operand in (factor, axes)]
    return np.einsum(*operands, [1], dtype=np.result_type(*factors, np.float64))


def _center(name: str, x: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return x minus its mean, in `dtype` or wider, and the float64 mean, to their last digits.

    One subtraction is not enough: a mean of 1e6 rounds to float32 with an error of up to 0.03. But
    what it leaves is small, so the mean of the rest is exact enough to finish the work.
    """
    m, dtype = x.size // x.shape[1], np.result_type(x, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        coarse = (_sum_over_batch(x) / m).astype(dtype)
        c = x - _along_features(coarse, x.ndim, dtype)
        rest = _sum_over_batch(c) / m
    # One NaN or Inf in x makes its sum one too, so a whole pass to look for them is rarely needed.
    if not np.isfinite(rest).all():
        _validate.finite(name, x)
        raise _overflow(name, "differences", ~np.isfinite(rest), dtype)
    c -= _along_features(rest, x.ndim, dtype)
    return c, coarse + rest


def _moments(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x minus its mean (float32 or wider), the mean and the biased variance (float64)."""
    m = x.size // x.shape[1]
    if m == 1:
        raise ValueError(
            f"{name} has shape {x.shape}, one value per feature; expected at least 2, because one "
            f"value has no variance. Use larger batches, or batch_norm_inference with fixed statistics."
        )
    c, mean = _center(name, x, np.float32)
    with np.errstate(over="ignore"):
        var = _sum_over_batch(c, c) / m
    if not np.isfinite(var).all():
        raise _overflow(name, "squares", ~np.isfinite(var), var.dtype)
    return c, mean, var


def _along_features(values: np.ndarray, ndim: int, dtype: np.dtype) -> np.ndarray:
    """Shape (C,) into (1, C, 1, ...) to broadcast against x, in the dtype of the arithmetic."""
    return values.astype(dtype, copy=False).reshape(1, -1, *(1,) * (ndim - 2))


def _cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to the caller's dtype, and refuse a result that overflowed there or on the way."""
    with np.errstate(over="ignore"):
        rounded = value.astype(dtype, copy=False)
    lost = ~np.isfinite(rounded)
    if lost.any():
        size = float(np.nan_to_num(np.abs(value[lost]), nan=np.inf, posinf=np.inf).max())
        raise ValueError(
            f"{name} reaches {size:.3g}, but {np.dtype(dtype)} ends at "
            f"{float(np.finfo(dtype).max):.3g}; expected values that fit. Pass arrays of a wider "
            f"dtype, or scale them down."
        )
    return rounded


def _overflow(name: str, what: str, features: np.ndarray, dtype: np.dtype) -> ValueError:
    return ValueError(
        f"{name} is so large that {what} overflow {dtype} in feature(s) "
        f"{np.flatnonzero(features).tolist()}; expected values that can be squared and summed. "
        f"Scale {name} down first."
    )


def _refuse_zero(name: str, zero: np.ndarray) -> None:
    if zero.any():
        raise ValueError(
            f"{name} is 0 for feature(s) {np.flatnonzero(zero).tolist()} (constant) and eps=0, so "
            f"the result would be 0/0; expected a positive variance or eps. Pass eps=1e-5, or drop "
            f"the feature(s)."
        )


def _require_cache(cache: object) -> None:
    if not isinstance(cache, BatchNormCache):
        raise TypeError(
            f"cache is a {type(cache).__name__}; expected the BatchNormCache that "
            f"batch_norm_forward returns second: y, cache = batch_norm_forward(x, gamma, beta)."
        )
