"""Results of Chapter 9: the paper's Figure 1 over many seeds, and the search for learning rates before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

__all__ = ["FairStart", "FigureOne", "ImageRows", "LayerViews", "RateSearch", "Stability"]


@dataclass(frozen=True)
class RateSearch(Result):
    """Accuracy with and without Batch Normalization at each learning rate, on training images held out."""

    data: str
    pixels: str  # "binary" or "gray"
    copies: int  # deformed copies of each training image
    held_out: int  # training images that were judged and not trained with
    arms: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: np.ndarray  # (looks,): after how many steps accuracy was measured
    accuracy: np.ndarray  # (arms, rates, seeds, looks)

    def score(self) -> np.ndarray:
        r"""Return what a rate is chosen by, (arms, rates, seeds): accuracy averaged over all of training.

        .. math:: \frac{1}{T} \int_0^T a(t)\, dt

        It rewards learning fast and ending high alike. Between two looks the accuracy :math:`a` is
        taken to be on the line that joins them.
        """
        a, t = self.accuracy, self.steps
        return ((a[..., 1:] + a[..., :-1]) / 2 * np.diff(t)).sum(axis=-1) / t[-1]

    def best(self) -> dict[str, float]:
        """Return each arm's rate with the highest mean score over the seeds."""
        mean = self.score().mean(axis=-1)
        return {a: self.rates[int(row.argmax())] for a, row in zip(self.arms, mean, strict=True)}


@dataclass(frozen=True)
class FairStart(Result):
    """Training runs of networks that start in different ways, each at its own best learning rate."""

    data: str
    arms: tuple[str, ...]
    rates: tuple[float, ...]  # of each arm
    seeds: tuple[int, ...]
    steps: np.ndarray  # (looks,): after how many steps accuracy was measured
    accuracy: np.ndarray  # (arms, seeds, looks): on test images, with running averages


@dataclass(frozen=True)
class FigureOne(Result):
    """Training runs with and without Batch Normalization; a setting is an arm at a learning rate."""

    data: str
    pixels: str  # "binary" or "gray"
    copies: int  # deformed copies of each training image
    sigma: float  # standard deviation of the initial weights
    batch_size: int
    arms: tuple[str, ...]  # of each setting: "without" or "with"
    rates: tuple[float, ...]  # of each setting; an arm's own best one comes first
    seeds: tuple[int, ...]
    steps: np.ndarray  # (looks,): after how many steps the networks were looked at
    accuracy: np.ndarray  # (settings, seeds, looks): on test images, with running averages
    loss: np.ndarray  # (settings, seeds, looks): cross-entropy, likewise
    train_accuracy: np.ndarray  # (settings, seeds, looks): on images trained with
    recalibrated_steps: np.ndarray  # (few,)
    recalibrated: np.ndarray  # (settings, seeds, few): accuracy with exact statistics; NaN without
    watched: np.ndarray  # (times,): steps at which inputs of the last hidden layer were recorded
    percentiles: np.ndarray  # (settings, seeds, times, 3, units): the 15th, 50th and 85th
    edges: np.ndarray  # (bins + 1,); what lies outside counts in the outer bins
    histogram: np.ndarray  # (settings, times, units, bins): number of images, first seed

    def setting(self, arm: str, rate: float | None = None) -> int:
        """Return the number of a setting; without a rate the arm's first, which is its best."""
        settings = list(zip(self.arms, self.rates, strict=True))
        found = [i for i, (a, r) in enumerate(settings) if a == arm and rate in (None, r)]
        if not found:
            known = ", ".join(f"{a!r} at {r:g}" for a, r in settings)
            raise ValueError(f"arm is {arm!r} and rate {rate}; expected one of {known}.")
        return found[0]


@dataclass(frozen=True)
class LayerViews(Result):
    """One network at each learning rate, without and with Batch Normalization, from weights of several sizes."""

    data: str
    arms: tuple[str, ...]
    sigmas: tuple[float, ...]  # standard deviations of the initial weights
    rates: tuple[float, ...]
    seed: int
    steps: np.ndarray  # (looks,)
    accuracy: np.ndarray  # (arms, sigmas, rates, looks): on test images, with running averages
    edges: np.ndarray  # (bins + 1,); what lies outside counts in the outer bins
    histogram: (
        np.ndarray
    )  # (arms, sigmas, rates, looks, layers, bins): inputs of the sigmoids, in training mode


@dataclass(frozen=True)
class Stability(Result):
    """How the input of each unit of the last hidden layer moved in training, from some step on."""

    first: int  # that step
    wander: np.ndarray  # (settings, seeds, units): range of the median over the mean spread
    distance: np.ndarray  # (settings, seeds, units): range of the median, in the input's own units
    stretch: np.ndarray  # (settings, seeds, units): largest spread over the smallest


@dataclass(frozen=True)
class ImageRows(Result):
    """Pictures in rows, each with its label."""

    labels: tuple[str, ...]
    images: np.ndarray  # (rows, columns, height, width): 0 white, 1 black
