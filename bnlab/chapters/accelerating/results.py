"""Results of Chapter 10: recipes for training with and without normalization, rates, and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

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
        """Return test accuracy (nets, depths, seeds) at the rate best on held-out digits, and that rate."""
        chosen = self.validation[..., look].mean(axis=2).argmax(axis=-1)
        index = chosen[:, :, None, None]
        accuracy = np.take_along_axis(self.accuracy[..., look], index, axis=-1)[..., 0]
        return accuracy, self.lr[chosen]
