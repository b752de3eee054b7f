"""Chapter 10: deep networks of sigmoids, with and without normalization, each at its best learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from bnlab import data, models, training
from bnlab.experiments._store import run_and_save
from bnlab.results import DepthRates

__all__ = ["NETS", "at_best_rate", "depth_rates", "store_depths"]

NETS = {"plain": None, "BN": nn.BatchNorm1d}


def depth_rates(
    activation: str = "sigmoid",
    *,
    depths: Sequence[int] = (1, 2, 3, 5, 8, 12),
    lrs: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
    nets: Sequence[str] = tuple(NETS),
    width: int = 100,
    steps: int = 400,
    batch_size: int = 60,
    seeds: Sequence[int] = tuple(range(5)),
) -> DepthRates:
    """Train fully connected networks of each depth on digits at each learning rate.

    Parameters
    ----------
    activation : {"sigmoid", "relu", "tanh"}
        The nonlinearity.
    depths : sequence of int
        Numbers of hidden layers.
    lrs : sequence of float
        Learning rates; plain gradient steps.
    nets : sequence of str
        Names in `NETS`.
    width, steps, batch_size : int
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    DepthRates

    Examples
    --------
    >>> depth_rates(depths=(1,), lrs=(1.0,), nets=("BN",), steps=5, seeds=(0,)).accuracy.shape
    (1, 1, 1, 1)
    """
    train, test = data.load("mnist-5k"), data.load("mnist-5k", split="test")
    accuracy = np.empty((len(nets), len(depths), len(seeds), len(lrs)))
    for i, j, k, l in np.ndindex(accuracy.shape):  # noqa: E741
        model = models.mlp(
            [train.x.shape[1], *[width] * depths[j], 10],
            activation=activation,
            norm=NETS[nets[i]],
            init_std="he" if activation == "relu" else "xavier",
            seed=seeds[k],
        )
        training.train(model, train, lr=lrs[l], steps=steps, batch_size=batch_size, seed=seeds[k])
        accuracy[i, j, k, l] = training.accuracy(model, test)
    return DepthRates(
        activation=activation,
        steps=steps,
        nets=tuple(nets),
        depths=tuple(depths),
        seeds=tuple(seeds),
        lr=np.array(lrs, dtype=float),
        accuracy=accuracy,
    )


def at_best_rate(result: DepthRates) -> tuple[np.ndarray, np.ndarray]:
    """Return each net's accuracy at the learning rate with the best mean over the seeds, and that rate.

    Parameters
    ----------
    result : DepthRates

    Returns
    -------
    accuracy : numpy.ndarray, shape (nets, depths, seeds)
    lr : numpy.ndarray, shape (nets, depths)

    Examples
    --------
    >>> found = np.array([[[[0.1, 0.9, 0.2], [0.2, 0.7, 0.3]]]])
    >>> accuracy, lr = at_best_rate(DepthRates("", 1, ("BN",), (1,), (0, 1), np.array([1, 2, 4]), found))
    >>> accuracy.tolist(), lr.tolist()
    ([[[0.9, 0.7]]], [[2]])
    """
    chosen = result.accuracy.mean(axis=2).argmax(axis=-1)
    index = chosen[:, :, None, None]
    return np.take_along_axis(result.accuracy, index, axis=-1)[..., 0], result.lr[chosen]


def store_depths(path: str | Path, **config) -> Path:
    """Measure `depth_rates` on this machine and save it with its provenance.

    Parameters
    ----------
    path : str or Path
        Ends in ``.npz``.
    **config
        Arguments of `depth_rates`.

    Returns
    -------
    Path
        The file written.
    """
    return run_and_save(
        path,
        lambda: depth_rates(**config),
        lambda r: (r.seeds, config | {"depths": list(r.depths), "lrs": r.lr.tolist()}),
    )
