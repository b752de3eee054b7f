"""Least squares in float32 by two textbook methods, written so that every machine rounds alike.

A linear algebra library picks its order of summation by processor, and with it the rounding errors. Here every
sum runs row by row, so the errors themselves can be printed in a book.
"""

from __future__ import annotations

import numpy as np

__all__ = ["gram_schmidt", "normal_equations"]


def normal_equations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""Solve :math:`A^\top A\,w = A^\top b` by Cholesky factorization, in the dtype of `a`.

    Where rounding makes :math:`A^\top A` indefinite and the factorization fails, the result is NaN.

    Parameters
    ----------
    a : numpy.ndarray, shape (N, C)
        The matrix, N >= C.
    b : numpy.ndarray, shape (N,)
        The right-hand side, same dtype.

    Returns
    -------
    numpy.ndarray, shape (C,)

    Examples
    --------
    >>> print(normal_equations(np.array([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), np.array([2.0, 2.0, 9.0])))
    [1.  0.5]
    """
    gram, w = (a[:, :, None] * a[:, None, :]).sum(axis=0), (a * b[:, None]).sum(axis=0)
    lower, count = np.zeros_like(gram), len(w)
    for k in range(count):
        if not gram[k, k] > 0:
            return np.full_like(w, np.nan)
        lower[k:, k] = gram[k:, k] / np.sqrt(gram[k, k])
        gram[k + 1 :, k + 1 :] -= lower[k + 1 :, k, None] * lower[k + 1 :, k]
    for k in range(count):  # lower @ v = A.T @ b
        w[k] /= lower[k, k]
        w[k + 1 :] -= lower[k + 1 :, k] * w[k]
    return _back_substitute(lower.T, w)


def gram_schmidt(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""Solve :math:`\min_w \lVert Aw - b\rVert` by modified Gram-Schmidt, in the dtype of `a`.

    The columns of `a` are made orthogonal one by one, and `b` with them; :math:`A^\top A` is never formed.
    Björck 1967 shows it as good as the best orthogonal method.

    Parameters
    ----------
    a : numpy.ndarray, shape (N, C)
        The matrix, N >= C.
    b : numpy.ndarray, shape (N,)
        The right-hand side, same dtype.

    Returns
    -------
    numpy.ndarray, shape (C,)

    Examples
    --------
    >>> print(gram_schmidt(np.array([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), np.array([2.0, 2.0, 9.0])))
    [1.  0.5]
    """
    columns, count = np.column_stack([a, b]), a.shape[1]
    r = np.zeros((count, count + 1), dtype=a.dtype)
    for k in range(count):
        products = (columns[:, k, None] * columns[:, k:]).sum(axis=0)
        r[k, k:] = products / np.sqrt(products[0])
        columns[:, k + 1 :] -= columns[:, k, None] / r[k, k] * r[k, k + 1 :]
    return _back_substitute(r[:, :count], r[:, count].copy())


def _back_substitute(upper: np.ndarray, w: np.ndarray) -> np.ndarray:
    for k in reversed(range(len(w))):
        w[k] /= upper[k, k]
        w[:k] -= upper[:k, k] * w[k]
    return w
