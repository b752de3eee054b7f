"""Chapter 12: train many networks of one architecture side by side, with any layer that normalizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from bnlab import training
from bnlab.data import Dataset

__all__ = ["batches", "train_many"]


def batches(y: np.ndarray, *, m: int, makeup: str, seed: int) -> Iterator[torch.Tensor]:
    """Yield the row numbers of one batch after another, without end.

    Parameters
    ----------
    y : array of int, shape (N,)
        The class of each row.
    m : int
        Rows of a batch.
    makeup : {"shuffled", "two classes", "one class"}
        What a batch holds: whatever comes, half of one random class and half of another, or a single random class.
    seed : int

    Examples
    --------
    >>> y = np.arange(40) % 4
    >>> sorted(np.bincount(y[next(batches(y, m=6, makeup="two classes", seed=0))], minlength=4).tolist())
    [0, 0, 3, 3]
    """
    if makeup == "shuffled":
        yield from training.shuffled_batches(len(y), batch_size=m, seed=seed)
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(y == k) for k in np.unique(y)]
    count = {"two classes": 2, "one class": 1}[makeup]
    while True:
        classes = rng.choice(len(rows), count, replace=False)
        yield torch.tensor(
            np.concatenate([rng.choice(rows[k], m // count, replace=False) for k in classes])
        )


def train_many(
    build: Callable[[int], nn.Module],
    data: Dataset,
    *,
    lrs: Sequence[float],
    seeds: Sequence[int],
    m: int,
    steps: int,
    makeup: str = "shuffled",
    fixed: Sequence[str] = (),
    windows: int = 20,
    before_step: Callable[[int, nn.Module], None] | None = None,
) -> tuple[list[nn.Module], np.ndarray]:
    """Train one network for each rate and seed by plain gradient steps, all in one batched run.

    `bnlab.training.Ensemble` is faster, but knows Batch Normalization alone.

    Parameters
    ----------
    build : callable
        ``build(seed)`` returns a new network.
    data : Dataset
    lrs, seeds : sequence
        Learning rates, and seeds of the weights and the batches.
    m, steps : int
        Batch size and number of steps.
    makeup : str
        As for `batches`.
    fixed : sequence of str
        Names of layers that keep their initial parameters.
    windows : int
        The loss is averaged in so many equal windows.
    before_step : callable, optional
        Called as ``before_step(t, network)``; what it sets in this network's layers holds for all networks.

    Returns
    -------
    networks : list of torch.nn.Module
        In evaluation mode, rate after rate, and seed after seed within a rate.
    loss : array of shape (networks, windows)

    Examples
    --------
    >>> from bnlab import data, models
    >>> build = lambda seed: models.mlp([784, 8, 10], norm=nn.LayerNorm, seed=seed)
    >>> networks, loss = train_many(
    ...     build, data.mnist_5k(), lrs=[0.5], seeds=[0, 1], m=20, steps=40, windows=2)
    >>> len(networks), bool((loss[:, 1] < loss[:, 0]).all())
    (2, True)
    """
    networks = [build(seed) for _ in lrs for seed in seeds]
    template = networks[0].train()
    parameters, buffers = stack_module_state(networks)
    moving = {k: v for k, v in parameters.items() if k.rpartition(".")[0] not in fixed}
    rate = torch.tensor(lrs).repeat_interleave(len(seeds))
    x, y = training.tensors(data, dtype=next(iter(parameters.values())).dtype)
    streams = [batches(data.y, m=m, makeup=makeup, seed=seed) for seed in seeds]

    def loss_of_one(parameters, buffers, x, y):
        return functional.cross_entropy(functional_call(template, (parameters, buffers), (x,)), y)

    losses = torch.empty(steps, len(networks))
    for t in range(steps):
        if before_step is not None:
            before_step(t, template)
        rows = torch.stack([next(stream) for stream in streams]).repeat(len(lrs), 1)
        loss = vmap(loss_of_one)(parameters, buffers, x[rows], y[rows])
        gradients = torch.autograd.grad(loss.sum(), list(moving.values()))
        losses[t] = loss.detach()
        with torch.no_grad():
            for value, gradient in zip(moving.values(), gradients, strict=True):
                value -= rate.view(-1, *[1] * (value.dim() - 1)) * gradient
    for i, network in enumerate(networks):
        network.load_state_dict({k: v[i] for k, v in (parameters | buffers).items()})
        network.eval()
    cut = np.array_split(losses.double().numpy(), windows)
    return networks, np.stack([part.mean(axis=0) for part in cut], axis=1)
