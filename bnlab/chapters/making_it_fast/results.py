"""Results of Chapter 14: errors of ways to sum, counted memory traffic, and measured speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result

__all__ = ["BOTH", "EnsembleSpeed", "ErrorSweep", "SpeedTable", "Traffic", "floor_bytes"]

BOTH = "forward + backward"
EPSILON = 1.2e-7  # of float32, in two digits


def floor_bytes(shape: Sequence[int], *, itemsize: int = 4) -> int:
    """Return the bytes that forward and backward cannot avoid: read x, write y; read x and dy, write dx.

    Examples
    --------
    >>> floor_bytes((10, 5))
    1000
    """
    return 5 * itemsize * int(np.prod(shape))


@dataclass(frozen=True)
class ErrorSweep(Result):
    """Errors in float32 against the mean of the data, whose standard deviation is 1."""

    methods: tuple[str, ...]
    means: np.ndarray  # (means,)
    values: int  # m, values of each feature
    seeds: tuple[int, ...]
    x_hat: np.ndarray  # (methods, means, seeds): max |error of x_hat| / max |x_hat|
    variance: np.ndarray  # (methods, means, seeds): largest relative error of the variance

    @property
    def worst(self) -> np.ndarray:
        """The largest error of x_hat over the seeds, in units of float32's epsilon, (methods, means)."""
        return self.x_hat.max(axis=2) / EPSILON


@dataclass(frozen=True)
class Traffic(Result):
    """Counted work of one way to write forward and backward, with an ideal cache of some size."""

    form: str
    shape: tuple[int, ...]
    cache: int  # bytes
    calls: int  # operations on whole arrays, or on blocks of them
    flops: int
    touched: int  # bytes that the operations read and write
    moved: int  # bytes that miss the cache

    def transfers(self, of: str = "moved") -> float:
        """Return what was "moved" or "touched" in arrays of the size of x; 5 cannot be avoided."""
        return 5 * getattr(self, of) / floor_bytes(self.shape)


@dataclass(frozen=True)
class SpeedTable(Result):
    """Speed of several implementations beside torch's own, all measured in one run."""

    contestants: tuple[str, ...]
    baseline: str
    passes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    threads: tuple[int, ...]
    rounds: int
    milliseconds: np.ndarray  # (threads, passes, shapes, contestants): medians; NaN: did not run
    ratio: np.ndarray  # the same axes: median over rounds of the ratio to the baseline
    low: np.ndarray  # its quartiles
    high: np.ndarray
    bandwidth: np.ndarray  # (threads, shapes): bytes/s of a copy of arrays of that size
    peak: np.ndarray  # (threads,): flop/s of a matrix product
    growth_contestants: tuple[str, ...]
    growth_rows: np.ndarray  # (sizes,): N, at the first of growth_fixed features
    growth_features: np.ndarray  # (sizes,): C, at the second of growth_fixed rows
    growth_fixed: tuple[int, int]
    rows_milliseconds: np.ndarray  # (contestants, sizes), forward and backward, one thread
    features_milliseconds: np.ndarray  # (contestants, sizes)
    folding_pairs: tuple[str, ...]
    folding_ratio: (
        np.ndarray
    )  # (threads, pairs, 3): time folded / not folded; quartile, median, quartile

    def of(self, values: np.ndarray, contestant: str, forward: str, threads: int) -> np.ndarray:
        """Return one contestant's numbers for all shapes.

        Parameters
        ----------
        values : numpy.ndarray
            One of the arrays with axes (threads, passes, shapes, contestants).
        contestant, forward, threads
            An entry of `contestants`, of `passes` and of `threads`.

        Returns
        -------
        numpy.ndarray
            Shape (shapes,).
        """
        t, p = self.threads.index(threads), self.passes.index(forward)
        return values[t, p, :, self.contestants.index(contestant)]

    def floor_share(self, contestant: str, *, threads: int) -> np.ndarray:
        """Return the share of the time of both passes that five array transfers alone would take, (shapes,).

        A transfer is timed by a copy, of an array of the same size and in the same run.
        """
        floor = np.array([floor_bytes(shape) for shape in self.shapes])
        seconds = floor / self.bandwidth[self.threads.index(threads)]
        return 1e3 * seconds / self.of(self.milliseconds, contestant, BOTH, threads)


@dataclass(frozen=True)
class EnsembleSpeed(Result):
    """Time of training many networks in one batched run, beside one at a time; all measured in one run.

    A cost is the time of one seed and step over that of torch eager in the same round. The last axis of
    what has a spread holds the quartile, the median and the quartile over the rounds.
    """

    arms: tuple[str, ...]
    rounds: int
    flops: int  # of the matrix products of one seed and step
    eager_microseconds: np.ndarray  # (arms,): median of torch eager, one network at a time
    members: np.ndarray  # (sizes,): networks in one batched run
    cost: np.ndarray  # (arms, sizes, 3)
    vmap_members: np.ndarray  # (few,)
    vmap_cost: np.ndarray  # (arms, few, 3): the same by torch.func.vmap
    chosen: int  # members of what follows
    product_rate: float  # flop/s of the bare matrix products
    share: np.ndarray  # (arms, 3): of that rate that is reached
    processes: int
    machine: np.ndarray  # (arms, 3): seed-steps a second of all processes over one eager process
