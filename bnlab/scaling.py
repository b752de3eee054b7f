"""Put features on one scale: min-max, standardization and whitening, each fitted once, applied anywhere, inverted.

Every function takes a table `x` of shape (N, C), one row per example and one column per feature. Statistics
are computed in float64 whatever the dtype of `x`, by centering first, and results return in the dtype of `x`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from bnlab._validate import finite, float_array, number, read_only

__all__ = [
    "MinMax",
    "Standardization",
    "Whitening",
    "condition_number",
    "distance_shares",
    "min_max",
    "standardize",
    "whiten",
]

Table = Float[np.ndarray, "N C"]
Vector = Float[np.ndarray, "C"]
Matrix = Float[np.ndarray, "C C"]


@dataclass(frozen=True, eq=False)
class MinMax:
    """A fitted min-max scaling; make one with :func:`min_max`.

    Attributes
    ----------
    low, high : float
        Where the smallest and the largest fitted value of each feature go.
    data_min, data_max : numpy.ndarray, shape (C,)
        Smallest and largest fitted value of each feature, in the feature's own unit.
    values : numpy.ndarray, shape (N, C)
        The fitted table, scaled.
    """

    low: float
    high: float
    data_min: Vector
    data_max: Vector
    values: Table = field(repr=False)

    def apply(self, x: Table) -> Table:
        """Scale new rows with the fitted range; values outside it land outside [low, high].

        Parameters
        ----------
        x : numpy.ndarray, shape (N, C)
            Any number of rows, in the features' own units.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            Scaled, in the dtype of `x`.

        Raises
        ------
        TypeError
            If `x` is not a NumPy array of floats.
        ValueError
            If `x` holds NaN or Inf, or has other columns than the fitted table.
        """
        share = (_columns("x", x, self.data_min) - self.data_min) / (self.data_max - self.data_min)
        return (self.low * (1 - share) + self.high * share).astype(x.dtype)

    def invert(self, z: Table) -> Table:
        """Return scaled rows to the features' own units.

        Parameters
        ----------
        z : numpy.ndarray, shape (N, C)
            Any number of scaled rows.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            In the features' own units and the dtype of `z`.

        Raises
        ------
        TypeError
            If `z` is not a NumPy array of floats.
        ValueError
            If `z` holds NaN or Inf, or has other columns than the fitted table.
        """
        share = (_columns("z", z, self.data_min) - self.low) / (self.high - self.low)
        return (self.data_min + share * (self.data_max - self.data_min)).astype(z.dtype)


@dataclass(frozen=True, eq=False)
class Standardization:
    """A fitted standardization; make one with :func:`standardize`.

    Attributes
    ----------
    mean, std : numpy.ndarray, shape (C,)
        Mean and population standard deviation (divide by N) of each feature, in the feature's own unit.
    values : numpy.ndarray, shape (N, C)
        The fitted table, standardized.
    """

    mean: Vector
    std: Vector
    values: Table = field(repr=False)

    def apply(self, x: Table) -> Table:
        """Standardize new rows with the fitted mean and standard deviation.

        Parameters
        ----------
        x : numpy.ndarray, shape (N, C)
            Any number of rows, in the features' own units.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            Standardized, in the dtype of `x`.

        Raises
        ------
        TypeError
            If `x` is not a NumPy array of floats.
        ValueError
            If `x` holds NaN or Inf, or has other columns than the fitted table.
        """
        return ((_columns("x", x, self.mean) - self.mean) / self.std).astype(x.dtype)

    def invert(self, z: Table) -> Table:
        """Return standardized rows to the features' own units.

        Parameters
        ----------
        z : numpy.ndarray, shape (N, C)
            Any number of standardized rows.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            In the features' own units and the dtype of `z`.

        Raises
        ------
        TypeError
            If `z` is not a NumPy array of floats.
        ValueError
            If `z` holds NaN or Inf, or has other columns than the fitted table.
        """
        return (self.mean + _columns("z", z, self.mean) * self.std).astype(z.dtype)


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted whitening; make one with :func:`whiten`.

    Attributes
    ----------
    method : str
        "zca" or "pca".
    eps : float
        What was added to every variance before the inverse square root.
    mean : numpy.ndarray, shape (C,)
        Mean of each feature.
    variances : numpy.ndarray, shape (C,)
        Variance along each principal direction, largest first.
    matrix, inverse : numpy.ndarray, shape (C, C)
        The whitening matrix and its inverse: ``z = (x - mean) @ matrix``.
    values : numpy.ndarray, shape (N, C)
        The fitted table, whitened.
    """

    method: str
    eps: float
    mean: Vector
    variances: Vector
    matrix: Matrix = field(repr=False)
    inverse: Matrix = field(repr=False)
    values: Table = field(repr=False)

    def apply(self, x: Table) -> Table:
        """Whiten new rows with the fitted mean and matrix.

        Parameters
        ----------
        x : numpy.ndarray, shape (N, C)
            Any number of rows, in the features' own units.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            Whitened, in the dtype of `x`.

        Raises
        ------
        TypeError
            If `x` is not a NumPy array of floats.
        ValueError
            If `x` holds NaN or Inf, or has other columns than the fitted table.
        """
        return ((_columns("x", x, self.mean) - self.mean) @ self.matrix).astype(x.dtype)

    def invert(self, z: Table) -> Table:
        """Return whitened rows to the features' own units.

        Parameters
        ----------
        z : numpy.ndarray, shape (N, C)
            Any number of whitened rows.

        Returns
        -------
        numpy.ndarray, shape (N, C)
            In the features' own units and the dtype of `z`.

        Raises
        ------
        TypeError
            If `z` is not a NumPy array of floats.
        ValueError
            If `z` holds NaN or Inf, or has other columns than the fitted table.
        """
        return (_columns("z", z, self.mean) @ self.inverse + self.mean).astype(z.dtype)


