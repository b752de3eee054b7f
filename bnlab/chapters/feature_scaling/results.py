"""Results of Chapter 1: distances, neighbors, gradient descent and rounding before and after scaling.

S is the number of scalings compared, C of features, N of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class DistanceShares(Result):
    """How much of the squared distance between rows each feature accounts for."""

    scalings: tuple[str, ...]
    features: tuple[str, ...]
    shares: np.ndarray  # (S, C), each row sums to 1


@dataclass(frozen=True)
class NearestNeighbors(Result):
    """Who is nearest to whom in a table of two features, under several scalings."""

    scalings: tuple[str, ...]
    features: tuple[str, ...]
    x: np.ndarray  # (N, 2), as given
    values: np.ndarray  # (S, N, 2), scaled
    query: int  # the row that the figure looks at
    nearest: np.ndarray  # (S,), the row nearest to it
    changed: np.ndarray  # (S,), share of rows whose nearest row is another than without scaling
    first_differs: np.ndarray  # (S,), share of rows that differ from their nearest row in feature 0


@dataclass(frozen=True)
class NeighborAccuracy(Result):
    """Test accuracy of a k-nearest-neighbor classifier under several scalings, over seeds."""

    dataset: str
    k: int
    scalings: tuple[str, ...]
    seeds: tuple[int, ...]
    fresh: bool  # True: each seed is a new table; False: a new split of the same rows
    accuracy: np.ndarray  # (seeds, S)


@dataclass(frozen=True)
class IrrelevantFeatures(Result):
    """Accuracy of the same classifier beside more and more columns that say nothing."""

    coins: tuple[int, ...]  # how many columns of coin flips
    scalings: tuple[str, ...]
    seeds: tuple[int, ...]  # of tables, coins and splits
    accuracy: np.ndarray  # (seeds, coins, S)


@dataclass(frozen=True)
class OutlierEffect(Result):
    """One feature under several scalings, fitted without and with one mistyped value."""

    scalings: tuple[str, ...]
    typo: float  # in the feature's own unit
    clean: np.ndarray  # (S, N), fitted without the typo
    spoiled: np.ndarray  # (S, N), the same N values fitted with it


@dataclass(frozen=True)
class DescentPath(Result):
    """Gradient descent on a quadratic bowl whose minimum is at the origin."""

    eigenvalues: np.ndarray  # (d,)
    step: float
    path: np.ndarray  # (steps + 1, d)


@dataclass(frozen=True)
class DescentRates(Result):
    """Steps that gradient descent needs on quadratics of growing condition number."""

    condition: np.ndarray  # (K,), of the Hessian
    tolerance: float  # final distance to the minimum over the first
    seeds: tuple[int, ...]
    steps: np.ndarray  # (seeds, K), with the best step 2 / (h_min + h_max)
    steps_safe: np.ndarray  # (seeds, K), with the step 1 / h_max
    bound: np.ndarray  # (K,), what theory promises for the best step
    bound_safe: np.ndarray  # (K,), and for 1 / h_max


@dataclass(frozen=True)
class TableDescent(Result):
    """Gradient descent for least squares on a real table, under several scalings, best step each."""

    dataset: str
    scalings: tuple[str, ...]
    condition: np.ndarray  # (S,), of the Hessian, the column of ones included
    tolerance: float  # final excess loss over the first
    budget: int
    steps: np.ndarray  # (S,), steps to the tolerance, -1 if the budget did not suffice
    bound: np.ndarray  # (S,), what theory promises
    at: np.ndarray  # (T,), steps at which the loss was noted
    excess: np.ndarray  # (S, T), excess loss over the first


@dataclass(frozen=True)
class TableOptimizers(Result):
    """Steps of other optimizers on the same problem, under several scalings."""

    dataset: str
    optimizers: tuple[str, ...]
    scalings: tuple[str, ...]
    tolerance: float  # final excess loss over the first
    budget: int
    rates: tuple[float, ...]  # from which Adam's best was taken, for each scaling
    steps: np.ndarray  # (optimizers, S), steps to the tolerance, -1 if the budget did not suffice


@dataclass(frozen=True)
class RoundingError(Result):
    """Error of least squares solved in float32 against the condition number of the matrix."""

    condition: np.ndarray  # (K,), of the matrix
    seeds: tuple[int, ...]
    unit_roundoff: float
    normal: np.ndarray  # (seeds, K), relative error by the normal equations
    orthogonal: np.ndarray  # (seeds, K), by orthogonalization

    @property
    def normal_theory(self) -> np.ndarray:
        r"""The size :math:`u \kappa^2` that theory gives the error by the normal equations, (K,)."""
        return self.unit_roundoff * self.condition**2

    @property
    def orthogonal_theory(self) -> np.ndarray:
        r"""The size :math:`u \kappa` that theory gives the error by orthogonalization, (K,)."""
        return self.unit_roundoff * self.condition


@dataclass(frozen=True)
class TableRounding(Result):
    """The same two methods on a real table, prepared in several ways; error of the fitted values."""

    dataset: str
    preparations: tuple[str, ...]
    condition: np.ndarray  # (P,), the column of ones included
    normal: np.ndarray  # (P,)
    orthogonal: np.ndarray  # (P,)


@dataclass(frozen=True)
class WhiteningSteps(Result):
    """Two features centered, standardized and whitened, with their covariance each time."""

    names: tuple[str, ...]
    features: tuple[str, ...]
    points: np.ndarray  # (names, N, 2)
    covariance: np.ndarray  # (names, 2, 2)


@dataclass(frozen=True)
class Leakage(Result):
    """Test accuracy when the scaling was fitted on the training rows, on all rows, or on each side."""

    dataset: str
    k: int
    train_rows: int
    scalings: tuple[str, ...]
    fitted_on: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracy: np.ndarray  # (seeds, S, fitted_on)
