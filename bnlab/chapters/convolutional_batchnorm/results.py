"""Results of Chapter 8: what shares a mean, shifted images, two libraries, and folded networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

__all__ = ["EffectiveBatch", "FoldedNets", "LibraryTwins", "ShiftTest", "ShiftedDigits"]


@dataclass(frozen=True)
class ShiftTest(Result):
    """How far a normalized convolution is from moving its output along with a moved input."""

    shift: tuple[int, int]  # rows and columns
    normalizations: tuple[str, ...]
    cases: tuple[str, ...]  # what was moved, and where the statistics come from
    error: np.ndarray  # (seeds, normalizations, cases): relative


@dataclass(frozen=True)
class ShiftedDigits(Result):
    """Accuracy on moved digits of networks that were trained on digits in their places."""

    normalizations: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    rates: np.ndarray  # (rates,): learning rates
    shifts: np.ndarray  # (shifts,): pixels
    accuracy: np.ndarray  # (seeds, normalizations, rates, shifts): mean over four directions

    @property
    def best(self) -> np.ndarray:
        """The number of each normalization's best rate on digits in their places, (normalizations,)."""
        return self.accuracy[..., 0].mean(axis=0).argmax(axis=1)

    @property
    def best_accuracy(self) -> np.ndarray:
        """The accuracy of each normalization at its best rate, (seeds, normalizations, shifts)."""
        return np.stack([self.accuracy[:, j, k] for j, k in enumerate(self.best)], axis=1)


@dataclass(frozen=True)
class EffectiveBatch(Result):
    """How many independent values the mean of a feature map over a batch is worth."""

    layers: tuple[str, ...]
    images: int  # N, a batch
    positions: np.ndarray  # (layers,): p q
    intraclass: np.ndarray  # (seeds, layers): share of the variance between images
    pattern: np.ndarray  # (seeds, layers): share between positions, the same in all images
    theory: np.ndarray  # (seeds, layers): N over that share, geometric mean over the maps
    measured: np.ndarray  # (seeds, layers): variance of a value over variance of the batch mean

    @property
    def values(self) -> np.ndarray:
        """How many values share a mean, m' = N p q, (layers,)."""
        return self.images * self.positions


@dataclass(frozen=True)
class LibraryTwins(Result):
    """Two training runs that should be one, step by step: with another library, or another bit."""

    twins: tuple[str, ...]
    precisions: tuple[str, ...]
    seeds: tuple[int, ...]
    batch_size: int
    lr: float
    kinks: bool  # a network with ReLU and maxima, or a smooth one
    loss: np.ndarray  # (seeds, precisions, steps): of torch's run, before each step
    loss_gap: np.ndarray  # (seeds, twins, precisions, steps): absolute
    weight_gap: np.ndarray  # (seeds, twins, precisions, steps): relative, after each step


@dataclass(frozen=True)
class FoldedNets(Result):
    """Networks before and after folding: what was folded, how exactly, and how long a call takes."""

    networks: tuple[str, ...]
    batch_sizes: np.ndarray  # (sizes,): images a call
    folded: np.ndarray  # (networks,): normalizations
    left: np.ndarray  # (networks,)
    numbers: np.ndarray  # (networks, 2): parameters and buffers, before and after
    error: np.ndarray  # (networks,): largest, relative to the largest output
    seconds: np.ndarray  # (repeats, networks, sizes, 2): of a call, before and after

    @property
    def time_ratio(self) -> np.ndarray:
        """Time of a call after folding over before, (repeats, networks, sizes)."""
        return self.seconds[..., 1] / self.seconds[..., 0]
