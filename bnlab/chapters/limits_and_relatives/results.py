"""Results of Chapter 12: networks with one normalization or another, at one batch size or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from bnlab.experiments import Result

__all__ = ["ArmScores", "Leftovers", "ArmRates", "Reach", "arm_name"]


def arm_name(norm: str, m: int, makeup: str = "shuffled") -> str:
    """Name an arm: its normalization, its batch size, and what its batches hold unless they are shuffled.

    Examples
    --------
    >>> arm_name("batch", 64), arm_name("layer", 20, "two classes")
    ('batch 64', 'layer 20, two classes')
    """
    return f"{norm} {m}" + ("" if makeup == "shuffled" else f", {makeup}")


@dataclass(frozen=True)
class ArmRates(Result):
    """Accuracy on images kept aside over a grid of learning rates, for each arm."""

    arms: tuple[str, ...]
    lr: np.ndarray  # (arms, rates)
    accuracy: (
        np.ndarray
    )  # (arms, rates, seeds): evaluation mode, with the statistics that training left
    recalibrated: (
        np.ndarray
    )  # (arms, rates, seeds): with population statistics; NaN if there are none

    def best(self, arm: str, by: str = "accuracy") -> float:
        """Return the rate of the grid with the highest mean accuracy; an edge of the grid is an error.

        Examples
        --------
        >>> accuracy = np.array([[[0.8], [0.9], [0.7]]])
        >>> ArmRates(("layer 2",), np.array([[0.1, 0.2, 0.4]]), accuracy, accuracy).best("layer 2")
        0.2
        """
        i = self.arms.index(arm)
        k = int(getattr(self, by)[i].mean(axis=1).argmax())
        if k in (0, self.lr.shape[1] - 1):
            raise ValueError(
                f"the best rate of {arm!r}, {self.lr[i, k]:g}, is at the edge of its grid; expected one "
                f"inside. Move the grid."
            )
        return float(self.lr[i, k])


@dataclass(frozen=True)
class ArmScores(Result):
    """Networks after training, several seeds of each arm, judged on images that they never saw.

    Accuracies are those of evaluation mode unless the name says `within`: then the network stays in training
    mode and meets batches of its own size.
    """

    arms: tuple[str, ...]
    lr: np.ndarray  # (arms,)
    seeds: tuple[int, ...]
    accuracy: np.ndarray  # (arms, seeds): with the statistics that training left
    recalibrated: np.ndarray  # the same with population statistics; NaN if there are none to set
    within_shuffled: np.ndarray  # in shuffled batches
    within_two: np.ndarray  # in batches of two classes, half and half
    within_one: np.ndarray  # in batches of one class
    noisy: np.ndarray  # evaluation mode, images with noise
    noisy_recalibrated: np.ndarray  # the same with population statistics of noisy training images
    faded: np.ndarray  # evaluation mode, half the contrast on a grey background
    faded_recalibrated: np.ndarray  # the same with population statistics of faded training images
    moved: (
        np.ndarray
    )  # (arms, seeds): how far training moved the first layer's weights, relative to their length
    loss: np.ndarray  # (arms, seeds, windows): mean training loss in equal windows of the run

    def of(self, arm: str, what: str = "accuracy") -> np.ndarray:
        """Return one quantity of one arm, an entry a seed."""
        return getattr(self, what)[self.arms.index(arm)]

    @classmethod
    def joined(cls, parts: Sequence[ArmScores]) -> ArmScores:
        """Put the arms of several results of the same seeds side by side.

        Raises
        ------
        ValueError
            If the seeds differ: then nothing is paired.
        """
        if len({part.seeds for part in parts}) > 1:
            raise ValueError(
                f"the parts have seeds {[part.seeds for part in parts]}; expected the same ones. Run them again."
            )
        joined = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name not in ("arms", "seeds")
        }
        arms = tuple(arm for part in parts for arm in part.arms)
        return cls(arms=arms, seeds=parts[0].seeds, **joined)


@dataclass(frozen=True)
class Leftovers(Result):
    """What Batch Normalization makes of a value on average, over many random batches that hold it."""

    sizes: tuple[int, ...]
    x: np.ndarray  # (values,): in standard deviations of the population
    mean: np.ndarray  # (sizes, values)
    std: np.ndarray  # (sizes, values)
    rank: np.ndarray  # (values,): 2 F(x) - 1, with F the distribution of the population


@dataclass(frozen=True)
class Reach(Result):
    """Which inputs one output of each layer depends on in training: the one of example 1, channel 1."""

    layers: tuple[str, ...]
    shares: np.ndarray  # (layers, examples, channels, positions), bool
