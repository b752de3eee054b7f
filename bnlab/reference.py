r"""Batch Normalization in NumPy, written to be read: the paper's two algorithms and its gradients.

Features are axis 1 of an array (N, C) or (N, C, \*spatial); statistics run over all other axes, so
each feature has m = N values, or m = N times the number of positions. Inputs are never written.

Arithmetic runs in float64, or in longdouble if an input is one, and each result is rounded once:
``y`` and ``dx`` to the dtype of ``x``, ``dgamma`` and ``dbeta`` to that of ``gamma``.
:mod:`bnlab.kernels` has the same functions for speed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bnlab import _validate

__all__ = [
    "BatchNormCache",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "population_statistics",
    "update_running_statistics",
]

# Shapes that tests/test_shapes.py enforces.
Batch = Float[np.ndarray, "N C *spatial"]
Vector = Float[np.ndarray, "C"]


class BatchNormCache(NamedTuple):
    """What the forward pass keeps for the backward pass and for the running statistics."""

    x_hat: Batch
    """Normalized input, of the dtype of ``x`` (float32 if ``x`` is float16)."""
    gamma: Vector
    """Copy of the scale."""
    mu_B: Vector
    """Mean of the batch, float64."""
    var_B: Vector
    """Biased variance of the batch (the sum of squares is divided by m), float64."""
    inv_std: Vector
    r""":math:`1 / \sqrt{\sigma_B^2 + \epsilon}`, float64."""
    eps: float
    """The constant added to the variance."""
    m: int
    """Number of values behind each statistic."""
    dtype: np.dtype
    """dtype of ``x``, and so of ``dx``."""


def batch_norm_forward(
    x: Batch, gamma: Vector, beta: Vector, *, eps: float = 1e-5
) -> tuple[Batch, BatchNormCache]:
    r"""Normalize each feature over the mini-batch, then scale and shift it (Ioffe & Szegedy 2015, Algorithm 1).

    .. math::

       \mu_B = \frac{1}{m} \sum_i x_i, \quad
       \sigma_B^2 = \frac{1}{m} \sum_i (x_i - \mu_B)^2, \quad
       \hat{x}_i = \frac{x_i - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}, \quad
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
        If shapes do not match, a value is NaN or Inf, ``eps`` is negative, a feature has fewer than
        two values, a feature is constant while ``eps`` is 0, or a result overflows its dtype.

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 50.0]])
    >>> y, cache = batch_norm_forward(x, gamma=np.ones(2), beta=np.zeros(2))
    >>> print(y[0].round(3), cache.mu_B, cache.var_B.round(3))
    [-1.225 -1.225] [ 2. 30.] [  0.667 266.667]
    """
    x, gamma, beta, eps = _validate.layer(x, gamma, beta, eps)
    m, dtype = _validate.values_per_feature("x", x), x.dtype
    x = _features_last(x)
    with np.errstate(all="ignore"):  # what overflows is refused below
        origin = _sum(x) / m
        x = x - origin  # count from near the mean: a large one would cost the differences digits
        mu_B = _sum(x) / m
        var_B = _sum((x - mu_B) ** 2) / m
        x_hat = (x - mu_B) / np.sqrt(var_B + eps)
        y = gamma * x_hat + beta
    _validate.squares_fit("x", var_B)
    if eps == 0:
        _validate.positive_variance("the batch variance", var_B)
    x_hat = np.moveaxis(x_hat, -1, 1).astype(np.result_type(dtype, np.float32), copy=False)
    inv_std = 1 / np.sqrt(var_B + eps)
    cache = BatchNormCache(x_hat, gamma.copy(), origin + mu_B, var_B, inv_std, eps, m, dtype)
    return _validate.rounded("y", np.moveaxis(y, -1, 1), dtype), cache


def batch_norm_backward(dy: Batch, cache: BatchNormCache) -> tuple[Batch, Vector, Vector]:
    r"""Propagate the gradient of a loss through :func:`batch_norm_forward` (Ioffe & Szegedy 2015, section 3).

    .. math::

       \frac{\partial \ell}{\partial x_i} = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}}
       \Big( dy_i - \frac{1}{m} \sum_j dy_j - \hat{x}_i \frac{1}{m} \sum_j dy_j \hat{x}_j \Big),
       \quad \frac{\partial \ell}{\partial \gamma} = \sum_i dy_i \hat{x}_i,
       \quad \frac{\partial \ell}{\partial \beta} = \sum_i dy_i

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
    TypeError, ValueError
        As :func:`batch_norm_forward`, of ``dy`` and ``cache``.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [4.0]])
    >>> y, cache = batch_norm_forward(x, gamma=np.ones(1), beta=np.zeros(1))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> print(dx.ravel().round(3), dgamma.round(3), dbeta)
    [ 0.229 -0.344  0.115] [-1.069] [1.]
    """
    _validate.cache(cache, BatchNormCache, "y, cache = batch_norm_forward(x, gamma, beta)")
    _validate.gradient("dy", dy, cache.x_hat.shape)
    x_hat, dy, m = _features_last(cache.x_hat), _features_last(dy), cache.m
    # The paper's chain rule, with s = sqrt(var_B + eps) and sums over the batch:
    #   dx_hat = dy * gamma
    #   dvar_B = sum(dx_hat * (x - mu_B)) * -1/2 / s^3
    #   dmu_B  = -sum(dx_hat) / s - dvar_B * 2 sum(x - mu_B) / m,  where sum(x - mu_B) = 0
    #   dx     = dx_hat / s + dvar_B * 2 (x - mu_B) / m + dmu_B / m
    # Substituting dvar_B, dmu_B and x - mu_B = x_hat * s into dx leaves the one line below.
    with np.errstate(all="ignore"):  # what overflows is refused below
        dbeta = _sum(dy)
        dy = dy - dbeta / m  # a constant changes neither dgamma nor dx, because sum(x_hat) = 0
        dgamma = _sum(dy * x_hat)
        dx = cache.gamma * cache.inv_std * (dy - _sum(dy) / m - x_hat * dgamma / m)
    return (
        _validate.rounded("dx", np.moveaxis(dx, -1, 1), cache.dtype),
        _validate.rounded("dgamma", dgamma, cache.gamma.dtype),
        _validate.rounded("dbeta", dbeta, cache.gamma.dtype),
    )


def batch_norm_inference(
    x: Batch, gamma: Vector, beta: Vector, mean: Vector, var: Vector, *, eps: float = 1e-5
) -> Batch:
    r"""Normalize with fixed statistics, those of training (Ioffe & Szegedy 2015, Algorithm 2, line 11).

    Each output then depends on its own input alone.

    .. math:: y = \gamma \, \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta

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
    TypeError, ValueError
        As :func:`batch_norm_forward`, and if a variance is negative.

    Examples
    --------
    >>> one = np.ones(1)
    >>> batch_norm_inference(np.array([[3.0]]), one, 7 * one, mean=one, var=4 * one, eps=0)
    array([[8.]])
    """
    x, gamma, beta, eps = _validate.layer(x, gamma, beta, eps)
    mean = _validate.per_feature("mean", mean, x.shape[1])
    var = _validate.variance("var", var, x.shape[1])
    if eps == 0:
        _validate.positive_variance("var", var)
    with np.errstate(all="ignore"):  # what overflows is refused below
        x_hat = (_features_last(x) - mean) / np.sqrt(var + np.float64(eps))
        y = gamma * x_hat + beta
    return _validate.rounded("y", np.moveaxis(y, -1, 1), x.dtype)


def population_statistics(batches: Iterable[Batch]) -> tuple[Vector, Vector]:
    r"""Estimate the population's mean and variance from training mini-batches.

    .. math::

       \mathrm{E}[x] = \frac{\sum_i m_i \, \mu_i}{\sum_i m_i}, \qquad
       \mathrm{Var}[x] = \frac{\sum_i m_i \, \sigma_i^2}{\sum_i (m_i - 1)}

    For batches of equal size this is Ioffe & Szegedy 2015, Algorithm 2, line 10. The variance is
    the one *within* batches: it is unbiased when the values of a batch are independent draws.

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
    TypeError, ValueError
        As :func:`batch_norm_forward` for each batch, and if ``batches`` is one array or holds none.

    Examples
    --------
    >>> batches = [np.array([[1.0], [3.0]]), np.array([[5.0], [9.0]])]
    >>> mean, var = population_statistics(batches)
    >>> print(mean, var)  # var = 2 / (2 - 1) * (1 + 4) / 2
    [4.5] [5.]
    """
    statistics = []
    for batch in _validate.batches(batches):
        one = np.ones(batch.shape[1])
        _, cache = batch_norm_forward(batch, one, 0 * one)
        statistics.append((cache.m, cache.mu_B, cache.var_B, cache.dtype))
    m, mu_B, var_B, dtypes = zip(*statistics, strict=True)
    dtype, m = np.result_type(np.float32, *dtypes), np.array(m)
    return (
        _validate.rounded("mean", m @ np.array(mu_B) / m.sum(), dtype),
        _validate.rounded("var", m @ np.array(var_B) / (m - 1).sum(), dtype),
    )


def update_running_statistics(
    running_mean: Vector, running_var: Vector, cache: BatchNormCache, *, momentum: float = 0.1
) -> tuple[Vector, Vector]:
    r"""Move running statistics towards those of the batch, as torch.nn.BatchNorm1d does.

    .. math::

       \mu \leftarrow (1 - \alpha) \, \mu + \alpha \, \mu_B, \qquad
       \sigma^2 \leftarrow (1 - \alpha) \, \sigma^2 + \alpha \, \frac{m}{m - 1} \, \sigma_B^2

    These are the moving averages of Ioffe & Szegedy 2015, section 3.1.

    Parameters
    ----------
    running_mean, running_var : numpy.ndarray
        Statistics so far, floats of shape (C,); training starts from zeros and ones.
    cache : BatchNormCache
        Second result of :func:`batch_norm_forward`, here or in :mod:`bnlab.kernels`.
    momentum : float
        Weight :math:`\alpha` of the *new* batch, from 0 to 1 (other libraries call
        :math:`1 - \alpha` the momentum).

    Returns
    -------
    mean, var : numpy.ndarray
        New arrays; shape and dtype of ``running_mean`` and ``running_var``.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_inference`, and if ``momentum`` lies outside [0, 1].

    Examples
    --------
    >>> y, cache = batch_norm_forward(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> mean, var = update_running_statistics(np.zeros(1), np.ones(1), cache, momentum=0.1)
    >>> print(mean, var)  # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2 / (2 - 1) * 1
    [0.2] [1.1]
    """
    _validate.cache(cache, BatchNormCache, "y, cache = batch_norm_forward(x, gamma, beta)")
    running_mean = _validate.per_feature("running_mean", running_mean, cache.mu_B.size)
    running_var = _validate.variance("running_var", running_var, cache.mu_B.size)
    momentum = _validate.number("momentum", momentum, low=0, high=1)
    # Dividing by m would fall short of the population variance by (m - 1) / m on average, because
    # mu_B is fitted to the same m values.
    unbiased = cache.var_B * (cache.m / (cache.m - 1))
    mean = (1 - momentum) * running_mean + momentum * cache.mu_B
    var = (1 - momentum) * running_var + momentum * unbiased
    return (
        _validate.rounded("running_mean", mean, running_mean.dtype),
        _validate.rounded("running_var", var, running_var.dtype),
    )


def _features_last(x: np.ndarray) -> np.ndarray:
    """Move axis 1 to the end, where arrays of shape (C,) fit, and go on in float64."""
    return np.moveaxis(x, 1, -1).astype(np.result_type(x, np.float64), copy=False)


def _sum(x: np.ndarray) -> np.ndarray:
    """Sum each feature over the mini-batch: over all axes but the last."""
    return x.sum(axis=tuple(range(x.ndim - 1)))
