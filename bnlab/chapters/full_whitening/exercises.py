"""Exercise checkers of Chapter 4: the gradient of whitening, what it cannot see, and its batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers
from bnlab.gradcheck import directional_error

__all__ = [
    "directions_left",
    "divided_difference",
    "smallest_batch",
    "whitened_distance",
    "whitening_gradient",
]


def divided_difference(function: Callable[[float, float], float]) -> Verdict:
    """Check ``function(a, b)``: (f(a) - f(b)) / (a - b) of f(t) = t**-0.5, and f'(a) at a = b.

    Examples
    --------
    >>> divided_difference(lambda a, b: (a**-0.5 - b**-0.5) / (a - b) if a != b else -0.5 * a**-1.5)
    Not yet: at a = 2 and b = 2.0000005 you keep only a few digits. The two roots agree in most \
of their digits, and subtracting them loses those: cancel a - b on paper first.
    """
    for a, b in ((1.0, 4.0), (9.0, 0.25), (2.0, 2.0), (2.0, 2.0000005), (2.0, 2.00000000001)):
        answer = numbers(function, a, b, shape=())
        if isinstance(answer, Verdict):
            return answer
        expected = -1 / (np.sqrt(a * b) * (np.sqrt(a) + np.sqrt(b)))
        given = f"at a = {a:g} and b = {b:.12g} you"
        if np.isclose(answer, expected, rtol=1e-11, atol=0):
            continue
        if np.isclose(answer, -expected):
            return not_yet("the size is right, the sign is not: t**-0.5 falls.")
        if np.isclose(answer, -0.5 * a**-1.5, rtol=1e-12, atol=0) and a != b:
            return not_yet(f"{given} return the derivative at a. It is needed only where a = b.")
        if a == b:
            return not_yet(
                f"{given} return {answer:.6g}; the limit is f'(a) = -1/2 a**-1.5 = {expected:.6g}."
            )
        if a == 2.0:
            return not_yet(
                f"{given} keep only a few digits. The two roots agree in most of their digits, and "
                f"subtracting them loses those: cancel a - b on paper first."
            )
        return not_yet(f"{given} return {answer:.6g}, expected {expected:.6g}.")
    return correct("-1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))) needs no special case at a = b.")


def whitening_gradient(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(x, g)``: from dl/dz to dl/dx, for z the ZCA whitening of x at eps = 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 3)) @ np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.5]])
    g = rng.normal(size=x.shape)
    answer = numbers(function, x, g, shape=x.shape)
    if isinstance(answer, Verdict):
        return answer
    z, w = _whiten(x)
    for wrong, hint in (
        (g @ w, "that holds the mean and the covariance constant: every x also moves both."),
        ((g - g.mean(axis=0)) @ w, "the mean is done. The covariance also depends on every x."),
        (_assembled(z, w, g, lambda a: (a + a.T) / 2),
         "that takes the symmetric part of A with equal weights, which is right only if all "
         "eigenvalues are equal."),
        (_assembled(z, w, g, lambda a: a),
         "that subtracts A itself. Sigma is symmetric, and so its gradient must be: weigh A and "
         "its transpose."),
    ):  # fmt: skip
        if np.allclose(answer, wrong):
            return not_yet(hint)
    if not np.allclose(answer.sum(axis=0), 0, atol=1e-8):
        return not_yet(
            f"your gradient sums to {answer.sum(axis=0).round(3).tolist()} over the rows; expected 0, "
            f"because shifting every row moves no output."
        )
    for where, case in (
        ("", x),
        ("on a batch with equal eigenvalues ", np.concatenate([np.eye(3), -np.eye(3)])),
    ):
        try:
            (error,) = directional_error(
                lambda x: _whiten(x)[0], lambda g, x: (np.asarray(function(x, g), float),), case
            )
        except Exception as failure:  # a mistake of any kind is an answer and not a crash
            return not_yet(f"on a batch of shape {case.shape}: {failure}")
        if not error < 1e-5:
            return not_yet(
                f"{where}finite differences disagree: the relative error is {error:.2g}. Turn z and g "
                f"to the eigenvectors first, weigh A there, and turn back at the end."
            )
    return correct("it agrees with finite differences, also where eigenvalues are equal.")


def directions_left(function: Callable[[int, int], int]) -> Verdict:
    """Check ``function(m, d)``: how many directions of a gradient pass through a full whitening."""
    for m, d in ((9, 5), (5, 4), (60, 10), (7, 1)):
        verdict = judge(
            numbers(function, m, d, shape=()),
            m * d - d - d * (d + 1) // 2,
            correct("m d values, less d for the mean and d (d + 1) / 2 for the covariance."),
            [
                (m * d, "nothing is lost there. Which moves of x leave z as it is?"),
                (m * d - 2 * d, "that is right if each feature is normalized on its own."),
                (m * d - d - d * d, "a covariance has fewer free entries than d * d: it is symmetric."),
                (m * d - d * (d + 1) // 2, "the mean and the variances are both fixed: d more are lost."),
                (d + d * (d + 1) // 2, "those are the directions lost. How many are left?"),
            ],
            given=f"for m = {m} and d = {d}",
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict


def smallest_batch(function: Callable[[int, float], int]) -> Verdict:
    """Check ``function(d, kappa)``: rows so that whitening stretches no direction too much.

    In theory the eigenvalues of the covariance of white data lie between (1 - sqrt(d / m))**2 and
    (1 + sqrt(d / m))**2; their ratio shall be at most kappa.

    Examples
    --------
    >>> smallest_batch(lambda d, kappa: d + 1)
    Not yet: for d = 64 and kappa = 4: d + 1 rows make the covariance invertible, but leave an eigenvalue close to 0.
    """
    rounded = "rows are whole, and the ratio must not exceed kappa. Round up."
    for d, kappa in ((64, 4.0), (100, 1.5), (10, 9.0)):
        q = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
        exact = d / q**2
        expected = int(np.ceil(exact - 1e-9))
        verdict = judge(
            numbers(function, d, kappa, shape=()),
            expected,
            correct("m = d ((sqrt(kappa) + 1) / (sqrt(kappa) - 1))**2, rounded up."),
            [
                (d + 1, "d + 1 rows make the covariance invertible, but leave an eigenvalue close to 0."),
                (np.ceil(d / q), "the square root of d / m is what you solved for; square it."),
                (np.ceil(d * ((kappa + 1) / (kappa - 1)) ** 2),
                 "the edges are squares, so take the square root of kappa."),
                (exact, rounded),
                (expected - 1, rounded),
            ],
            "Solve (1 + q) / (1 - q) = sqrt(kappa) for q = sqrt(d / m).",
            given=f"for d = {d} and kappa = {kappa:g}",
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict


def whitened_distance(function: Callable[[int], float]) -> Verdict:
    """Check ``function(m)``: the distance of any two rows of a whitened batch with m = d + 1."""
    for m in (5, 3, 60):
        verdict = judge(
            numbers(function, m, shape=()),
            np.sqrt(2 * m),
            correct("sqrt(2 m) for every pair: all that told the rows apart is gone."),
            [
                (2 * m, "that is the square of the distance."),
                (np.sqrt(2), "the columns of z have the length sqrt(m), not 1."),
                (np.sqrt(m - 1), "that is the length of each row."),
            ],
            "z z^T is m times the identity, less 1 in every entry: why?",
            given=f"for m = {m}",
        )
        if not verdict:
            return verdict
    return verdict


def _whiten(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = x - x.mean(axis=0)
    values, v = np.linalg.eigh(c.T @ c / len(x))
    w = (v / np.sqrt(values)) @ v.T
    return c @ w, w


def _assembled(z, w, g, weigh) -> np.ndarray:
    g = g - g.mean(axis=0)
    return (g - z @ weigh(z.T @ g / len(z))) @ w
