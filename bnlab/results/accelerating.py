"""Results of Chapter 10: recipes for training with and without normalization, rates, and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DepthRates", "PaperTable", "RecipeRates", "RecipeRuns"]


@dataclass(frozen=True)
class PaperTable:
    """The table of the paper's Figure 3."""

    models: tuple[str, ...]
    changes: tuple[str, ...]  # against the first model
    steps: (
        np.ndarray
    )  # (models,): to the best accuracy of the first; infinity where it was not reached
    accuracy: np.ndarray  # (models,): the best, in percent


@dataclass(frozen=True)
class RecipeRuns:
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


@dataclass(frozen=True)
class RecipeRates:
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
class DepthRates:
    """Accuracy of fully connected networks against depth, over a grid of learning rates."""

    activation: str
    steps: int
    nets: tuple[str, ...]
    depths: tuple[int, ...]  # number of hidden layers
    seeds: tuple[int, ...]
    lr: np.ndarray  # (rates,)
    accuracy: np.ndarray  # (nets, depths, seeds, rates), on held-out images
