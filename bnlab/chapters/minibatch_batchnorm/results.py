"""Results of Chapter 5: what one mini-batch does to its values, and what values do to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class IdentityRun(Result):
    """Scale and shift that learn to undo the normalization, by gradient descent."""

    fresh: bool  # a new batch for each step, or one batch for all
    m: int
    lr: float
    gamma: np.ndarray  # (seeds, steps + 1)
    beta: np.ndarray  # (seeds, steps + 1)
    loss: np.ndarray  # (seeds, steps): mean squared difference of output and input
    batch_std: np.ndarray  # (seeds,): sqrt(var_B + eps) of the last batch
    batch_mean: np.ndarray  # (seeds,): of the last batch
    expected_gamma: float  # theory for normal data: the mean of a batch's standard deviation
    expected_loss: float  # theory of the late loss for normal data; 0 for one batch

    @property
    def late_loss(self) -> np.ndarray:
        """The mean loss from step 50 on, (seeds,)."""
        return self.loss[:, 50:].mean(axis=1)


@dataclass(frozen=True)
class LargestValues(Result):
    """The largest normalized value of a batch, for several kinds of data."""

    kinds: tuple[str, ...]
    m: np.ndarray  # (sizes,)
    largest: np.ndarray  # (draws, kinds, sizes)

    @staticmethod
    def bound(m: np.ndarray) -> np.ndarray:
        r"""Return what no normalized value of a batch of m can exceed, :math:`\sqrt{m-1}`."""
        return np.sqrt(m - 1)


@dataclass(frozen=True)
class EpsSweep(Result):
    """What eps leaves of features with a small spread."""

    eps: np.ndarray  # (choices,)
    std: np.ndarray  # (points,): of the input
    output_std: np.ndarray  # (choices, points)
    gain: np.ndarray  # (choices, points): length of dx over that of dy, off the blocked directions


@dataclass(frozen=True)
class NormalizedShape(Result):
    """How normalized values are spread when the data are normal, and how much gradient passes."""

    m: np.ndarray  # (sizes,)
    edges: np.ndarray  # (bins + 1,): of x_hat over its bound sqrt(m - 1), from -1 to 1
    density: np.ndarray  # (sizes, bins)
    kurtosis: np.ndarray  # (seeds, sizes): mean of x_hat ** 4
    passed: np.ndarray  # (seeds, sizes): mean share of the squared gradient that is not blocked

    @property
    def kurtosis_theory(self) -> np.ndarray:
        """The expectation of x_hat ** 4, (sizes,)."""
        return 3 * (self.m - 1) / (self.m + 1)

    @property
    def passed_theory(self) -> np.ndarray:
        """The expected share of the squared gradient that passes, (sizes,)."""
        return (self.m - 2) / self.m


@dataclass(frozen=True)
class CompanySpread(Result):
    """The same value in many batches: how far its normalized value moves with its company."""

    values: np.ndarray  # (values,): in standard deviations from the mean of the population
    m: np.ndarray  # (sizes,)
    spread: np.ndarray  # (seeds, values, sizes): std over batches
    theory: np.ndarray  # (values, sizes): first order in 1 / sqrt(m)


@dataclass(frozen=True)
class BatchMakeup(Result):
    """A trained classifier, used on test digits in batches that are put together in several ways."""

    m: np.ndarray  # (sizes,)
    evaluation: np.ndarray  # (seeds,): accuracy with running statistics
    shuffled: np.ndarray  # (seeds, sizes): accuracy with batch statistics, random batches
    by_class: np.ndarray  # (seeds, sizes): the same, each batch of one class
    fickle: np.ndarray  # (seeds, sizes): share of digits whose class depends on the company
