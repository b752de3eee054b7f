"""Chapter 1: what the units of the features do to distances, to gradient descent and to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bnlab import scaling
from bnlab.chapters.feature_scaling.float32 import gram_schmidt, normal_equations
from bnlab.chapters.feature_scaling.results import (
    DescentPath,
    DescentRates,
    DistanceShares,
    IrrelevantFeatures,
    Leakage,
    NearestNeighbors,
    NeighborAccuracy,
    OutlierEffect,
    RoundingError,
    TableDescent,
    TableOptimizers,
    TableRounding,
    WhiteningSteps,
)
from bnlab.data import Dataset, mixed_scale_table

__all__ = [
    "descend",
    "descent_rates",
    "distance_shares",
    "irrelevant_features",
    "leakage",
    "nearest_neighbors",
    "neighbor_accuracy",
    "outlier_effect",
    "rounding_error",
    "steps_bound",
    "table_descent",
    "table_optimizers",
    "table_rounding",
    "whitening_steps",
]

# Each takes the rows to fit and returns the function that scales rows.
SCALINGS: dict[str, Callable] = {
    "none": lambda x: lambda rows: rows,
    "min-max [0, 1]": lambda x: scaling.min_max(x).apply,
    "min-max [-1, 1]": lambda x: scaling.min_max(x, low=-1, high=1).apply,
    "standardize": lambda x: scaling.standardize(x).apply,
    "whiten": lambda x: scaling.whiten(x).apply,
}


def _scaled(x: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    return [SCALINGS[name](x)(x) for name in names]


# --- distances -----------------------------------------------------------------------------------------------


def distance_shares(
    dataset: Dataset, *, scalings: Sequence[str] = ("none", "min-max [0, 1]", "standardize")
) -> DistanceShares:
    """Measure each feature's share of the squared distances under several scalings.

    Examples
    --------
    >>> result = distance_shares(mixed_scale_table())
    >>> print(result.shares[2])
    [0.5 0.5]
    """
    shares = [scaling.distance_shares(z) for z in _scaled(dataset.x, scalings)]
    return DistanceShares(tuple(scalings), dataset.feature_names, np.array(shares))


def nearest_neighbors(
    dataset: Dataset,
    *,
    query: int | None = None,
    scalings: Sequence[str] = ("none", "min-max [0, 1]", "standardize"),
) -> NearestNeighbors:
    """Find each row's nearest other row under several scalings.

    Rows at the same distance are all nearest. A row counts as changed only if none of its nearest rows without
    scaling is nearest with it. Without a `query`, the figure looks at the row whose nearest row with the last
    scaling is the farthest without.
    """
    x, values = dataset.x, np.array(_scaled(dataset.x, scalings))
    unscaled = _nearest(x)
    if query is None:
        query = int(
            np.where(_nearest(values[-1]), _squared_distances(x, x), 0).max(axis=1).argmax()
        )
    nearest, changed, differs = [], [], []
    for z in values:
        near = _nearest(z)
        other = x[:, 0][:, None] != x[:, 0]
        nearest.append(near[query].argmax())
        changed.append(np.mean(~(near & unscaled).any(axis=1)))
        differs.append(np.mean((near & other).sum(axis=1) / near.sum(axis=1)))
    return NearestNeighbors(
        tuple(scalings),
        dataset.feature_names,
        x,
        values,
        query,
        *map(np.array, (nearest, changed, differs)),
    )


def _nearest(z: np.ndarray) -> np.ndarray:
    """Mark for each row its nearest other rows, (N, N); equal up to rounding is equal."""
    distance = _squared_distances(z, z)
    np.fill_diagonal(distance, np.inf)
    return distance <= distance.min(axis=1, keepdims=True) * (1 + 1e-9) + 1e-18


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a[:, None] - b) ** 2).sum(axis=-1)


def _predict(train: np.ndarray, y: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """Classify test rows by a vote of their k nearest training rows; ties go to the lower row and class."""
    nearest = np.argsort(_squared_distances(test, train), axis=1, kind="stable")[:, :k]
    return np.array([np.bincount(votes).argmax() for votes in y[nearest]])


def neighbor_accuracy(
    dataset: Dataset | None = None,
    *,
    k: int = 5,
    seeds: Sequence[int] = tuple(range(20)),
    scalings: Sequence[str] = ("none", "min-max [0, 1]", "standardize"),
) -> NeighborAccuracy:
    """Classify three rows in ten by their k nearest among the other seven, scaled with training statistics.

    Parameters
    ----------
    dataset : Dataset, optional
        Split anew by every seed. Without one, every seed draws a new mixed-scale table of 200 rows.
    k : int
        Number of neighbors that vote.
    seeds : sequence of int
        Of the split, and of the table if it is drawn.
    scalings : sequence of str
        Keys of ``SCALINGS``.

    Returns
    -------
    NeighborAccuracy
    """
    accuracy = np.empty((len(seeds), len(scalings)))
    for i, seed in enumerate(seeds):
        rows = dataset or mixed_scale_table(seed=seed)
        train, test = rows.split(test=round(0.3 * len(rows)), seed=seed)
        for j, name in enumerate(scalings):
            apply = SCALINGS[name](train.x)
            accuracy[i, j] = np.mean(_predict(apply(train.x), train.y, apply(test.x), k) == test.y)
    return NeighborAccuracy(rows.name, k, tuple(scalings), tuple(seeds), dataset is None, accuracy)


def irrelevant_features(
    *,
    coins: Sequence[int] = (0, 1, 3, 10, 30),
    threshold: float = 15_000.0,
    seeds: Sequence[int] = tuple(range(20)),
    scalings: Sequence[str] = ("none", "min-max [0, 1]", "standardize"),
) -> IrrelevantFeatures:
    """Ask whether a car is worth more than `threshold`, with columns of coin flips beside it.

    Every seed draws a new mixed-scale table of 200 rows and its coins. Then as `neighbor_accuracy`.
    `has_kids` is independent of the car too, so that even without coins one feature is irrelevant.
    """
    accuracy = np.empty((len(seeds), len(coins), len(scalings)))
    for i, seed in enumerate(seeds):
        table = mixed_scale_table(seed=seed)
        flips = np.random.default_rng(seed).integers(0, 2, size=(len(table), max(coins)))
        dear = (table.x[:, 1] > threshold).astype(int)
        for j, count in enumerate(coins):
            names = (*table.feature_names, *(f"coin {k}" for k in range(count)))
            x = np.column_stack([table.x, flips[:, :count]])
            wide = replace(table, x=x, y=dear, feature_names=names)
            accuracy[i, j] = neighbor_accuracy(wide, seeds=(seed,), scalings=scalings).accuracy[0]
    return IrrelevantFeatures(tuple(coins), tuple(scalings), tuple(seeds), accuracy)


def leakage(
    dataset: Dataset,
    *,
    train_rows: int = 40,
    k: int = 5,
    seeds: Sequence[int] = tuple(range(20)),
    scalings: Sequence[str] = ("min-max [0, 1]", "standardize", "whiten"),
) -> Leakage:
    """Fit the scaling on the training rows (right), on all rows (leak) or on each side by itself (wrong)."""
    accuracy = np.empty((len(seeds), len(scalings), 3))
    for i, seed in enumerate(seeds):
        train, test = dataset.split(test=len(dataset) - train_rows, seed=seed)
        for j, name in enumerate(scalings):
            on_train, on_all, on_test = (SCALINGS[name](part.x) for part in (train, dataset, test))
            for column, (left, right) in enumerate(
                [(on_train, on_train), (on_all, on_all), (on_train, on_test)]
            ):
                predicted = _predict(left(train.x), train.y, right(test.x), k)
                accuracy[i, j, column] = np.mean(predicted == test.y)
    fitted_on = ("training rows", "all rows", "each side by itself")
    return Leakage(dataset.name, k, train_rows, tuple(scalings), fitted_on, tuple(seeds), accuracy)


def outlier_effect(
    dataset: Dataset, *, column: int = 1, typo: float = 10_000_000.0
) -> OutlierEffect:
    """Scale one feature without and with one mistyped value among the rows that are fitted."""
    x = dataset.x[:, [column]]
    spoiled = np.append(x, [[typo]], axis=0)
    fits = {
        "min-max [0, 1]": SCALINGS["min-max [0, 1]"],
        "standardize": SCALINGS["standardize"],
        "median and quartiles": _quartiles,
    }
    columns = [[fit(rows)(x)[:, 0] for fit in fits.values()] for rows in (x, spoiled)]
    return OutlierEffect(tuple(fits), float(typo), *map(np.array, columns))


def _quartiles(x: np.ndarray) -> Callable:
    """Zero is the median and one unit the distance between the quartiles."""
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    return lambda rows: (rows - median) / (high - low)


# --- gradient descent ----------------------------------------------------------------------------------------


def descend(eigenvalues: np.ndarray, start: np.ndarray, *, step: float, steps: int) -> DescentPath:
    r"""Run gradient descent on :math:`\ell(w) = \frac12 \sum_i h_i w_i^2`.

    Examples
    --------
    >>> print(descend(np.array([1.0, 0.5]), np.array([1.0, 1.0]), step=1.0, steps=2).path)
    [[1.   1.  ]
     [0.   0.5 ]
     [0.   0.25]]
    """
    path = [np.asarray(start, dtype=float)]
    for _ in range(steps):
        path.append(path[-1] - step * eigenvalues * path[-1])
    return DescentPath(np.asarray(eigenvalues), float(step), np.array(path))


def steps_bound(condition: float, *, tolerance: float, safe: bool = False) -> int:
    r"""Return how many steps suffice to multiply the distance to the minimum by `tolerance`.

    The best step :math:`2/(h_{\min}+h_{\max})` shrinks the distance by :math:`\rho = (\kappa-1)/(\kappa+1)` or
    better at every step, the step :math:`1/h_{\max}` (``safe=True``) by :math:`\rho = 1 - 1/\kappa`, so
    :math:`\lceil \log(\text{tolerance}) / \log \rho \rceil` steps suffice.

    Examples
    --------
    >>> steps_bound(1.0, tolerance=1e-6), steps_bound(100.0, tolerance=1e-6)
    (1, 691)
    """
    shrink = 2 / (condition + 1) if not safe else 1 / condition  # rho = 1 - shrink
    if shrink > 1 - 1e-9:  # rho is 0, or would be without rounding
        return 1
    return int(np.ceil(np.log(tolerance) / np.log1p(-shrink)))


def descent_rates(
    *,
    condition: Sequence[float] = (1, 3, 10, 30, 100, 300, 1000, 3000),
    dimension: int = 10,
    tolerance: float = 1e-6,
    seeds: Sequence[int] = tuple(range(10)),
) -> DescentRates:
    """Count steps to the tolerance from random starts on quadratics of growing condition number.

    The eigenvalues are spaced evenly on a logarithmic axis from 1 / condition to 1.
    """
    starts = np.array([np.random.default_rng(seed).standard_normal(dimension) for seed in seeds])
    counts = np.empty((2, len(seeds), len(condition)), dtype=int)
    for j, kappa in enumerate(condition):
        eigenvalues = np.geomspace(1 / kappa, 1, dimension)
        for i, step in enumerate((2 / (1 + 1 / kappa), 1.0)):
            counts[i, :, j] = _steps(eigenvalues, starts, step, tolerance)
    bounds = [
        [steps_bound(kappa, tolerance=tolerance, safe=safe) for kappa in condition]
        for safe in (False, True)
    ]
    return DescentRates(
        np.array(condition, dtype=float), tolerance, tuple(seeds), *counts, *map(np.array, bounds)
    )


def _steps(
    eigenvalues: np.ndarray, starts: np.ndarray, step: float, tolerance: float
) -> np.ndarray:
    """Run all starts at once until each is within the tolerance; rounding gets one part in 10^9."""
    w, goal = starts, (tolerance * (1 + 1e-9)) ** 2 * (starts**2).sum(axis=1)
    counts = np.zeros(len(starts), dtype=int)
    while (running := (w**2).sum(axis=1) > goal).any():
        w = w - step * eigenvalues * w
        counts += running
    return counts


def table_descent(
    dataset: Dataset,
    *,
    label: int = 0,
    tolerance: float = 1e-3,
    budget: int = 20_000,
    scalings: Sequence[str] = tuple(SCALINGS),
) -> TableDescent:
    r"""Fit "is it class `label`?" by least squares with gradient descent, from zero, best step for each scaling.

    The loss is :math:`\frac{1}{2N}\lVert Aw - t\rVert^2` with :math:`A` = a column of ones and the scaled features,
    its Hessian :math:`A^\top A / N`, its excess what lies above the minimum. Each step multiplies the excess by at
    most :math:`\rho^2`.
    """
    at = np.unique(np.geomspace(1, budget + 1, 200).astype(int)) - 1
    condition, steps, bound, excess = [], [], [], []
    for z in _scaled(dataset.x, scalings):
        hessian, best, (smallest, largest) = _bowl(z, dataset.y == label)
        condition.append(largest / smallest)
        losses = _excess(hessian, -best, 2 / (largest + smallest), budget)
        reached = np.flatnonzero(losses <= tolerance)
        steps.append(reached[0] if len(reached) else -1)
        bound.append(steps_bound(condition[-1], tolerance=np.sqrt(tolerance)))
        excess.append(losses[at])
    return TableDescent(
        dataset.name, tuple(scalings), np.array(condition), tolerance, budget,
        np.array(steps), np.array(bound), at, np.array(excess),
    )  # fmt: skip


def table_optimizers(
    dataset: Dataset,
    *,
    label: int = 0,
    tolerance: float = 1e-3,
    budget: int = 20_000,
    rates: Sequence[float] = tuple(10 ** (-k / 2) for k in range(9)),
    scalings: Sequence[str] = tuple(SCALINGS),
) -> TableOptimizers:
    r"""Give the problem of `table_descent` to momentum and to Adam.

    Momentum (Polyak 1964) gets the best step :math:`4 / (\sqrt{h_{\max}} + \sqrt{h_{\min}})^2` and the best memory
    :math:`((\sqrt\kappa - 1) / (\sqrt\kappa + 1))^2` of each bowl, Adam (Kingma & Ba 2015) its usual constants and
    whichever of the `rates` is first at the tolerance.
    """
    steps = np.empty((2, len(scalings)), dtype=int)
    for j, z in enumerate(_scaled(dataset.x, scalings)):
        hessian, best, (smallest, largest) = _bowl(z, dataset.y == label)
        low, high = np.sqrt([smallest, largest])
        momentum = _momentum(4 / (low + high) ** 2, ((high - low) / (high + low)) ** 2)
        for i, (step, runs) in enumerate(((momentum, 1), (_adam(rates), len(rates)))):
            steps[i, j] = _first_at(tolerance, hessian, -best, step, runs=runs, budget=budget)
    return TableOptimizers(
        dataset.name, ("momentum", "Adam"), tuple(scalings), tolerance, budget, tuple(rates), steps
    )


def _first_at(
    tolerance: float,
    hessian: np.ndarray,
    error: np.ndarray,
    step: Callable,
    *,
    runs: int,
    budget: int,
) -> int:
    """Return after how many steps the first of several runs is at the tolerance, -1 if none is."""
    errors = np.tile(error, (runs, 1))
    goal = tolerance * (error @ hessian @ error)
    for t in range(1, budget + 1):
        errors = errors - step(errors @ hessian, t)
        if (((errors @ hessian) * errors).sum(axis=1) <= goal).any():
            return t
    return -1


def _momentum(rate: float, memory: float) -> Callable:
    velocity = 0.0

    def step(gradient: np.ndarray, t: int) -> np.ndarray:
        nonlocal velocity
        velocity = memory * velocity + rate * gradient
        return velocity

    return step


def _adam(rates: Sequence[float], beta1: float = 0.9, beta2: float = 0.999) -> Callable:
    first, second, rate = 0.0, 0.0, np.array(rates)[:, None]

    def step(gradient: np.ndarray, t: int) -> np.ndarray:
        nonlocal first, second
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        return rate * first / (1 - beta1**t) / (np.sqrt(second / (1 - beta2**t)) + 1e-8)

    return step


def _bowl(z: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return the Hessian of least squares, its minimum, and its smallest and largest eigenvalue."""
    a = _with_ones(z)
    hessian, best = a.T @ a / len(a), np.linalg.lstsq(a, target.astype(float), rcond=None)[0]
    largest = np.linalg.norm(hessian, 2)
    # Through the singular values of a: those of the Hessian would lose the smallest to rounding.
    return hessian, best, (largest / scaling.condition_number(a) ** 2, largest)


