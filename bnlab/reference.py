r"""Batch Normalization in NumPy: the paper's Algorithms 1 and 2 and its gradients.

Features are axis 1 of an array (N, C) or (N, C, \*spatial); statistics run over all other axes, so
each feature has m = N values, or m = N times the number of positions. Every function is pure:
inputs are never written.

Precision. ``y`` and ``dx`` have the dtype of ``x``; ``dgamma`` and ``dbeta`` that of ``gamma``,
which may differ from that of ``x``. Arithmetic runs in the dtype of ``x``, in float32 if ``x`` is
float16; sums go on in float64 after a short run of values.

Speed. A large array is worked on in blocks that fit a core's cache, first for the sums and then for
the results, and in place: Chapter 14 shows what each of these steps saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from bnlab import _validate

_BLOCK = 2**17  # values in a block: 512 KiB in float32
_RUN = 64  # values added up before their sum goes on in float64


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
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float = 1e-5,
    out: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
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
    out : tuple of two numpy.ndarray or None
        Where to write ``y`` and ``x_hat``, of the dtypes given below and C-contiguous; None makes a
        new array. Large new arrays are slow, because the system hands over each page of them anew.
        They must not overlap an input; the cache keeps the second one, so use it for one batch only.

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
        or only one, a feature is constant while ``eps`` is 0, or a result overflows its dtype (then
        part of ``out`` is written).

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
    y = _result("out[0]", _pair(out)[0], x.shape, x.dtype, x, gamma, beta)
    x_hat = _result("out[1]", out[1], x.shape, np.result_type(x, np.float32), x, gamma, beta, y)
    mu_B, var_B, inv_std = _in_slices(
        x,
        lambda f: _normalize(x[:, f], gamma[f], beta[f], eps, y[:, f], x_hat[:, f]),
    )
    m = x.size // x.shape[1]
    return y, BatchNormCache(x_hat, gamma.copy(), mu_B, var_B, inv_std, eps, m, x.dtype)


def _normalize(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, y: np.ndarray, x_hat: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill y and x_hat; return mu_B, var_B and 1 / sqrt(var_B + eps)."""
    # Squares of less than 1e-38 vanish in float32; beside a larger eps they do not count.
    mean, rest, var_B = _moments("x", x, x_hat, wide=eps < 1e-20)
    if eps == 0:
        _refuse_zero("the batch variance", (var_B == 0) | _constant(x))
    with np.errstate(over="ignore", invalid="ignore"):  # _finite notices what overflows
        inv_std = 1 / np.sqrt(var_B + eps)
        shift, scale, g, b = _along_features(x, x_hat.dtype, rest, inv_std, gamma, beta)
        rest_counts = (np.abs(rest) * inv_std).max() > np.finfo(x_hat.dtype).eps / 8
        for x_hat_i, y_i in _blocks(x_hat, y):  # x_hat holds x - mean so far
            if rest_counts:
                x_hat_i -= shift
            x_hat_i *= scale
            value = np.multiply(x_hat_i, g, out=_place(y_i, x_hat.dtype))
            value += b
            if not _finite(value, y_i):
                raise _too_large("y", value, y.dtype)
    return mean + rest, var_B, inv_std


