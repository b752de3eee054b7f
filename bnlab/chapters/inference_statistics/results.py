"""Results of Chapter 7: statistics of batches, running averages, and networks after training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

__all__ = [
    "BatchMoments",
    "Companions",
    "FoldOffsets",
    "Folding",
    "ModeGradients",
    "NetworkGradients",
    "PixelDependence",
    "RunningAverage",
    "SampleDependence",
    "StatisticsRace",
]


@dataclass(frozen=True)
class BatchMoments(Result):
    """Mean and biased variance of many mini-batches from a population with mean 0 and variance 1."""

    source: str
    kurtosis: float  # excess kurtosis of the population; 0 for a bell
    batch_sizes: np.ndarray  # (sizes,)
    mean: np.ndarray  # (draws, sizes)
    biased: np.ndarray  # (draws, sizes): divided by m

    @property
    def unbiased(self) -> np.ndarray:
        """The variance divided by m - 1, (draws, sizes)."""
        return self.biased * self.batch_sizes / (self.batch_sizes - 1)


@dataclass(frozen=True)
class PixelDependence(Result):
    """Corrected variance of batches of whole images, whose positions resemble each other."""

    images: int  # a batch
    pool: np.ndarray  # (pools,): side of the square that was averaged into one position
    positions: np.ndarray  # (pools,): an image
    rho: np.ndarray  # (pools,): variance of the images' means, as a share of the whole variance
    corrected: (
        np.ndarray
    )  # (draws, pools): m / (m - 1) times the biased variance, over the population's
    predicted: np.ndarray  # (pools,): its expectation

    @property
    def batch_sizes(self) -> np.ndarray:
        """Values of each batch, m, (pools,)."""
        return self.images * self.positions


@dataclass(frozen=True)
class SampleDependence(Result):
    """Corrected variance of batches that are not independent draws, over the population's."""

    schemes: tuple[str, ...]
    batch_sizes: np.ndarray  # (sizes,)
    corrected: np.ndarray  # (draws, schemes, sizes): mean over the features
    predicted: np.ndarray  # (schemes, sizes)
    between: float  # share of the variance that lies between classes, mean over the features


@dataclass(frozen=True)
class RunningAverage(Result):
    """Running statistics of a torch layer on a population whose mean moves; many runs at once."""

    momenta: tuple[float, ...]  # torch's convention
    batch_size: int
    std: float  # of the population
    speed: float  # change of its mean a batch
    truth: np.ndarray  # (steps,): mean of the population at each batch
    mean: np.ndarray  # (runs, momenta, steps): running mean after each batch
    var: np.ndarray  # (runs, momenta, steps)
    expected: np.ndarray  # (momenta, steps): expectation of the running mean
    spread: np.ndarray  # (momenta, steps): its standard deviation

    @property
    def final_error(self) -> np.ndarray:
        """Root mean square error of the running mean after the last batch, (momenta,)."""
        return np.sqrt(np.square(self.mean[:, :, -1] - self.truth[-1]).mean(axis=0))

    def lag(self, momentum: np.ndarray) -> np.ndarray:
        """Return how far the running mean of a long run stays behind the population's."""
        return self.speed * (1 - momentum) / momentum

    def error_theory(self, momentum: np.ndarray) -> np.ndarray:
        """Return the root mean square error of the running mean of a long run, by noise and lag."""
        noise = momentum / (2 - momentum) * self.std**2 / self.batch_size
        return np.sqrt(noise + self.lag(momentum) ** 2)


@dataclass(frozen=True)
class StatisticsRace(Result):
    """One training run a seed; at each checkpoint the same weights with statistics of several kinds."""

    batch_size: int
    lr: float
    seeds: tuple[int, ...]
    checkpoints: tuple[int, ...]  # steps
    methods: tuple[str, ...]
    accuracy: np.ndarray  # (seeds, checkpoints, methods), on held-out digits
    loss: np.ndarray  # (seeds, checkpoints, methods)

    def lead(self, of: str = "accuracy") -> np.ndarray:
        """Return "accuracy" or "loss" less that of the last method, seed by seed."""
        values = getattr(self, of)
        return values - values[..., -1:]


@dataclass(frozen=True)
class Companions(Result):
    """Held-out digits judged in training mode, in batches of several sizes, beside evaluation mode."""

    batch_sizes: tuple[int, ...]
    evaluation: np.ndarray  # (seeds,): accuracy in evaluation mode
    shuffled: np.ndarray  # (seeds, sizes): accuracy in training mode, batches shuffled
    sorted: np.ndarray  # (seeds, sizes): the same, batches of one class each
    changed: np.ndarray  # (seeds, sizes): share of decisions that another shuffle changes


@dataclass(frozen=True)
class Folding(Result):
    """Trained networks with each normalization folded into the layer before, against float64."""

    layers: tuple[int, int]  # number of layers before and after
    size: np.ndarray  # (seeds,): largest output
    difference: np.ndarray  # (seeds,): max |folded - unfolded|, both float32
    unfolded_error: np.ndarray  # (seeds,): max |unfolded in float32 - in float64|
    folded_error: np.ndarray  # (seeds,)
    changed: np.ndarray  # (seeds,): number of decisions that differ


@dataclass(frozen=True)
class FoldOffsets(Result):
    """One normalized linear layer whose outputs have a mean of many standard deviations."""

    offsets: np.ndarray  # (offsets,): mean / standard deviation before normalization
    unfolded_error: np.ndarray  # (seeds, offsets): max against float64
    folded_error: np.ndarray  # (seeds, offsets)


@dataclass(frozen=True)
class ModeGradients(Result):
    """Gradients of one layer in its two modes, where both modes return the same outputs."""

    batch_sizes: np.ndarray  # (sizes,)
    output_gap: float  # largest difference of the outputs
    kept: np.ndarray  # (draws, sizes): squared length in training mode over that in evaluation mode
    inside: (
        np.ndarray
    )  # (draws, sizes): length of training mode's part along 1 and x_hat, over its length

    @staticmethod
    def kept_theory(m: np.ndarray) -> np.ndarray:
        """Return the expected share of the squared length that training mode keeps of batches of m."""
        return (m - 2) / m


@dataclass(frozen=True)
class NetworkGradients(Result):
    """Gradients of the weights of trained networks in both modes, where both return the same outputs."""

    layers: tuple[str, ...]
    output_gap: np.ndarray  # (seeds,)
    difference: np.ndarray  # (seeds, layers): |train - eval| / |train|
    cosine: np.ndarray  # (seeds, layers): between the two
    ratio: np.ndarray  # (seeds, layers): |eval| / |train|
    radial: (
        np.ndarray
    )  # (seeds, layers, 2): share of a unit's gradient along its weights; train, eval
