"""Results of Chapter 4: full whitening, its gradient, its cost and its need for large batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result
from bnlab.stats import Interval, growth_exponent, t_interval


@dataclass(frozen=True)
class Clouds(Result):
    """One table of two features under several scalings."""

    names: tuple[str, ...]
    rows: np.ndarray  # (scalings, N, 2)
    covariance: np.ndarray  # (scalings, 2, 2), of each


@dataclass(frozen=True)
class Jacobians(Result):
    """Every derivative of every normalized value by every input value, for one small batch.

    Entry [i, k, j, l] of a Jacobian is the derivative of output feature k of example i by input
    feature l of example j.
    """

    names: tuple[str, ...]
    jacobians: np.ndarray  # (names, m, d, m, d)
    ranks: np.ndarray  # (names,), how many directions of change get through


@dataclass(frozen=True)
class EigenvalueCrossing(Result):
    """One row of a cloud, whitened in two ways while the larger variance changes its axis."""

    ratio: np.ndarray  # variance along the first axis over that along the second
    zca: np.ndarray  # (len(ratio), 2)
    pca: np.ndarray  # (len(ratio), 2)


@dataclass(frozen=True)
class EigenvalueGap(Result):
    """Error of the gradient as two eigenvalues of the covariance come close; NaN where it is NaN."""

    gaps: np.ndarray  # relative, the last is 0
    dtypes: tuple[str, ...]
    seeds: tuple[int, ...]
    eigh_error: np.ndarray  # (dtypes, seeds, gaps), autograd through torch.linalg.eigh
    closed_error: np.ndarray  # (dtypes, seeds, gaps), bnlab.whitening


@dataclass(frozen=True)
class WhiteningCost(Result):
    """Processor seconds of a forward and a backward pass: full whitening beside per-feature."""

    features: np.ndarray  # (points,)
    rows: np.ndarray  # (points,)
    full: np.ndarray  # (repeats, points)
    per_feature: np.ndarray  # (repeats, points)
    sweeps: tuple[str, ...]  # the sweep each point belongs to

    def exponent(self, *, sweep: str, of: str, largest: int = 3) -> Interval:
        r"""Fit the exponent p of seconds proportional to size to the power p, at the end of a sweep.

        Parameters
        ----------
        sweep : {"rows", "features", "both"}
            What grows.
        of : {"full", "per_feature"}
            Which normalization.
        largest : int
            Points to fit, from the largest down: at the small ones the overhead of the calls rules.

        Returns
        -------
        Interval
            Mean over repeats of the least-squares slope, with its 95% t-interval.

        Examples
        --------
        >>> d = np.array([8, 16, 32])
        >>> seconds = np.array([[1.0], [1.1]]) * d**2.0
        >>> WhiteningCost(d, 2 * d, seconds, seconds, ("both",) * 3).exponent(sweep="both", of="full")
        2 [2, 2]
        """
        here = np.flatnonzero(np.array(self.sweeps) == sweep)[-largest:]
        size = (self.rows if sweep == "rows" else self.features)[here]
        return t_interval(growth_exponent(size, getattr(self, of)[:, here]))


@dataclass(frozen=True)
class NaiveWhitening(Result):
    """Gradient descent on a whitened layer x = u A + b, with the statistics held constant or not."""

    trains: str  # "bias" or "weights"
    through_statistics: bool
    lr: float
    seeds: tuple[int, ...]
    loss: np.ndarray  # (seeds, steps + 1)
    best_loss: np.ndarray  # (seeds,), the smallest that any rotation reaches
    bias: np.ndarray  # (seeds, steps + 1), length of b
    variances: np.ndarray  # (seeds, steps + 1, d), eigenvalues of the covariance of x
    predicted_bias: np.ndarray  # (seeds,), growth of the length of b in a step
    predicted_variances: np.ndarray  # (seeds, d), growth of each eigenvalue in a step


@dataclass(frozen=True)
class BatchNeed(Result):
    """What whitening with the statistics of one batch does to data that are white already."""

    features: int
    sizes: np.ndarray  # (k,), rows of a batch
    seeds: tuple[int, ...]
    lowest: np.ndarray  # (seeds, k), smallest eigenvalue of the covariance of the batch
    highest: np.ndarray  # (seeds, k)
    edges: np.ndarray  # (2, k), (1 -+ sqrt(d / m))^2
    full_error: np.ndarray  # (seeds, k), root mean square error of a whitened value
    per_feature_error: np.ndarray  # (seeds, k)
    full_theory: np.ndarray  # (k,)
    per_feature_theory: np.ndarray  # (k,)


@dataclass(frozen=True)
class Spectrum(Result):
    """Eigenvalues of the covariance of batches of white data, with their density in theory."""

    features: int
    size: int
    eigenvalues: np.ndarray  # (seeds, features)
    grid: np.ndarray
    density: np.ndarray  # on the grid


@dataclass(frozen=True)
class ActivationCorrelation(Result):
    """How correlated a layer's units are, before and after per-feature normalization.

    Sites are the hidden layers; stages are training steps taken.
    """

    sites: tuple[str, ...]
    stages: tuple[int, ...]
    seeds: tuple[int, ...]
    correlation: np.ndarray  # (seeds, stages, sites), root mean square off the diagonal
    condition: np.ndarray  # (seeds, stages, sites), of the covariance after normalization
    condition_before: np.ndarray  # (seeds, stages, sites), of the covariance before it
    directions: np.ndarray  # (seeds, stages, sites), that hold 90% of the variance after it
    variance: np.ndarray  # (seeds, stages, sites), mean over units after it
