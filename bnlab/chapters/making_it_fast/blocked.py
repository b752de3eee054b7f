"""Chapter 14: the layer in plain NumPy, in place and in blocks that fit a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["backward", "forward"]

BLOCK = 2**17  # values in a block: 512 KiB in float32
RUN = 64  # values added up before their sum goes on in float64

Pair = tuple[np.ndarray, np.ndarray]


def forward(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float = 1e-5,
    *,
    out: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[np.ndarray, Pair]:
    """Normalize x over the mini-batch, then scale and shift it.

    Parameters
    ----------
    x, gamma, beta, eps
        As of :func:`bnlab.reference.batch_norm_forward`, in float32 or float64; all arithmetic but the
        last sums is in that type.
    out : pair of numpy.ndarray or None
        Where to write y and x_hat, C-contiguous and of the type of x; None makes a new array.

    Returns
    -------
    y : numpy.ndarray
        Of the shape and type of x.
    saved : tuple
        x_hat, and gamma / sqrt(var_B + eps), for `backward`.

    Raises
    ------
    ValueError
        If a value is NaN or Inf, or overflows on the way.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> y, saved = forward(x, np.ones(1), np.zeros(1))
    >>> print(y.ravel().round(3))
    [-1.225  0.     1.225]
    """
    y, x_hat = (np.empty(x.shape, x.dtype) if o is None else o for o in out)

    def work(f: slice) -> tuple[np.ndarray]:
        return (_normalize(x[:, f], gamma[f], beta[f], eps, y[:, f], x_hat[:, f]),)

    (scale,) = _in_slices(x, work)
    return y, (x_hat, scale)


def backward(
    dy: np.ndarray, saved: Pair, *, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propagate the gradient of a loss through `forward`.

    Parameters
    ----------
    dy : numpy.ndarray
        Gradient of the loss with respect to y.
    saved : tuple
        Second result of `forward`.
    out : numpy.ndarray or None
        Where to write dx, C-contiguous and of the type of dy.

    Returns
    -------
    dx, dgamma, dbeta : numpy.ndarray
        Of the shapes of x, gamma and beta, and the type of dy.

    Raises
    ------
    ValueError
        If a value is NaN or Inf, or overflows on the way.

    Examples
    --------
    >>> y, saved = forward(np.array([[1.0], [2.0], [4.0]]), np.ones(1), np.zeros(1))
    >>> dx, dgamma, dbeta = backward(np.array([[1.0], [0.0], [0.0]]), saved)
    >>> print(dx.ravel().round(3), dgamma.round(3), dbeta)
    [ 0.229 -0.344  0.115] [-1.069] [1.]
    """
    x_hat, scale = saved
    dx = np.empty(dy.shape, dy.dtype) if out is None else out
    sums = _in_slices(dy, lambda f: _gradient(dy[:, f], x_hat[:, f], scale[f], dx[:, f]))
    dgamma, dbeta = (s.astype(dy.dtype) for s in sums)
    return dx, dgamma, dbeta


def _normalize(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, y: np.ndarray, x_hat: np.ndarray
) -> np.ndarray:
    """Fill y and x_hat; return gamma / sqrt(var_B + eps)."""
    m = x.size // x.shape[1]
    _, sum_c, sum_cc = _center(x, x_hat)
    rest = sum_c / m
    var_B = np.maximum(sum_cc / m - rest * rest, 0)
    _check(var_B)  # Inf would make x_hat 0
    inv_std = 1 / np.sqrt(var_B + eps)
    shift, scale, g, b = _along_features(x, rest, inv_std, gamma, beta)
    for x_hat_i, y_i in _blocks(x_hat, y):  # x_hat holds x minus its rounded mean so far
        x_hat_i -= shift
        x_hat_i *= scale
        np.multiply(x_hat_i, g, out=y_i)
        y_i += b
        _check(y_i)
    return gamma * inv_std


