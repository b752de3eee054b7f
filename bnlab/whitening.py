r"""Full whitening as a differentiable layer in NumPy: the fix that Batch Normalization simplifies.

Features are axis 1 of an array (N, C) or (N, C, \*spatial); statistics run over all other axes, so
they come from m = N values per feature, or m = N times the number of positions. Every function is
pure: inputs are never written. Arithmetic runs in float64; ``z`` and ``dx`` have the dtype of ``x``.

Why ZCA only. Whitening is free to turn its output by any rotation. ZCA, the symmetric inverse
square root, is a smooth function of the covariance, also where eigenvalues are equal. PCA whitening
is not: the order and signs of its outputs are arbitrary, they jump where two eigenvalues cross, and
at equal ones its gradient does not exist. For a fixed table :func:`bnlab.scaling.whiten` has both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bnlab import _validate

__all__ = [
    "WhiteningCache",
    "population_covariance",
    "whitening_backward",
    "whitening_forward",
    "whitening_inference",
]

Batch = Float[np.ndarray, "N C *spatial"]
Rows = Float[np.ndarray, "m C"]
Vector = Float[np.ndarray, "C"]
Matrix = Float[np.ndarray, "C C"]


class WhiteningCache(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    rows: Rows
    """Whitened input ``z`` as rows, float64, shape (m, C)."""
    mean: Vector
    """Mean of the batch, float64, shape (C,)."""
    variances: Vector
    """Eigenvalues of the biased covariance, without eps, largest first, shape (C,)."""
    eigenvectors: Matrix
    """Eigenvectors of the covariance, one a column, shape (C, C)."""
    eps: float
    """The constant added to every eigenvalue."""
    shape: tuple[int, ...]
    """Shape of ``x``, and so of ``dx``."""
    dtype: np.dtype
    """dtype of ``x``, and so of ``dx``."""

    @property
    def covariance(self) -> Matrix:
        """Biased covariance of the batch (divided by m), without eps, shape (C, C)."""
        return (self.eigenvectors * self.variances) @ self.eigenvectors.T

    @property
    def matrix(self) -> Matrix:
        r"""The whitening matrix :math:`\Sigma^{-1/2}`, symmetric, shape (C, C)."""
        return (self.eigenvectors / np.sqrt(self.variances + self.eps)) @ self.eigenvectors.T


def whitening_forward(x: Batch, *, eps: float = 1e-5) -> tuple[Batch, WhiteningCache]:
    r"""Make the features of a batch uncorrelated, of mean zero and of variance one.

    .. math::

       \mu = \frac{1}{m} \sum_i x_i, \qquad
       \Sigma = \frac{1}{m} \sum_i (x_i - \mu)(x_i - \mu)^\top + \epsilon I
              = V \,\mathrm{diag}(\lambda)\, V^\top, \qquad
       z_i = \Sigma^{-1/2} (x_i - \mu) = V \,\mathrm{diag}(\lambda)^{-1/2}\, V^\top (x_i - \mu)

    Parameters
    ----------
    x : numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial), with m > 1 values per feature. With ``eps=0``,
        m > C, and no feature that is constant or determined by the others.
    eps : float
        Added to every eigenvalue; at least 0, in the squared unit of ``x``.

    Returns
    -------
    z : numpy.ndarray
        Shape and dtype of ``x``.
    cache : WhiteningCache
        For :func:`whitening_backward`.

    Raises
    ------
    TypeError
        If ``x`` is not a NumPy array of floats, or ``eps`` is not a number.
    ValueError
        If ``x`` has fewer than two axes, is empty, has one value per feature, holds NaN or Inf or
        values whose squares overflow; if ``eps`` is negative; or if ``eps`` is 0 and the covariance
        is singular.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 2; Huang et al. 2018, "Decorrelated Batch Normalization".

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 7.0], [4.0, 8.0]])
    >>> z, cache = whitening_forward(x, eps=0)
    >>> np.allclose(z.T @ z / 4, np.eye(2)), np.allclose(z.sum(axis=0), 0)
    (True, True)
    >>> print(cache.matrix.round(3))
    [[ 3.178 -1.206]
     [-1.206  0.877]]
    """
    x = _validate.features("x", x)
    eps = _validate.number("eps", eps, low=0)
    _validate.values_per_feature("x", x, "whitening_inference")
    _validate.finite("x", x)
    c, mean = _center("x", _rows(x))
    variances, v = _eigen(c, resolution=None if eps else float(np.finfo(x.dtype).eps))
    cache = WhiteningCache(c, mean, variances, v, eps, x.shape, x.dtype)
    cache = cache._replace(rows=c @ cache.matrix)
    return _like("z", cache.rows, cache.shape, cache.dtype), cache


def whitening_backward(dz: Batch, cache: WhiteningCache) -> Batch:
    r"""Propagate the gradient of a loss through :func:`whitening_forward`.

    With :math:`z` and :math:`dz` in the basis of the eigenvectors, and :math:`\sigma = \sqrt\lambda`,

    .. math::

       A = \frac{1}{m} \sum_i z_i \, dz_i^\top, \qquad
       B_{kl} = \frac{\sigma_k A_{kl} + \sigma_l A_{lk}}{\sigma_k + \sigma_l}, \qquad
       dx_i = \Sigma^{-1/2} \Big( dz_i - \frac{1}{m} \sum_j dz_j - B z_i \Big)

    Nothing is divided by a difference of eigenvalues, so equal ones are no special case. With one
    feature this is the backward pass of Batch Normalization.

    Parameters
    ----------
    dz : numpy.ndarray
        Gradient of the loss with respect to ``z``, floats of the shape of ``x``.
    cache : WhiteningCache
        Second result of :func:`whitening_forward`.

    Returns
    -------
    numpy.ndarray
        ``dx``, shape and dtype of ``x``.

    Raises
    ------
    TypeError
        If ``dz`` is not a NumPy array of floats, or ``cache`` is not a :class:`WhiteningCache`.
    ValueError
        If the shape of ``dz`` is not that of ``x``, or ``dz`` holds NaN or Inf, or ``dx`` overflows.

    Notes
    -----
    Derived in Chapter 4 from the derivative of a matrix function (Daleckii & Krein 1965).

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # equal eigenvalues
    >>> z, cache = whitening_forward(x, eps=0)
    >>> dz = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    >>> print(whitening_backward(dz, cache).round(3) + 0.0)
    [[ 0.354  0.   ]
     [ 0.354  0.707]
     [ 0.    -0.354]
     [-0.707 -0.354]]
    """
    _validate.cache(cache, WhiteningCache, "z, cache = whitening_forward(x)")
    _validate.gradient("dz", dz, cache.shape)
    # With W = f(Sigma) and f(t) = t^(-1/2), in the basis of the eigenvectors, where c = z * s:
    #   dW_kl = f[k, l] * dSigma_kl,   f[k, l] = (f(lk) - f(ll)) / (lk - ll), or f'(lk) if equal
    #                                          = -1 / (sk sl (sk + sl)) in both cases
    # so the gradients, from the last step to the first, are
    #   G     = f[k, l] * symmetric part of sum(c dz^T)
    #   dc    = dz W + 2/m c G
    #   dx    = dc - mean(dc),   where sum(c) = 0
    # Substituting c = z * s turns f[k, l] into the weights sk / (sk + sl) of B.
    z, v, s = cache.rows, cache.eigenvectors, np.sqrt(cache.variances + cache.eps)
    g, _ = _center("dz", _rows(dz))
    weighted = s[:, None] * (v.T @ (z.T @ g) @ v) / len(g)
    b = v @ ((weighted + weighted.T) / (s[:, None] + s)) @ v.T
    with np.errstate(over="ignore", invalid="ignore"):
        dx = (g - z @ b) @ cache.matrix
    return _like("dx", dx, cache.shape, cache.dtype)


def whitening_inference(x: Batch, mean: Vector, covariance: Matrix, *, eps: float = 1e-5) -> Batch:
    r"""Whiten with fixed statistics, so that each output depends on its own input alone.

    .. math:: z = (\mathrm{Cov}[x] + \epsilon I)^{-1/2} \, (x - \mathrm{E}[x])

    Parameters
    ----------
    x : numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial); one value per feature is enough here.
    mean, covariance : numpy.ndarray
        Floats of shape (C,) and (C, C), as :func:`population_covariance` returns them.
    eps : float
        Added to every eigenvalue; the same as in training.

    Returns
    -------
    numpy.ndarray
        ``z``, of the shape and dtype of ``x``.

    Raises
    ------
    TypeError
        If an array is not a NumPy array of floats, or ``eps`` is not a number.
    ValueError
        If shapes do not match, a value is NaN or Inf, the covariance is not symmetric or has a
        negative eigenvalue, ``eps`` is negative, or the covariance plus eps is singular.

    Notes
    -----
    Source: Algorithm 2 of Ioffe & Szegedy 2015, with a covariance in place of the variances.

    Examples
    --------
    >>> x = np.array([[3.0, 0.0]])
    >>> print(whitening_inference(x, np.array([1.0, 0.0]), np.diag([4.0, 9.0]), eps=0))
    [[1. 0.]]
    """
    x = _validate.features("x", x)
    _validate.finite("x", x)
    mean = _validate.per_feature("mean", mean, x.shape[1])
    symmetric = _symmetric("covariance", covariance, x.shape[1])
    eps = _validate.number("eps", eps, low=0)
    values, v = np.linalg.eigh(symmetric)
    noise = len(v) * np.finfo(covariance.dtype).eps * np.abs(values).max()
    if values[0] < -noise:
        raise ValueError(
            f"covariance has the eigenvalue {values[0]:.3g}; expected none below 0, because no data "
            f"has a negative variance. Is it a correlation estimated from incomplete data?"
        )
    if eps == 0 and values[0] <= noise:
        raise ValueError(
            "covariance is singular and eps=0, so the result would be 0/0; expected a "
            "positive eps, or features none of which the others determine. Pass eps=1e-5."
        )
    w = (v / np.sqrt(values.clip(0) + eps)) @ v.T
    return _like("z", (_rows(x) - mean) @ w, x.shape, x.dtype)


def population_covariance(batches: Iterable[Batch]) -> tuple[Vector, Matrix]:
    r"""Average the statistics of batches into those of the population.

    .. math::

       \mathrm{E}[x] = \mathrm{E}_B[\mu_B], \qquad
       \mathrm{Cov}[x] = \frac{m}{m - 1} \, \mathrm{E}_B[\Sigma_B]

    Batches of unequal sizes weigh their means by m and their unbiased covariances by m - 1.

    Parameters
    ----------
    batches : iterable of numpy.ndarray
        Floats of shape (N, C) or (N, C, \*spatial); read once, one batch at a time.

    Returns
    -------
    mean, covariance : numpy.ndarray
        float64, shapes (C,) and (C, C), for :func:`whitening_inference`.

    Raises
    ------
    TypeError
        If ``batches`` is not an iterable of arrays of floats.
    ValueError
        If there is no batch, or one has another number of features, one value per feature, or NaN
        or Inf.

    Notes
    -----
    Source: Algorithm 2 of Ioffe & Szegedy 2015, line 10, with covariances in place of variances.

    Examples
    --------
    >>> batches = [np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[5.0, 1.0], [9.0, 1.0]])]
    >>> mean, covariance = population_covariance(batches)
    >>> print(mean, covariance.tolist())
    [4.5 1. ] [[5.0, 1.0], [1.0, 1.0]]
    """
    count, degrees, total, products = 0, 0, np.zeros(()), np.zeros(())
    for batch in _validate.batches(batches, "whitening_inference"):
        c, mean = _center("x", _rows(batch))
        count, degrees = count + len(c), degrees + len(c) - 1
        total, products = total + len(c) * mean, products + c.T @ c
    return total / count, products / degrees


def _rows(x: Batch) -> Rows:
    """Turn (N, C, *spatial) into a float64 table (m, C): a row for each example and position."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype(np.float64)


