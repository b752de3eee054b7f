"""Results of Chapter 2: shift between data sets, along a chain of cups, and inside a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class ShiftedFit(Result):
    """Curves fitted on one input distribution and used on another; the truth is the same for both."""

    fits: tuple[str, ...]
    error: (
        np.ndarray
    )  # (seeds, fits, 2): mean squared distance to the truth, on training and new inputs
    x_train: np.ndarray  # (n,), of the first seed
    y_train: np.ndarray
    x_new: np.ndarray
    y_new: np.ndarray
    grid: np.ndarray  # (points,)
    truth: np.ndarray  # (points,)
    curves: np.ndarray  # (fits, points), of the first seed


@dataclass(frozen=True)
class CupGame(Result):
    """A message through a chain of cups; entry k of the last axis is a listener after k + 1 cups."""

    standard: str  # who standardizes what they hear: "nobody", "listener" or "everyone"
    correlation: np.ndarray  # (chains, cups): squared, of what arrives with what was said
    rank_correlation: np.ndarray  # (chains, cups): Spearman's, not squared
    error: np.ndarray  # (chains, cups): of a decoder learned just now, 1 = knowing nothing
    stale_error: np.ndarray  # (chains, cups): of a decoder learned before the players changed
    loudness: np.ndarray  # (chains, cups): standard deviation of what arrives


@dataclass(frozen=True)
class LearningRates(Result):
    """Loss at the end of short runs over a grid of learning rates."""

    lr: np.ndarray  # (rates,)
    loss: np.ndarray  # (seeds, rates): mean over the last steps

    @property
    def mean_loss(self) -> np.ndarray:
        """The mean over the seeds, (rates,)."""
        return self.loss.mean(axis=0)

    @property
    def best(self) -> float:
        """The rate with the lowest mean loss."""
        return float(self.lr[self.mean_loss.argmin()])


@dataclass(frozen=True)
class DriftRun(Result):
    """One network on digits, several seeds: what its layers receive while it learns.

    The measurements are medians over the units of a layer unless said otherwise.
    """

    label: str
    lr: float
    normalized: bool
    seeds: tuple[int, ...]
    layers: tuple[str, ...]  # where: inputs of these layers
    steps: np.ndarray  # (times,)
    loss: np.ndarray  # (seeds, steps)
    accuracy: np.ndarray  # (seeds,), on held-out digits
    unit: np.ndarray  # (seeds, times, 3): 15th, 50th, 85th percentile, first unit of the last layer
    pooled: np.ndarray  # (seeds, times, 3): the same over all units of that layer
    mean: np.ndarray  # (seeds, times, layers): mean over units and examples
    std: np.ndarray  # (seeds, times, layers): root mean square over units of each unit's std
    wasserstein: np.ndarray  # (seeds, times, layers): drift since the start, and the next three
    mean_shift: np.ndarray
    log_std_ratio: np.ndarray
    distance: np.ndarray
    saturated: (
        np.ndarray
    )  # (seeds, times, layers): share of units and examples; sigmoid inputs only
    one_step_all: np.ndarray  # (seeds, one_step_times, layers): drift by one step of all layers
    one_step_first: np.ndarray  # the same when layer 1 alone takes the step
    one_step_times: np.ndarray
    scatter: np.ndarray  # (seeds, layers): distance of two batches, in std, before the first step

    @property
    def final_loss(self) -> np.ndarray:
        """The loss at the end, a mean over the last 50 steps, (seeds,)."""
        return self.loss[:, -50:].mean(axis=1)


@dataclass(frozen=True)
class DepthProfile(Result):
    """Size of signals and gradients in random networks against depth, beside mean-field theory."""

    activation: str
    weight_std: float
    width: int
    normalized: bool
    size: np.ndarray  # (seeds, depth): root mean square of the inputs of the nonlinearity
    spread: np.ndarray  # (seeds, depth): root mean square over units of their std over examples
    mean: np.ndarray  # (seeds, depth): mean output of the nonlinearity
    gradient: np.ndarray  # (seeds, depth): root mean square, divided by the last layer's
    saturated: np.ndarray  # (seeds, depth): share whose slope is below a tenth of the steepest
    size_theory: np.ndarray  # (depth,); NaN with normalization
    spread_theory: np.ndarray
    gradient_theory: np.ndarray
