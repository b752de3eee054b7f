"""Results of Chapter 13: networks gone bad, before and after the repair, and two recipes in dispute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

__all__ = ["Accumulation", "CaseStudy", "Faults", "RecipeRates", "RecipeTrial"]


@dataclass(frozen=True)
class Faults(Result):
    """Accuracy of trained networks on new images, with each fault planted, and after its repair."""

    steps: int
    seeds: tuple[int, ...]
    causes: tuple[str, ...]
    by_batch: np.ndarray  # (seeds, causes): normalized by shuffled batches, Dropout off
    before: np.ndarray  # (seeds, causes): in evaluation, as the fault left it
    after: np.ndarray  # (seeds, causes): in evaluation, after the repair
    healthy: np.ndarray  # (seeds,): in evaluation, without any fault


@dataclass(frozen=True)
class RecipeRates(Result):
    """Accuracy of each recipe at each learning rate, on images that serve only to choose the rate."""

    steps: int
    seeds: tuple[int, ...]
    recipes: tuple[str, ...]
    rates: tuple[float, ...]
    accuracy: np.ndarray  # (seeds, recipes, rates)

    @property
    def best(self) -> np.ndarray:
        """The place of each recipe's best mean in `rates`, (recipes,)."""
        return self.accuracy.mean(axis=0).argmax(axis=1)


@dataclass(frozen=True)
class RecipeTrial(Result):
    """Accuracy of each recipe at its own best rate, on images that served for nothing else."""

    steps: int
    seeds: tuple[int, ...]
    recipes: tuple[str, ...]
    rates: tuple[float, ...]  # (recipes,)
    accuracy: np.ndarray  # (seeds, recipes)


@dataclass(frozen=True)
class Accumulation(Result):
    """How far the gradient of several micro-batches is from that of the batch which they make up."""

    batch_size: int
    parts: tuple[int, ...]  # micro-batches of a batch
    distance: np.ndarray  # (seeds, parts): of the gradients, relative to the whole batch's
    without: np.ndarray  # (seeds, parts): the same for a network without normalization
    updates: np.ndarray  # (parts,): of the running statistics in one step


@dataclass(frozen=True)
class CaseStudy(Result):
    """A small residual network from training to use: its accuracy on new images at each stage."""

    steps: int
    width: int
    seeds: tuple[int, ...]
    stages: tuple[str, ...]
    accuracy: np.ndarray  # (seeds, stages)
    checkpoint: (
        np.ndarray
    )  # (seeds, numbers), float32: what was saved, all of the state one after another