def _like(name: str, rows: Rows, shape: tuple[int, ...], dtype: np.dtype) -> Batch:
    """Undo `_rows` and round to the caller's dtype; raise if that would turn a finite value into Inf."""
    rounded = _validate.rounded(name, rows, dtype)
    n, c, *spatial = shape
    return np.ascontiguousarray(np.moveaxis(rounded.reshape(n, *spatial, c), -1, 1))


def _center(name: str, rows: Rows) -> tuple[Rows, Vector]:
    """Return the rows minus their mean, and the mean.

    The mean of a column of large numbers is rounded. What it is off by is the mean of the differences,
    which is taken out in a second pass.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = rows.mean(axis=0)
        c = rows - mean
        rest = c.mean(axis=0)
        c -= rest
        squares = np.einsum("ij,ij->j", c, c)
    _validate.squares_fit(name, squares)
    return c, mean + rest


def _eigen(c: Rows, *, resolution: float | None) -> tuple[Vector, Matrix]:
    """Return the eigenvalues of the covariance of centered rows, largest first, and the eigenvectors V.

    With c = Q R, the covariance is R.T @ R / m. Its eigenvalues are thus the squared singular values
    of R over m, and V holds the right singular vectors of R. Forming c.T @ c would cost as much, but
    square the condition number and so lose half of the digits.
    """
    m, features = c.shape
    r = np.asarray(np.linalg.qr(c, mode="r"))  # an array already, but annotated as a pair (Q, R)
    _, s, vt = np.linalg.svd(r, full_matrices=True)
    s = np.pad(s, (0, features - len(s)))  # m < C rows have no variance in C - m directions
    if resolution is not None:
        _refuse_singular(r, s, m, resolution)
    return s**2 / m, vt.T


def _refuse_singular(r: np.ndarray, s: np.ndarray, m: int, resolution: float) -> None:
    """Refuse a covariance that cannot be inverted, judged on standardized features."""
    norms = np.linalg.norm(r, axis=0)
    if (norms == 0).any():
        reason = f"feature(s) {np.flatnonzero(norms == 0).tolist()} are constant"
    elif m <= len(s):
        reason = f"{m} values per feature, for {len(s)} features"
    else:
        # The first test is of standardized features, so that no choice of units matters. The second
        # refuses units so far apart that the small feature is below the rounding of the large one.
        standardized = np.linalg.svd(r / norms, compute_uv=False)
        if standardized[-1] > standardized[0] * m * resolution and s[-1] > s[0] * m * 2.0**-52:
            return
        reason = "some features determine others, or differ in scale by more than float64 resolves"
    raise ValueError(
        f"the covariance of x is singular ({reason}) and eps=0, so the result would be 0/0; expected "
        f"m > C and no redundant feature. Pass eps=1e-5, use larger batches, or drop features."
    )


def _symmetric(name: str, value: object, features: int) -> Matrix:
    """Return a finite, symmetric float64 matrix (features, features), else raise."""
    matrix = _validate.float_array(name, value)
    if matrix.shape != (features, features):
        raise ValueError(
            f"{name} has shape {matrix.shape}; expected ({features}, {features}), a row and a "
            f"column for each feature. For variances alone use np.diag(var)."
        )
    _validate.finite(name, matrix)
    if np.abs(matrix - matrix.T).max() > 1e-5 * np.abs(matrix).max():
        raise ValueError(
            f"{name} is not symmetric; expected Cov[x_k, x_l] = Cov[x_l, x_k]. Was a matrix that "
            f"whitens passed instead? Use population_covariance."
        )
    return (matrix.astype(np.float64) + matrix.T) / 2
