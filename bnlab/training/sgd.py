"""Train a model by plain stochastic gradient descent, the same way every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab._validate import integer, number
from bnlab.data import Dataset

__all__ = ["History", "accuracy", "seed_everything", "train"]


@dataclass(frozen=True)
class History:
    """One training run: what happened, and the settings that made it.

    Attributes
    ----------
    loss : numpy.ndarray
        Mini-batch loss before each step, shape (steps,).
    lr : float
        The learning rate.
    steps, batch_size, seed : int
        Number of steps, examples of a mini-batch, seed of the shuffling.
    """

    loss: np.ndarray
    lr: float
    steps: int
    batch_size: int
    seed: int


def seed_everything(seed: int) -> None:
    """Set the seeds of Python, NumPy and torch, for code that draws from their global generators.

    Everything in bnlab takes a seed of its own and needs no call of this.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1.

    Examples
    --------
    >>> seed_everything(3); first = torch.rand(1)
    >>> seed_everything(3); bool(torch.rand(1) == first)
    True
    """
    integer("seed", seed, low=0, high=2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the reader's own code may use it)
    torch.manual_seed(seed)


def train(
    model: nn.Module,
    data: Dataset,
    *,
    lr: float,
    steps: int,
    batch_size: int,
    seed: int,
    on_step: Callable[[int, nn.Module], None] | None = None,
) -> History:
    r"""Train a classifier in place with cross-entropy and plain gradient steps.

    .. math:: \Theta \leftarrow \Theta - \eta\, \frac{1}{m} \sum_{i=1}^{m}
              \frac{\partial \ell(x_i, \Theta)}{\partial \Theta}

    Each epoch shuffles the examples and drops the last, incomplete batch, so that every batch has
    exactly :math:`m` = `batch_size` of them.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (m, features) to logits (m, classes). It is changed, and left in training mode. Features
        are given to it in the dtype of its parameters: after ``model.double()``, in float64.
    data : bnlab.data.Dataset
        Features of shape (N, features) and integer classes of shape (N,).
    lr : float
        The learning rate :math:`\eta`, above 0.
    steps : int
        Number of steps, at least 0.
    batch_size : int
        From 1 to N.
    seed : int
        Seed of the shuffling; with the model's seed it fixes the whole run.
    on_step : callable, optional
        Called as ``on_step(t, model)`` for t = 0 (before the first step) up to `steps`.

    Returns
    -------
    History
        A loss that is not finite is recorded as it is; nothing stops the run.

    Raises
    ------
    TypeError
        If an argument is not of the kind above.
    ValueError
        If `lr`, `steps`, `batch_size` (1 to the number of examples) or `seed` is out of range.

    Examples
    --------
    >>> from bnlab.data import mnist_5k
    >>> model = nn.Linear(784, 10)
    >>> history = train(model, mnist_5k(), lr=0.1, steps=20, batch_size=60, seed=0)
    >>> bool(history.loss[-1] < history.loss[0])
    True
    """
    x, y = tensors(data, dtype=_dtype(model))
    if not number("lr", lr) > 0:
        raise ValueError(f"lr is {lr}; expected a finite number above 0. Try lr=0.1.")
    steps = integer("steps", steps, low=0)
    batch_size = integer("batch_size", batch_size, low=1, high=len(x))
    seed = integer("seed", seed, low=0)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    batches = shuffled_batches(len(x), batch_size=batch_size, seed=seed)
    loss = np.empty(steps)
    for t in range(steps):
        if on_step is not None:
            on_step(t, model)
        rows = next(batches)
        value = functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss[t] = value.item()
    if on_step is not None:
        on_step(steps, model)
    return History(loss=loss, lr=float(lr), steps=steps, batch_size=batch_size, seed=seed)


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Return the share of examples a model classifies right in evaluation mode; its mode is kept.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (N, features) to logits (N, classes).
    data : bnlab.data.Dataset
        What to classify.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError
        If an argument is not of the kind above.

    Examples
    --------
    >>> from bnlab.data import mnist_5k
    >>> model = nn.Linear(784, 10)
    >>> 0.0 <= accuracy(model, mnist_5k()) <= 1.0
    True
    """
    x, y = tensors(data, dtype=_dtype(model))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return float((model(x).argmax(dim=1) == y).float().mean())
    finally:
        model.train(was_training)


def tensors(
    data: Dataset, *, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features in the given floating dtype and classes as int64.

    Parameters
    ----------
    data : bnlab.data.Dataset
        Features and classes.
    dtype : torch.dtype
        That of the features.

    Returns
    -------
    x, y : torch.Tensor
        Copies, of shape (N, features) and (N,).

    Raises
    ------
    TypeError
        If `data` is no Dataset.

    Examples
    --------
    >>> from bnlab.data import wine
    >>> x, y = tensors(wine())
    >>> x.dtype, y.dtype
    (torch.float32, torch.int64)
    """
    if not isinstance(data, Dataset):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a bnlab.data.Dataset, which names what it "
            "holds. Make one: Dataset(name=..., x=..., y=..., feature_names=..., ...)."
        )
    return torch.tensor(data.x, dtype=dtype), torch.tensor(data.y, dtype=torch.int64)


def _dtype(model: nn.Module) -> torch.dtype:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module.")
    return next((p.dtype for p in model.parameters()), torch.float32)


def shuffled_batches(n: int, *, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the row numbers of one batch after another, without end.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int
        Rows of a batch; what is left over at the end of an epoch is dropped.
    seed : int
        Seed of the shuffling.

    Yields
    ------
    torch.Tensor
        Row numbers of shape (batch_size,).

    Examples
    --------
    >>> batches = shuffled_batches(4, batch_size=2, seed=0)
    >>> sorted(torch.cat([next(batches), next(batches)]).tolist())
    [0, 1, 2, 3]
    """
    for epoch in shuffled_epochs(n, batch_size=batch_size, seed=seed):
        yield from epoch


def shuffled_epochs(n: int, *, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the row numbers of one epoch after another, without end.

    Parameters
    ----------
    n, batch_size, seed : int
        As for :func:`shuffled_batches`.

    Yields
    ------
    torch.Tensor
        Row numbers of shape (batches, batch_size).

    Examples
    --------
    >>> next(shuffled_epochs(7, batch_size=2, seed=0)).shape
    torch.Size([3, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(n, generator=generator)
        yield order[: n - n % batch_size].view(-1, batch_size)