def batch_norm_backward(
    dy: np.ndarray, cache: BatchNormCache, *, out: np.ndarray | None = None
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
    out : numpy.ndarray or None
        Where to write ``dx``: C-contiguous, overlapping neither ``dy`` nor the cache.

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
        If the shape of ``dy`` is not that of ``x``, ``dy`` holds NaN or Inf, a result overflows, or
        ``out`` cannot hold ``dx``.

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
    x_hat = cache.x_hat
    dy = _validate.float_array("dy", dy)
    if dy.shape != x_hat.shape:
        raise ValueError(
            f"dy has shape {dy.shape}; expected {x_hat.shape}, the shape of x and y. "
            f"Pass the cache that the same forward pass returned."
        )
    dx = _result("out", out, dy.shape, cache.dtype, dy, x_hat, cache.gamma)
    scale = cache.gamma * cache.inv_std
    dgamma, dbeta = _in_slices(dy, lambda f: _gradient(dy[:, f], x_hat[:, f], scale[f], dx[:, f]))
    return (
        dx,
        _cast("dgamma", dgamma, cache.gamma.dtype),
        _cast("dbeta", dbeta, cache.gamma.dtype),
    )


def _gradient(
    dy: np.ndarray, x_hat: np.ndarray, scale: np.ndarray, dx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fill dx; return dgamma and dbeta."""
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
    m, work = dy.size // dy.shape[1], np.result_type(dy, x_hat)
    c = dx if dx.dtype == work else np.empty(dy.shape, work)
    with np.errstate(over="ignore", invalid="ignore"):  # _finite and _cast notice what overflows
        mean, sum_c, dgamma = _center("dy", dy, c, x_hat)
        values = _along_features(dy, work, sum_c / m, dgamma / m, scale)
        rest, mean_dy_x_hat, scale = values
        for c_i, x_hat_i, dx_i in _blocks(c, x_hat, dx):
            projection = x_hat_i * mean_dy_x_hat
            projection += rest
            c_i -= projection
            c_i *= scale
            if not _finite(c_i, c_i if c is dx else dx_i):
                raise _too_large("dx", c_i, dx.dtype)
    return dgamma, m * mean.astype(sum_c.dtype) + sum_c


def batch_norm_inference(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
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
    out : numpy.ndarray or None
        Where to write ``y``: C-contiguous, overlapping no input.

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
        negative, both are 0, ``y`` overflows its dtype, or ``out`` cannot hold it.

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
    channels = x.shape[1]
    gamma = _validate.per_feature("gamma", gamma, channels)
    beta = _validate.per_feature("beta", beta, channels)
    mean = _validate.per_feature("mean", mean, channels)
    var = _validate.variance("var", var, channels)
    eps = _validate.number("eps", eps, low=0)
    if eps == 0:
        _refuse_zero("var", var == 0)
    y = _result("out", out, x.shape, x.dtype, x, gamma, beta, mean, var)
    # Subtract the mean first, in the wider dtype of the two: folding it into the shift instead
    # would lose the digits of x when the mean is large.
    work = np.result_type(x, mean, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # _finite notices what overflows
        values = (mean, gamma / np.sqrt(var.astype(np.float64) + eps), beta)
        center, scale, shift = _along_features(x, work, *values)
        for x_i, y_i in _blocks(x, y):
            value = np.subtract(x_i, center, out=_place(y_i, work))
            value *= scale
            value += shift
            if not _finite(value, y_i):
                _validate.finite("x", x)
                raise _too_large("y", value, y.dtype)
    return y


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
        work = np.result_type(batch, np.float32)
        coarse, rest, var_B = _moments(name, batch, np.empty(batch.shape, work), wide=True)
        m = batch.size // batch.shape[1]
        count, degrees = count + m, degrees + m - 1
        weighted_mean = weighted_mean + m * (coarse + rest)
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


def _in_slices(
    x: np.ndarray, work: Callable[[slice], tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, ...]:
    """Work on slices of the features, and join what is returned for each feature.

    A few feature maps of all images fit a cache, from their first sum to their last result. Rows do
    not: their features lie side by side in memory, so they stay together.
    """
    m = x.size // x.shape[1]
    if x.size <= _BLOCK or m < 64 * len(x):
        return work(slice(None))
    step = max(1, _BLOCK // m)
    try:
        parts = [work(slice(i, i + step)) for i in range(0, x.shape[1], step)]
    except ValueError:  # say it again, of the whole array
        parts = [work(slice(None))]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut arrays of one shape into matching blocks, each (n, C) or (n, C, positions)."""
    n, channels = arrays[0].shape[:2]
    if arrays[0].size <= _BLOCK:
        yield arrays
        return
    if arrays[0].ndim > 2:
        arrays = tuple(a.reshape(n, channels, -1) for a in arrays)
    positions = arrays[0].size // (n * channels)
    per_feature = max(16, _BLOCK // channels)
    rows, columns = max(1, per_feature // positions), min(positions, per_feature)
    for i in range(0, n, rows):
        for j in range(0, positions, columns):
            part = (slice(i, i + rows), slice(None), slice(j, j + columns))[: arrays[0].ndim]
            yield tuple(a[part] for a in arrays)


def _sum(v: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Sum over the batch: short runs in `dtype`, and their sums in float64.

    Adding n values one after another can cost n rounding errors, all of one sign, so float32 alone
    is too coarse. To convert each value to float64 takes more time than to add it.
    """
    if v.ndim > 2:
        v = np.add.reduce(v, axis=tuple(range(2, v.ndim)), dtype=dtype)  # NumPy adds in pairs here
    if len(v) <= _RUN:
        return np.add.reduce(v, axis=0, dtype=dtype)
    whole = len(v) - len(v) % _RUN
    runs = np.add.reduce(v[:whole].reshape(-1, _RUN, v.shape[1]), axis=1, dtype=dtype)
    total = np.add.reduce(runs, axis=0, dtype=np.result_type(dtype, np.float64))
    return total + np.add.reduce(v[whole:], axis=0, dtype=dtype)


def _center(
    name: str, v: np.ndarray, c: np.ndarray, w: np.ndarray | None = None, *, wide: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write v minus its rounded mean into c; return that mean, sum(c), and sum(c * w) or sum(c * c).

    One subtraction is not enough: a mean of 1e6 rounds to float32 with an error of up to 0.03. But
    what it leaves is small, so its sum tells the rest exactly.
    """
    dtype = np.result_type(c, np.float64) if wide else c.dtype
    sum_v, sum_c, sum_cw = np.zeros((3, v.shape[1]), np.result_type(c, np.float64))
    for (v_i,) in _blocks(v):
        sum_v += _sum(v_i, dtype)
    mean = (sum_v * (v.shape[1] / v.size)).astype(c.dtype)
    (mean_0,) = _along_features(v, c.dtype, mean)
    for v_i, c_i, w_i in _blocks(v, c, c if w is None else w):
        np.subtract(v_i, mean_0, out=c_i)
        sum_c += _sum(c_i, dtype)
        sum_cw += _sum(np.multiply(c_i, w_i, dtype=dtype), dtype)
    # One NaN or Inf in v makes its sum one too, so a whole pass to look for them is rarely needed.
    if not np.isfinite(sum_cw).all():
        _validate.finite(name, v)
        if dtype == np.float32:
            return _center(name, v, c, w, wide=True)
        _refuse_overflow(name, "differences", sum_c, c.dtype)
        _refuse_overflow(name, "squares", sum_cw, dtype)
    return mean, sum_c, sum_cw


def _moments(
    name: str, x: np.ndarray, c: np.ndarray, *, wide: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write x minus its rounded mean into c; return that mean, the rest of it and the variance."""
    m = x.size // x.shape[1]
    if m == 1:
        raise ValueError(
            f"{name} has shape {x.shape}, one value per feature; expected at least 2, because one "
            f"value has no variance. Use larger batches, or batch_norm_inference with fixed statistics."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, sum_c, sum_cc = _center(name, x, c, wide=wide)
    rest = sum_c / m
    return mean, rest, np.maximum(sum_cc / m - rest * rest, 0)


def _along_features(x: np.ndarray, dtype: np.dtype, *values: np.ndarray) -> Iterator[np.ndarray]:
    """Shape values (C,) to broadcast against the blocks of x, in the dtype of the arithmetic."""
    ndim = x.ndim if x.size <= _BLOCK else min(x.ndim, 3)
    shape = (-1, *(1,) * (ndim - 2))
    return (v.astype(dtype, copy=False).reshape(shape) for v in values)


def _pair(out: object) -> tuple:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(
            f"out is a {type(out).__name__}; expected a tuple of two, the arrays for y and x_hat. "
            f"Pass out=(y, x_hat), with None for one that is to be new."
        )
    return out


def _result(
    name: str, out: object, shape: tuple[int, ...], dtype: np.dtype, *inputs: np.ndarray
) -> np.ndarray:
    """Return `out` if a result can be written to it, or a new array if it is None."""
    if out is None:
        return np.empty(shape, dtype)
    out = _validate.float_array(name, out)
    flags = out.flags
    if (out.shape, out.dtype) != (shape, dtype) or not (flags.c_contiguous and flags.writeable):
        kind = "" if flags.c_contiguous else ", not C-contiguous"
        kind += "" if flags.writeable else ", read-only"
        raise ValueError(
            f"{name} is {out.dtype} of shape {out.shape}{kind}; expected a writeable, C-contiguous "
            f"array of {dtype} of shape {shape}. Make one with np.empty({shape}, np.{dtype})."
        )
    if any(np.may_share_memory(out, a) for a in inputs):
        raise ValueError(
            f"{name} shares memory with an input or with another output; expected an array of its "
            f"own, because inputs are never written. Make one with np.empty({shape}, np.{dtype})."
        )
    return out


def _place(out: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Return `out` if arithmetic in `dtype` can write into it directly."""
    return out if out.dtype == dtype else None


def _finite(value: np.ndarray, out: np.ndarray) -> bool:
    """Round a block into its place; False if it overflowed there or on the way."""
    if value is not out:
        out[...] = value
    return bool(np.isfinite(out).all())


def _cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to the caller's dtype, and refuse a result that overflowed there or on the way."""
    with np.errstate(over="ignore"):
        rounded = value.astype(dtype, copy=False)
    if not np.isfinite(rounded).all():
        raise _too_large(name, value, dtype)
    return rounded


def _too_large(name: str, value: np.ndarray, dtype: np.dtype) -> ValueError:
    with np.errstate(over="ignore"):
        lost = value[~np.isfinite(value.astype(dtype))]
    size = float(np.nan_to_num(np.abs(lost), nan=np.inf, posinf=np.inf).max())
    return ValueError(
        f"{name} reaches {size:.3g}, but {np.dtype(dtype)} ends at "
        f"{float(np.finfo(dtype).max):.3g}; expected values that fit. Pass arrays of a wider "
        f"dtype, or scale them down."
    )


def _constant(x: np.ndarray) -> np.ndarray:
    """Tell which features have one value only."""
    first = x[(slice(0, 1), slice(None), *(slice(0, 1),) * (x.ndim - 2))]
    return (x == first).all(axis=(0, *range(2, x.ndim)))


def _refuse_overflow(name: str, what: str, sums: np.ndarray, dtype: np.dtype) -> None:
    lost = ~np.isfinite(sums)
    if lost.any():
        raise ValueError(
            f"{name} is so large that {what} overflow {dtype} in feature(s) "
            f"{np.flatnonzero(lost).tolist()}; expected values that can be squared and summed. "
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
