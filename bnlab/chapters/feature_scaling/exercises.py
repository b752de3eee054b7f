"""Exercise checkers of Chapter 1: scale, undo, fit on the training rows, whiten, choose a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers, pair

__all__ = [
    "best_step",
    "scale_like_training",
    "scale_to_interval",
    "standardize_columns",
    "undo_standardize",
    "zca_whiten",
]

TABLE = np.array(
    [
        [0.0, 500.0, -3.0],
        [1.0, 9000.0, 1.0],
        [1.0, 30_000.0, 2.0],
        [0.0, 100_000.0, 2.5],
        [1.0, 7_000.0, 9.0],
    ]
)
NEW = np.array([[1.0, 2000.0, 0.0], [0.0, 50_000.0, 4.0]])


def standardize_columns(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(x)``: each column of x with mean 0 and population standard deviation 1.

    Examples
    --------
    >>> standardize_columns(lambda x: x / x.std(axis=0))
    Not yet: you divided by the standard deviation but did not subtract the mean.
    """
    x, mean, std = TABLE, TABLE.mean(axis=0), TABLE.std(axis=0)
    return judge(
        numbers(function, x, shape=x.shape),
        (x - mean) / std,
        correct("each column has mean 0 and standard deviation 1."),
        [
            (x / std, "you divided by the standard deviation but did not subtract the mean."),
            (x - mean, "you subtracted the mean but did not divide by the standard deviation."),
            ((x - mean) / x.std(axis=0, ddof=1), "you divided by the sample std (ddof=1). Use ddof=0."),
            ((x - mean) / std**2, "you divided by the variance. Take its square root."),
            (x - mean / std, "x - mean / std divides first. Put parentheses around x - mean."),
            ((x - x.mean()) / x.std(),
             "you used one mean and one spread for the whole table. Use axis=0."),
            (_by_rows(x),
             "you standardized each row. Rows are examples; columns are features: use axis=0."),
        ],
    )  # fmt: skip


def scale_to_interval(function: Callable[[np.ndarray, float, float], np.ndarray]) -> Verdict:
    """Check ``function(x, low, high)``: each column of x moved linearly onto [low, high]."""
    x, low, high = TABLE, -1.0, 3.0
    share = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    return judge(
        numbers(function, x, low, high, shape=x.shape),
        low + (high - low) * share,
        correct("each column runs from low to high, in the old order."),
        [
            (share, "the columns go from 0 to 1. Stretch them by high - low, then shift them by low."),
            (low + high * share, "you stretched by high. The interval is high - low wide."),
            ((high - low) * share,
             "you stretched but did not shift: the smallest value must become low."),
            (2 * share - 1, "that is right for [-1, 1] only. Use the arguments low and high."),
            (high - (high - low) * share,
             "the order is reversed: the smallest value must become low."),
            (low + (high - low) * x / x.max(axis=0),
             "you divided by the maximum. Divide by the range, after subtracting."),
            (low + (high - low) * (x - x.min()) / np.ptp(x),
             "you used one range for the whole table. Use axis=0."),
        ],
    )  # fmt: skip