def min_max(x: Table, *, low: float = 0.0, high: float = 1.0) -> MinMax:
    r"""Move each feature linearly so that its smallest value becomes `low` and its largest `high`.

    .. math:: z_{ij} = l + (h - l)\,\frac{x_{ij} - \min_i x_{ij}}{\max_i x_{ij} - \min_i x_{ij}}

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C)
        The table to fit, at least two rows, no constant column.
    low, high : float
        Ends of the target interval, ``low < high``; usually 0 and 1 or -1 and 1.

    Returns
    -------
    MinMax
        The fitted transform: ``.values``, ``.apply(x)``, ``.invert(z)``.

    Raises
    ------
    TypeError
        If `x` is not a NumPy array of floats.
    ValueError
        If `x` has the wrong rank, too few rows, NaN or Inf or a constant column, or ``low >= high``.

    Notes
    -----
    Min-max scaling as in scikit-learn's ``MinMaxScaler``.

    Examples
    --------
    >>> scaled = min_max(np.array([[0.0, 500.0], [1.0, 100_000.0], [1.0, 50_250.0]]), low=-1, high=1)
    >>> print(scaled.values)
    [[-1. -1.]
     [ 1.  1.]
     [ 1.  0.]]
    >>> print(scaled.invert(scaled.values)[2])
    [1.000e+00 5.025e+04]
    """
    if not number("low", low) < number("high", high):
        raise ValueError(
            f"low={low} and high={high}; expected finite numbers with low < high. "
            f"The usual choices are low=0, high=1 and low=-1, high=1."
        )
    rows = _table(x)
    _varying(rows)
    ends = read_only(rows.min(axis=0)), read_only(rows.max(axis=0))
    fitted = MinMax(float(low), float(high), *ends, values=rows)
    return replace(fitted, values=read_only(fitted.apply(x)))


def standardize(x: Table) -> Standardization:
    r"""Shift and scale each feature to zero mean and unit variance.

    .. math:: z_{ij} = \frac{x_{ij} - \mu_j}{\sigma_j}, \qquad
              \mu_j = \frac1N\sum_i x_{ij}, \quad \sigma_j^2 = \frac1N\sum_i (x_{ij} - \mu_j)^2

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C)
        The table to fit, at least two rows, no constant column.

    Returns
    -------
    Standardization
        The fitted transform: ``.values``, ``.apply(x)``, ``.invert(z)``.

    Raises
    ------
    TypeError
        If `x` is not a NumPy array of floats.
    ValueError
        If `x` has the wrong rank, too few rows, NaN or Inf, or a constant column.

    Notes
    -----
    The population variance (divide by N), as in scikit-learn's ``StandardScaler`` and in Batch Normalization;
    LeCun et al. 1998, "Efficient BackProp", section 4.3.

    Examples
    --------
    >>> scaled = standardize(np.array([[0.0, 500.0], [1.0, 100_000.0], [1.0, 50_250.0]]))
    >>> print(scaled.values.round(2))
    [[-1.41 -1.22]
     [ 0.71  1.22]
     [ 0.71  0.  ]]
    """
    rows = _table(x)
    fitted = Standardization(read_only(_mean(rows)), read_only(_std(rows)), values=rows)
    return replace(fitted, values=read_only(fitted.apply(x)))