def _excess(hessian: np.ndarray, error: np.ndarray, step: float, budget: int) -> np.ndarray:
    """Excess loss over the first after 0, 1, ..., budget steps; `error` is w minus the minimum."""
    losses = np.empty(budget + 1)
    for t in range(budget + 1):
        gradient = hessian @ error
        losses[t] = error @ gradient / 2
        error = error - step * gradient
    return losses / losses[0]


def _with_ones(z: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(z)), z])


# --- rounding ------------------------------------------------------------------------------------------------


def rounding_error(
    *,
    condition: Sequence[float] = tuple(10 ** (i / 2) for i in range(9)),
    shape: tuple[int, int] = (200, 5),
    seeds: Sequence[int] = tuple(range(10)),
) -> RoundingError:
    """Solve least squares in float32 by two methods and compare with float64.

    The matrices are random with evenly spaced singular values (on a logarithmic axis) from 1 / condition to 1.
    The float64 solution is that of the *float32* numbers, so that the error is of the arithmetic alone.
    """
    errors = np.empty((2, len(seeds), len(condition)))
    n, c = shape
    for i, seed in enumerate(seeds):
        for j, kappa in enumerate(condition):
            rng = np.random.default_rng(seed)
            left, _ = np.linalg.qr(rng.standard_normal((n, c)))
            right, _ = np.linalg.qr(rng.standard_normal((c, c)))
            a = ((left * np.geomspace(1, 1 / kappa, c)) @ right.T).astype(np.float32)
            b = (a @ rng.standard_normal(c)).astype(np.float32)
            exact = _solve64(a, b)
            for m, solve in enumerate((normal_equations, gram_schmidt)):
                errors[m, i, j] = np.linalg.norm(solve(a, b) - exact) / np.linalg.norm(exact)
    return RoundingError(
        np.array(condition), tuple(seeds), float(np.finfo(np.float32).eps / 2), *errors
    )


