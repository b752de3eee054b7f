"""Results of Chapter 13: networks gone bad, before and after the repair, and two recipes in dispute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result
from bnlab.stats import Table

__all__ = ["Accumulation", "CaseStudy", "DiagnosisCorpus", "Faults", "RecipeSearch", "RecipeTrial"]


@dataclass(frozen=True)
class Faults(Result):
    """Accuracy of trained networks on new images, with each fault planted, and after its repair."""

    steps: int
    seeds: tuple[int, ...]
    causes: tuple[str, ...]
    ids: tuple[str, ...]
    by_batch: np.ndarray  # (seeds, causes): normalized by shuffled batches, Dropout off
    before: np.ndarray  # (seeds, causes): in evaluation, as the fault left it
    after: np.ndarray  # (seeds, causes): in evaluation, after the repair
    found: np.ndarray  # (seeds, causes, ids): whether `bnlab.diagnose` found it
    healthy: np.ndarray  # (seeds,): in evaluation, without any fault


@dataclass(frozen=True)
class RecipeSearch(Result):
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


@dataclass(frozen=True)
class DiagnosisCorpus(Result):
    """What tools find of planted faults, what they cry at healthy models, and what ours costs."""

    ids: tuple[str, ...]
    tools: tuple[str, ...]
    planted: np.ndarray  # (ids,): models with that fault
    found: np.ndarray  # (tools, ids): of those, how many the tool names
    healthy: int
    alarms: np.ndarray  # (tools, ids): healthy models at which it cries that fault
    alarmed: np.ndarray  # (tools,): healthy models at which it cries any
    networks: tuple[str, ...]
    rounds: int
    passes: (
        np.ndarray
    )  # (networks,): median time of `bnlab.diagnose` in plain passes over the same batches

    def table(self) -> Table:
        """Return planted, found and false alarms for each id, with a last row of sums."""
        columns: dict[str, list] = {
            "id": [*self.ids, "all"],
            "planted": [*self.planted.tolist(), int(self.planted.sum())],
        }
        for tool, found, alarms, alarmed in zip(
            self.tools, self.found, self.alarms, self.alarmed, strict=True
        ):
            columns[f"{tool}: found"] = [*found.tolist(), int(found.sum())]
            columns[f"{tool}: false alarms"] = [*alarms.tolist(), int(alarmed)]
        return Table(columns)