def whiten(x: Table, *, method: str = "zca", eps: float = 0.0) -> Whitening:
    r"""Make the features uncorrelated as well as of zero mean and unit variance.

    With the covariance :math:`\Sigma = \frac1N\sum_i (x_i-\mu)(x_i-\mu)^\top = V \Lambda V^\top`,

    .. math:: z_i = (\Lambda + \epsilon I)^{-1/2}\, V^\top (x_i - \mu) \quad\text{(PCA)}, \qquad
              z_i = V (\Lambda + \epsilon I)^{-1/2}\, V^\top (x_i - \mu) \quad\text{(ZCA)}

    PCA whitening turns the table to its principal directions, largest variance first; ZCA turns it back, and of
    all whitenings it is the one that stays closest to the centered data.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C)
        The table to fit. With ``eps=0`` it needs N > C, no constant column and no column that the others determine.
    method : {"zca", "pca"}
        Which whitening.
    eps : float
        Added to every variance before the inverse square root; in the squared unit of `x`.

    Returns
    -------
    Whitening
        The fitted transform: ``.values``, ``.apply(x)``, ``.invert(z)``.

    Raises
    ------
    TypeError
        If `x` is not a NumPy array of floats.
    ValueError
        If `x` has the wrong rank, too few rows, NaN or Inf or a singular covariance (at ``eps=0``), if `eps` is
        negative, or if `method` is unknown.

    Notes
    -----
    Bell & Sejnowski 1997 name ZCA; Kessy, Lewin & Strimmer 2018 prove which whitening is optimal in what sense.

    Examples
    --------
    >>> scaled = whiten(np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 7.0], [4.0, 8.0]]))
    >>> np.allclose(scaled.values.T @ scaled.values / 4, np.eye(2))  # the covariance
    True
    """
    if method not in ("zca", "pca"):
        raise ValueError(f'method is {method!r}; expected "zca" or "pca".')
    eps = number("eps", eps, low=0)
    rows = _table(x)
    if eps == 0:
        _full_rank(rows, float(np.finfo(x.dtype).eps))
    mean = _mean(rows)
    v, variances = _principal_directions(rows - mean)
    if not np.isfinite(variances).all() or (variances + eps == 0).any():
        raise ValueError(
            "the variances of x overflow float64, or round to 0; expected values that can be squared. "
            "Express x in another unit."
        )
    scale = np.sqrt(variances + eps)
    turn_back = v.T if method == "zca" else np.eye(len(mean))
    matrix, inverse = (v / scale) @ turn_back, turn_back.T @ (scale[:, None] * v.T)
    statistics = (read_only(a) for a in (mean, variances, matrix, inverse))
    fitted = Whitening(method, eps, *statistics, values=rows)
    return replace(fitted, values=read_only(fitted.apply(x)))


def condition_number(a: Table) -> float:
    r"""Return the 2-norm condition number: the largest singular value over the smallest.

    .. math:: \kappa(A) = \frac{\sigma_{\max}(A)}{\sigma_{\min}(A)}

    Parameters
    ----------
    a : numpy.ndarray, shape (N, C)
        Any matrix of floats.

    Returns
    -------
    float
        At least 1; infinite if a singular value is exactly zero.

    Raises
    ------
    TypeError
        If `a` is not a NumPy array of floats.
    ValueError
        If `a` is not two-dimensional, is empty, or contains NaN or Inf.

    Notes
    -----
    Computed in float64 whatever the dtype of `a`, so that a float32 matrix is judged and not the arithmetic.
    Golub & Van Loan, "Matrix Computations", section 2.6.

    Examples
    --------
    >>> condition_number(np.diag([100.0, 1.0]))
    100.0
    """
    singular_values = np.linalg.svd(_matrix("a", a), compute_uv=False)
    largest, smallest = singular_values.max(), singular_values.min()
    return float(largest / smallest) if smallest > 0 else float("inf")


def distance_shares(x: Table) -> Vector:
    r"""Return the share of the squared Euclidean distance between rows that each feature accounts for.

    Summed over all ordered pairs, feature j contributes twice N squared times its variance, so its share is

    .. math:: s_j = \frac{\sum_{i,k} (x_{ij} - x_{kj})^2}{\sum_{i,k} \lVert x_i - x_k\rVert^2}
                  = \frac{\sigma_j^2}{\sum_l \sigma_l^2}

    Parameters
    ----------
    x : numpy.ndarray, shape (N, C)
        The table, at least two rows.

    Returns
    -------
    numpy.ndarray, shape (C,)
        Shares between 0 and 1 that sum to 1; a constant feature has share 0.

    Raises
    ------
    TypeError
        If `x` is not a NumPy array of floats.
    ValueError
        If `x` has the wrong rank, too few rows, NaN or Inf, or if all rows are equal.

    Examples
    --------
    >>> print(distance_shares(np.array([[0.0, 10.0], [1.0, 20.0]])).round(4))
    [0.0099 0.9901]
    """
    rows = _table(x)
    spread = np.ptp(rows, axis=0).max()
    if spread == 0:
        raise ValueError(
            f"all {len(x)} rows of x are equal, so every distance is zero and has no shares; "
            f"expected at least two different rows."
        )
    variance = np.var((rows - _mean(rows)) / spread, axis=0)  # dividing first avoids overflow
    return (variance / variance.sum()).astype(x.dtype)


