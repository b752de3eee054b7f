"""Chapter 14: what float32 keeps of a mean and a variance, by the way they are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from bnlab import nn
from bnlab.chapters.making_it_fast import blocked
from bnlab.chapters.making_it_fast.results import ErrorSweep
from bnlab.experiments import Provenance

__all__ = ["METHODS", "STORED", "error_sweep", "repeat"]

EPS = 1e-5
STORED = "making_it_fast_errors.npz"


def _one_pass(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[x^2] - E[x]^2, which needs each value once."""
    mean = x.mean(axis=0)
    return mean, np.maximum((x * x).mean(axis=0) - mean * mean, 0)


def _welford(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Welford's update: one pass as well, around the mean so far."""
    mean, squares = np.zeros_like(x[0]), np.zeros_like(x[0])
    for count, row in enumerate(x, start=1):
        before = row - mean
        mean = mean + before / np.float32(count)
        squares += before * (row - mean)
    return mean, squares / np.float32(len(x))


def _two_pass(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First the mean, then the squares around it."""
    mean = x.mean(axis=0)
    return mean, ((x - mean) ** 2).mean(axis=0)


def _by_statistics(moments: Callable) -> Callable:
    def normalize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = moments(x)
        return (x - mean) / np.sqrt(var + np.float32(EPS)), var

    return normalize


def _by_torch(function: Callable) -> Callable:
    def normalize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        y = function(torch.from_numpy(x), mean, var, training=True, momentum=1.0, eps=EPS)
        return y.numpy(), var.numpy() * ((len(x) - 1) / len(x))

    return normalize


def _in_blocks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, zero = np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    _, (x_hat, inv_std) = blocked.forward(x, one, zero, EPS)
    return x_hat, (1 / inv_std**2 - EPS).astype(np.float32)


METHODS = {
    "E[x²] − E[x]²": _by_statistics(_one_pass),
    "Welford": _by_statistics(_welford),
    "two passes": _by_statistics(_two_pass),
    "torch": _by_torch(torch.nn.functional.batch_norm),
    "NumPy in blocks": _in_blocks,
    "bnlab.nn": _by_torch(nn.functional.batch_norm),
}


def error_sweep(
    *,
    means: Sequence[float] = tuple(10.0**p for p in range(7)),
    values: int = 4096,
    features: int = 8,
    seeds: Sequence[int] = tuple(range(8)),
    methods: Sequence[str] = tuple(METHODS),
) -> ErrorSweep:
    """Normalize float32 data of standard deviation 1 by each method, and compare with float64.

    Parameters
    ----------
    means : sequence of float
        Of the data.
    values, features : int
        N and C.
    seeds : sequence of int
    methods : sequence of str
        Keys of `METHODS`. torch and `bnlab` report their running variance after one batch at momentum 1.

    Returns
    -------
    ErrorSweep

    Examples
    --------
    >>> result = error_sweep(means=(1e4,), seeds=(0,), methods=("E[x²] − E[x]²", "bnlab.nn"))
    >>> bool(result.x_hat[0] > 1000 * result.x_hat[1])
    True
    """
    x_hat, variance = np.empty((2, len(methods), len(means), len(seeds)))
    for j, mean in enumerate(means):
        for k, seed in enumerate(seeds):
            noise = np.random.default_rng(seed).standard_normal((values, features))
            x = (mean + noise).astype(np.float32)
            wide = x.astype(np.float64)  # what was rounded before it came here is nobody's error
            var = wide.var(axis=0)
            exact = (wide - wide.mean(axis=0)) / np.sqrt(var + EPS)
            for i, method in enumerate(methods):
                found, found_var = METHODS[method](x)
                worst = np.abs(found - exact).max(axis=0) / np.abs(exact).max(axis=0)
                x_hat[i, j, k] = worst.max()
                variance[i, j, k] = np.abs(found_var / var - 1).max()
    return ErrorSweep(
        methods=tuple(methods),
        means=np.array(means, dtype=float),
        values=values,
        seeds=tuple(seeds),
        x_hat=x_hat,
        variance=variance,
    )


def repeat(sweep: ErrorSweep, origin: Provenance) -> dict[str, float]:
    """Repeat the first seed at two means, and return the largest difference of the errors, in powers of ten.

    The last digits of torch's and NumPy's sums depend on the processor, so nothing finer can be compared.
    """
    means = [mean for mean in (1e3, 1e5) if mean in sweep.means]
    again = error_sweep(means=means, values=sweep.values, seeds=sweep.seeds[:1])
    stored = sweep.x_hat[:, np.isin(sweep.means, means), :1]
    return {"x_hat, powers of ten": float(np.abs(np.log10(again.x_hat / stored)).max())}