def _gradient(dy: np.ndarray, x_hat: np.ndarray, scale: np.ndarray, dx: np.ndarray) -> Pair:
    """Fill dx; return dgamma and dbeta."""
    # As sum(x_hat) = 0, centering dy first does not change dgamma, and keeps digits if dy has a
    # large mean.
    m = dy.size // dy.shape[1]
    mean, sum_c, dgamma = _center(dy, dx, x_hat)
    rest, slope, scale = _along_features(dy, sum_c / m, dgamma / m, scale)
    for dx_i, x_hat_i in _blocks(dx, x_hat):  # dx holds dy minus its rounded mean so far
        projection = x_hat_i * slope
        projection += rest
        dx_i -= projection
        dx_i *= scale
        _check(dx_i)
    return dgamma, m * mean.astype(np.float64) + sum_c


def _in_slices(x: np.ndarray, work: Callable[[slice], tuple]) -> Iterator[np.ndarray]:
    """Work on slices of the features, and join what is returned for each feature.

    A few feature maps of all images fit a cache, from their first sum to their last result. Rows do
    not: their features lie side by side in memory, so they stay together.
    """
    m, features = x.size // x.shape[1], x.shape[1]
    rows = x.size <= BLOCK or m < 64 * len(x)
    step = features if rows else max(1, BLOCK // m)
    parts = [work(slice(i, i + step)) for i in range(0, features, step)]
    return map(np.concatenate, zip(*parts, strict=True))


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut arrays of one shape into matching blocks, each (n, C) or (n, C, positions)."""
    n, channels = arrays[0].shape[:2]
    if arrays[0].size <= BLOCK:
        yield arrays
        return
    if arrays[0].ndim > 2:
        arrays = tuple(a.reshape(n, channels, -1) for a in arrays)
    positions = arrays[0].size // (n * channels)
    per_feature = max(16, BLOCK // channels)
    rows, columns = max(1, per_feature // positions), min(positions, per_feature)
    for i in range(0, n, rows):
        for j in range(0, positions, columns):
            part = (slice(i, i + rows), slice(None), slice(j, j + columns))[: arrays[0].ndim]
            yield tuple(a[part] for a in arrays)


def _center(v: np.ndarray, c: np.ndarray, w: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Write v minus its rounded mean into c; return that mean, sum(c), and sum(c * w) or sum(c * c).

    One subtraction is not enough: a mean of 1e6 rounds to float32 with an error of up to 0.03. But
    what it leaves is small, so its sum tells the rest exactly.
    """
    sum_v, sum_c, sum_cw = np.zeros((3, v.shape[1]))
    for (v_i,) in _blocks(v):
        sum_v += _sum(v_i)
    mean = (sum_v * (v.shape[1] / v.size)).astype(c.dtype)
    (mean_0,) = _along_features(v, mean)
    for v_i, c_i, w_i in _blocks(v, c, c if w is None else w):
        np.subtract(v_i, mean_0, out=c_i)
        sum_c += _sum(c_i)
        sum_cw += _sum(c_i * w_i)
    return mean, sum_c, sum_cw


def _sum(v: np.ndarray) -> np.ndarray:
    """Sum over the batch: short runs in the type of v, and their sums in float64.

    Adding n values one after another can cost n rounding errors, all of one sign, so float32 alone
    is too coarse. To convert each value to float64 takes more time than to add it.
    """
    if v.ndim > 2:
        v = np.add.reduce(v, axis=tuple(range(2, v.ndim)))  # NumPy adds in pairs here
    if len(v) <= RUN:
        return np.add.reduce(v, axis=0)
    whole = len(v) - len(v) % RUN
    runs = np.add.reduce(v[:whole].reshape(-1, RUN, v.shape[1]), axis=1)
    return np.add.reduce(runs, axis=0, dtype=np.float64) + np.add.reduce(v[whole:], axis=0)


def _along_features(x: np.ndarray, *values: np.ndarray) -> Iterator[np.ndarray]:
    """Shape values (C,) to broadcast against the blocks of x, in its type."""
    ndim = x.ndim if x.size <= BLOCK else min(x.ndim, 3)
    return (v.astype(x.dtype, copy=False).reshape(-1, *(1,) * (ndim - 2)) for v in values)


def _check(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            "a result is NaN or Inf: a value of the input is, or one is so large that it overflows; "
            "expected numbers whose squares can be summed. Look for it, or scale the input down."
        )