def _matrix(name: str, value: object) -> Table:
    """Return a matrix in float64, if it is one of finite floats and not empty, else raise."""
    array = float_array(name, value)
    if array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected two dimensions, (rows, columns). "
            f"Reshape one feature to a column with {name}.reshape(-1, 1)."
        )
    if array.size == 0:
        raise ValueError(
            f"{name} is empty, shape {array.shape}; expected at least one row and one column."
        )
    finite(name, array)
    return array.astype(np.float64)


def _table(x: object) -> Table:
    """Return the table to fit in float64, if it has two rows or more and sums that float64 can hold."""
    rows = _matrix("x", x)
    if len(rows) < 2:
        raise ValueError(
            f"x has one row, shape {rows.shape}; expected at least two, because one row has no spread. "
            f"Fit on the whole training set, then use .apply on single rows."
        )
    with np.errstate(over="ignore"):
        overflows = np.isinf(np.ptp(rows, axis=0) * len(rows))
    if overflows.any():
        raise ValueError(
            f"columns {np.flatnonzero(overflows).tolist()} of x span so much that sums overflow; "
            f"expected a range that float64 can sum. Express them in a larger unit."
        )
    return rows


def _columns(name: str, value: object, fitted: Vector) -> Table:
    """Return rows for a fitted transform in float64, if their columns are as many as were fitted."""
    array = float_array(name, value)
    if array.ndim != 2 or array.shape[1] != len(fitted):
        raise ValueError(
            f"{name} has shape {array.shape}; expected (rows, {len(fitted)}), the columns this transform was "
            f"fitted on. Write one row as {name}.reshape(1, -1)."
        )
    finite(name, array)
    return array.astype(np.float64)


def _varying(rows: Table) -> None:
    """Refuse constant columns, which have no scale to divide by."""
    constant = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0)).tolist()
    if constant:
        raise ValueError(
            f"columns {constant} of x are constant; expected every feature to vary, because a constant has no "
            f"scale to divide by. Drop them: np.delete(x, {constant}, axis=1)."
        )


def _full_rank(rows: Table, eps: float) -> None:
    """Refuse a singular covariance, judged on standardized columns, so that no choice of units matters."""
    n, c = rows.shape
    singular_values = np.linalg.svd((rows - _mean(rows)) / _std(rows), compute_uv=False)
    too_few = n <= c  # the smallest singular value is 0 then, but rounding may make it positive
    if too_few or singular_values[-1] <= singular_values[0] * n * eps:
        reason = f"{n} rows for {c} columns" if too_few else "some columns determine others"
        raise ValueError(
            f"the covariance of x is singular ({reason}), and eps=0 would divide by zero; expected more rows "
            f"than columns and no redundant column. Set eps, for example eps=1e-5, or drop columns."
        )


def _mean(rows: Table) -> Vector:
    """Mean of each column, from differences to the first row, so that a large mean costs no digits."""
    return rows[0] + (rows - rows[0]).mean(axis=0)


def _std(rows: Table) -> Vector:
    """Population standard deviation of each column; scaled first, so that squares neither over- nor underflow."""
    _varying(rows)
    spread = np.ptp(rows, axis=0)
    return spread * np.std((rows - _mean(rows)) / spread, axis=0)


def _principal_directions(centered: Table) -> tuple[Matrix, Vector]:
    """Return the principal directions of centered rows, the columns of V, and the variances along them.

    The largest variance comes first. With centered = Q R, the covariance is R.T @ R / N, so the singular
    values and directions of R, which is at most C x C, are those of the rows.
    """
    r = np.linalg.qr(centered, mode="r")
    _, singular_values, v_t = np.linalg.svd(r, full_matrices=True)
    variances = np.zeros(centered.shape[1])
    with np.errstate(over="ignore"):
        variances[: len(singular_values)] = singular_values**2 / len(centered)
    # A direction may point either way: choose the one in which its largest entry is positive.
    largest = np.abs(v_t).argmax(axis=1)
    return (v_t * np.sign(v_t[np.arange(len(v_t)), largest])[:, None]).T, variances
