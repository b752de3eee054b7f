"""Results of Chapter 11: what each explanation predicts, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class Arms(Result):
    """Short training runs of several kinds of network, each over its own learning rates.

    What was not asked for is NaN.
    """

    arms: tuple[str, ...]
    lr: np.ndarray  # (arms, rates)
    limit: float  # a run is stable if it ends with a loss below this
    loss: (
        np.ndarray
    )  # (seeds, arms, rates): mean over the last steps, infinite if it was ever not finite
    drift: np.ndarray  # (seeds, arms, rates): how far a unit's inputs move in one step
    held_out: np.ndarray  # (seeds, arms, rates): cross-entropy on digits that were not trained on

    @classmethod
    def join(cls, parts: Sequence[Arms]) -> Arms:
        """Return the arms of several results with the same seeds and numbers of rates as one."""
        joined = {
            n: np.concatenate([getattr(p, n) for p in parts], axis=1)
            for n in ("loss", "drift", "held_out")
        }
        names = tuple(name for part in parts for name in part.arms)
        return cls(names, np.concatenate([part.lr for part in parts]), parts[0].limit, **joined)

    def best(self, arm: str, measure: str = "loss") -> int:
        """Return the number of the rate with the smallest geometric mean over the seeds."""
        return int(np.log(getattr(self, measure)[:, self.arms.index(arm)]).mean(axis=0).argmin())

    def of(self, arm: str, measure: str = "loss") -> np.ndarray:
        """Return one measure of an arm that has a single rate, (seeds,)."""
        values = getattr(self, measure)[:, self.arms.index(arm)]
        if values.shape[1] != 1:
            raise ValueError(f"{arm} has {values.shape[1]} rates; expected one. Index them.")
        return values[:, 0]

    def largest_stable(self, arm: str) -> np.ndarray:
        """Return for each seed where, from its best rate upward, the loss first crosses the limit, (seeds,).

        Between the last stable rate and the next, the logarithm of the rate is interpolated. It is the largest rate of
        the grid where none crosses, and NaN where no rate was stable.

        Examples
        --------
        >>> loss = np.array([[[2.0, 0.5, 1.5]]])
        >>> Arms(("a",), np.array([[1.0, 4, 16]]), 1.0, loss, loss, loss).largest_stable("a")
        array([8.])
        """
        i = self.arms.index(arm)
        return np.array([_crossing(self.lr[i], loss, self.limit) for loss in self.loss[:, i]])


def _crossing(lr: np.ndarray, loss: np.ndarray, limit: float) -> float:
    start = int(np.argmin(loss))
    if not loss[start] < limit:
        return np.nan
    above = np.flatnonzero(loss[start:] >= limit)
    if not above.size:
        return float(lr[-1])
    bad = start + int(above[0])
    rise = loss[bad] - loss[bad - 1]
    share = (limit - loss[bad - 1]) / rise if np.isfinite(rise) else 0.0
    return float(lr[bad - 1] * (lr[bad] / lr[bad - 1]) ** share)


@dataclass(frozen=True)
class Smoothness(Result):
    """Range of the loss along a gradient step, and the largest change of the gradient per distance.

    The last axis holds the two measures.
    """

    inputs: tuple[str, ...]
    origins: tuple[str, ...]  # how the network was trained
    checkpoints: tuple[int, ...]  # after so many steps
    own: (
        np.ndarray
    )  # (seeds, inputs, origins, checkpoints, 2): as trained, by the same learning rates
    twin: (
        np.ndarray
    )  # (seeds, inputs, origins, checkpoints, plain or BN, 2): one function, equal distances


@dataclass(frozen=True)
class Decay(Result):
    """The loss with weight decay, with the growing rate that should equal it, and with neither."""

    eps: np.ndarray  # (epsilons,)
    lr: float
    weight_decay: float
    kinds: tuple[str, ...]
    loss: np.ndarray  # (seeds, epsilons, kinds, steps)

    def gap(self, kind: str) -> np.ndarray:
        """Return the relative difference of a kind's loss from that with decay, (seeds, epsilons, steps)."""
        ours, theirs = (self.loss[:, :, self.kinds.index(k)] for k in (kind, "decay"))
        return np.abs(ours - theirs) / theirs


@dataclass(frozen=True)
class Depth(Result):
    """Batches of independent inputs in deep random networks, layer by layer."""

    arms: tuple[str, ...]
    examples: int
    rank: np.ndarray  # (seeds, arms, layers): effective rank of the activations
    square: np.ndarray  # (seeds, arms, layers): mean square of the activations