def table_rounding(dataset: Dataset, *, label: int = 0) -> TableRounding:
    """Fit "is it class `label`?" in float32 on a real table prepared in several ways.

    The error is that of the fitted values, relative to their size, because weights have units and fitted values
    have none. "Scaled" divides each column by the power of two nearest to its standard deviation, which rounds
    nothing.
    """
    x, spread = dataset.x, dataset.x.std(axis=0)
    prepared = {
        "as it comes": x,
        "scaled, not centered": x / 2.0 ** np.round(np.log2(spread)),
        "centered, not scaled": x - x.mean(axis=0),
        "standardized": scaling.standardize(x).values,
        "whitened": scaling.whiten(x).values,
    }
    target = (dataset.y == label).astype(np.float32)
    condition, errors = [], []
    for z in prepared.values():
        a = _with_ones(z).astype(np.float32)
        fitted = a.astype(float) @ _solve64(a, target)
        condition.append(scaling.condition_number(a))
        solutions = (solve(a, target).astype(float) for solve in (normal_equations, gram_schmidt))
        errors.append(
            [
                np.linalg.norm(a.astype(float) @ w - fitted) / np.linalg.norm(fitted)
                for w in solutions
            ]
        )
    return TableRounding(dataset.name, tuple(prepared), np.array(condition), *np.array(errors).T)


def _solve64(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(a.astype(float), b.astype(float), rcond=1e-15)[0]


# --- whitening -----------------------------------------------------------------------------------------------


def whitening_steps(dataset: Dataset, *, columns: tuple[int, int]) -> WhiteningSteps:
    """Center, standardize and whiten two features, and note their covariance each time."""
    x = dataset.x[:, list(columns)]
    versions = {
        "centered": x - x.mean(axis=0),
        "standardized": scaling.standardize(x).values,
        "PCA-whitened": scaling.whiten(x, method="pca").values,
        "ZCA-whitened": scaling.whiten(x, method="zca").values,
    }
    points = np.array(list(versions.values()))
    covariance = np.einsum("pni,pnj->pij", points, points) / len(x)
    return WhiteningSteps(
        tuple(versions), tuple(dataset.feature_names[c] for c in columns), points, covariance
    )
