"""Results of Chapter 10: recipes for training with and without normalization, rates, and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result
from bnlab.stats import steps_to

__all__ = ["DepthRates", "PaperTable", "RecipeRates", "RecipeRuns"]


@dataclass(frozen=True)
class PaperTable(Result):
    """The table of the paper's Figure 3."""

    models: tuple[str, ...]
    changes: tuple[str, ...]  # against the first model
    steps: (
        np.ndarray
    )  # (models,): to the best accuracy of the first; infinity where it was not reached
    accuracy: np.ndarray  # (models,): the best, in percent


@dataclass(frozen=True)
class RecipeRuns(Result):
    """Accuracy on held-out images while one network is trained by many recipes, several seeds each."""

    data: str
    steps: int
    batch_size: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    at: np.ndarray  # (checkpoints,): steps done
    accuracy: np.ndarray  # (arms, seeds, checkpoints)
    loss: (
        np.ndarray
    )  # (arms, seeds, checkpoints): mean since the checkpoint before; NaN once diverged

    def best(self, arm: str) -> np.ndarray:
        """Return the best accuracy of each seed of one arm, over the checkpoints."""
        return self.accuracy[self.arms.index(arm)].max(axis=-1)

    def final(self, arm: str) -> np.ndarray:
        """Return the accuracy of each seed of one arm at the end: the mean of the last four checkpoints.

        One checkpoint would not do, since accuracy swings from one to the next.
        """
        return self.accuracy[self.arms.index(arm), :, -4:].mean(axis=-1)

    def steps_to_best(self, arm: str, *, target: str = "plain", short: float = 0.0) -> np.ndarray:
        """Return how many steps each seed of an arm needs to the best accuracy of the same seed of `target`.

        Parameters
        ----------
        arm, target : str
            Names in `arms`.
        short : float
            How far below that best accuracy is near enough.

        Returns
        -------
        numpy.ndarray, shape (seeds,)
            Infinity where it is not reached.

        Examples
        --------
        >>> curves = np.array([[[0.1, 0.5, 0.6]], [[0.6, 0.7, 0.7]]])
        >>> runs = RecipeRuns("", 3, 1, ("plain", "BN"), (0,), np.array([1, 2, 3]), curves, curves)
        >>> runs.steps_to_best("plain").tolist(), runs.steps_to_best("BN").tolist()
        ([3.0], [1.0])
        >>> runs.steps_to_best("plain", short=0.15).tolist()
        [2.0]
        """
        return steps_to(self.accuracy[self.arms.index(arm)], self.at, self.best(target) - short)

    def effect(self, net: str, change: str, *, of: str = "best") -> np.ndarray:
        r"""Return what a change does to the accuracy of a net, seed by seed.

        .. math:: a(\text{net} + \text{change}) - a(\text{net})

        Parameters
        ----------
        net : {"plain", "BN"}
        change : str
            A name in `bnlab.chapters.accelerating.recipes.CHANGES`, "all" or "all, rate x 1".
        of : {"best", "final"}
            Which accuracy.

        Returns
        -------
        numpy.ndarray, shape (seeds,)

        Examples
        --------
        >>> curves = np.array([[[0.5]], [[0.75]]])
        >>> RecipeRuns("", 1, 1, ("BN", "BN + all"), (0,), np.array([1]), curves, curves).effect("BN", "all")
        array([0.25])
        """
        accuracy = getattr(self, of)
        return accuracy(f"{net} + {change}") - accuracy(net)

    def interaction(self, change: str, *, of: str = "best") -> np.ndarray:
        """Return the effect of a change with normalization less its effect without, seed by seed; see `effect`."""
        return self.effect("BN", change, of=of) - self.effect("plain", change, of=of)


@dataclass(frozen=True)
class RecipeRates(Result):
    """Accuracy on a validation part of the training images, over a grid of learning rates."""

    data: str
    steps: int
    batch_size: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    lr: np.ndarray  # (rates,)
    accuracy: np.ndarray  # (arms, seeds, rates): the best of the checkpoints of the run
    finite: np.ndarray  # (arms, seeds, rates): no loss was infinite or NaN

    @property
    def mean_accuracy(self) -> np.ndarray:
        """The mean over the seeds, (arms, rates)."""
        return self.accuracy.mean(axis=1)

    def at_best_rate(self, arm: str) -> tuple[np.ndarray, float]:
        """Return the accuracy of each seed of an arm at the rate with the highest mean, and that rate."""
        row = self.arms.index(arm)
        best = self.mean_accuracy[row].argmax()
        return self.accuracy[row, :, best], float(self.lr[best])


@dataclass(frozen=True)
class DepthRates(Result):
    """Accuracy of fully connected networks against depth, over a grid of learning rates."""

    activation: str
    steps: int
    batch_size: int
    held_out: int  # training digits that the rate is chosen on and that are not trained with
    nets: tuple[str, ...]  # "plain", "BN", and "scaled": plain, from weights with the proper gain
    depths: tuple[int, ...]  # number of hidden layers
    seeds: tuple[int, ...]
    lr: np.ndarray  # (rates,)
    looks: np.ndarray  # (looks,): after how many steps accuracy was measured
    validation: np.ndarray  # (nets, depths, seeds, rates, looks): on the digits held out
    accuracy: np.ndarray  # (nets, depths, seeds, rates, looks): on the test digits

    def at_best_rate(self, look: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """Return each net's test accuracy at the rate that is best on the digits held out, and that rate.

        Parameters
        ----------
        look : int
            Which of `looks` to choose and to read at; the last one unless given.

        Returns
        -------
        accuracy : numpy.ndarray, shape (nets, depths, seeds)
        lr : numpy.ndarray, shape (nets, depths)
            That with the best mean over the seeds.
        """
        chosen = self.validation[..., look].mean(axis=2).argmax(axis=-1)
        index = chosen[:, :, None, None]
        accuracy = np.take_along_axis(self.accuracy[..., look], index, axis=-1)[..., 0]
        return accuracy, self.lr[chosen]