def undo_standardize(
    function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Verdict:
    """Check ``function(z, mean, std)``: standardized rows back in their own units."""
    mean, std = TABLE.mean(axis=0), TABLE.std(axis=0)
    z = (NEW - mean) / std
    return judge(
        numbers(function, z, mean, std, shape=z.shape),
        NEW,
        correct("the rows are back in their own units."),
        [
            ((z + mean) * std,
             "the order is wrong: the last step, the division, must be undone first."),
            ((z - mean) / std, "that standardizes a second time. Undo it: multiply, then add."),
            (z * std, "you undid the division but not the subtraction."),
            (z + mean, "you undid the subtraction but not the division."),
            (z / std + mean, "dividing is undone by multiplying."),
            (z * std - mean, "subtracting is undone by adding."),
            (z * z.std(axis=0) + z.mean(axis=0),
             "you used the statistics of z. Use the arguments mean and std."),
        ],
    )  # fmt: skip


def scale_like_training(function: Callable[[np.ndarray, np.ndarray], tuple]) -> Verdict:
    """Check ``function(train, test) -> (train_scaled, test_scaled)``: both by the training mean and std."""
    answer = pair(
        function, TABLE, NEW,
        shapes=(TABLE.shape, NEW.shape), names=("train_scaled", "test_scaled"),
    )  # fmt: skip
    if isinstance(answer, Verdict):
        return answer
    both = np.concatenate([TABLE, NEW])

    def by(fitted: np.ndarray, ddof: int = 0) -> np.ndarray:
        return (both - fitted.mean(axis=0)) / fitted.std(axis=0, ddof=ddof)

    right, n = by(TABLE), len(TABLE)
    return judge(
        np.concatenate(answer),
        right,
        correct("both sides are scaled by the training rows' mean and std."),
        [
            (np.concatenate([right[:n], by(NEW)[n:]]),
             "you scaled the test rows by their own mean and std. Use those of training."),
            (np.concatenate([right[:n], NEW]),
             "you did not scale the test rows. They need the same transform."),
            (by(both), "you fitted on all rows: the test rows leaked. Fit on the training rows."),
            (by(NEW), "you fitted on the test rows. Fit on the training rows."),
            (_by_rows(both), "you standardized each row. Use axis=0."),
            (by(TABLE, ddof=1), "you used the sample std (ddof=1). Use ddof=0."),
        ],
    )  # fmt: skip


def zca_whiten(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check ``function(x)``: ZCA whitening, the covariance becomes the identity and axes keep their meaning."""
    x = TABLE / [1.0, 10_000.0, 1.0]
    centered = x - x.mean(axis=0)
    variances, v = np.linalg.eigh(centered.T @ centered / len(x))
    right = centered @ (v / np.sqrt(variances)) @ v.T
    answer = numbers(function, x, shape=x.shape)
    if isinstance(answer, Verdict):
        return answer
    covariance = answer.T @ answer / len(x)
    verdict = judge(
        answer,
        right,
        correct("the covariance is the identity, and each axis is still its feature."),
        [
            (centered / centered.std(axis=0),
             "that standardizes: the features are still correlated. Use the covariance."),
            (centered @ v, "you turned to the principal axes but did not divide by the std along them."),
            (centered @ (v / variances) @ v.T,
             "you divided by the variances. Divide by their square roots."),
            (centered @ (v * np.sqrt(variances)) @ v.T,
             "you multiplied by the root of the covariance. Divide by it."),
            (x @ (v / np.sqrt(variances)) @ v.T,
             "you did not subtract the mean before multiplying."),
            (right * np.sqrt(1 - 1 / len(x)),
             "your covariance divides by N - 1 (np.cov does by default). Divide by N."),
        ],
        f"Its covariance is off the identity by up to {np.abs(covariance - np.eye(3)).max():.3g}.",
    )  # fmt: skip
    if not verdict and np.allclose(answer.mean(axis=0), 0) and np.allclose(covariance, np.eye(3)):
        return not_yet(
            "this is a whitening, but not ZCA: the axes are turned. Turn back with the transposed "
            "eigenvectors."
        )
    return verdict


def best_step(function: Callable[[np.ndarray], float]) -> Verdict:
    """Check ``function(hessian)``: the constant step with the best worst-case rate, 2 / (h_min + h_max)."""
    for eigenvalues in ((4.0, 1.0, 0.5), (0.3, 0.2, 0.1)):
        rotation = np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0]
        hessian = (rotation * eigenvalues) @ rotation.T
        largest, smallest, diagonal = max(eigenvalues), min(eigenvalues), hessian.diagonal()
        verdict = judge(
            numbers(function, hessian, shape=()),
            2 / (smallest + largest),
            correct("the softest and the stiffest direction shrink at the same rate."),
            [
                (1 / largest,
                 "1 / h_max is safe, but its rate is 1 - 1/kappa. A step about twice as long has a better one."),
                (2 / largest,
                 "2 / h_max is where descent stops converging: the stiffest direction swings forever."),
                (1 / (smallest + largest), "that is half the best step."),
                (2 / np.trace(hessian),
                 "the trace adds all eigenvalues. Only the smallest and the largest count."),
                (2 / (diagonal.min() + diagonal.max()),
                 "the diagonal holds no eigenvalues. Use eigvalsh."),
                (2 / (largest - smallest),
                 "the sign is wrong: add the smallest and the largest eigenvalue."),
                (1 / smallest,
                 "1 / h_min is far too long for the stiffest direction: descent diverges."),
            ],
            "Make the two worst factors equal: |1 - step * h_min| = |1 - step * h_max|.",
            given=f"for eigenvalues {eigenvalues}",
        )  # fmt: skip
        if not verdict:
            return verdict
    return verdict


def _by_rows(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
