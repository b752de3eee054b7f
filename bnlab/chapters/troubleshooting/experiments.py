"""Chapter 13: small experiments that take seconds: accumulated gradients, padding, and layers written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnlab import data, models, training
from bnlab.chapters.troubleshooting.results import Accumulation

__all__ = ["TwoPaths", "accumulation", "handwritten", "over_valid"]


def accumulation(
    *,
    batch_size: int = 60,
    parts: Sequence[int] = (1, 2, 4, 15),
    seeds: Sequence[int] = tuple(range(16)),
) -> Accumulation:
    r"""Compare the average gradient of micro-batches with the gradient of the whole batch.

    .. math:: \frac{\lVert \bar g_\text{micro} - g \rVert}{\lVert g \rVert}

    In float64, for the first batch of digits of a fresh network with two hidden layers of 50 ReLU.

    Parameters
    ----------
    batch_size : int
        Of the whole batch.
    parts : sequence of int
        Numbers of micro-batches; each must divide `batch_size`.
    seeds : sequence of int

    Returns
    -------
    Accumulation

    Examples
    --------
    >>> float(accumulation(parts=(1, 2), seeds=(0,)).distance[0, 0])
    0.0
    """
    x, y = training.tensors(data.mnist_5k(), dtype=torch.float64)
    distance = np.empty((2, len(seeds), len(parts)))
    updates = []
    for i, seed in enumerate(seeds):
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:batch_size]
        for k, norm in enumerate((nn.BatchNorm1d, None)):
            build = lambda norm=norm, seed=seed: models.mlp(  # noqa: E731
                (784, 50, 50, 10), activation="relu", norm=norm, seed=seed
            ).double()
            whole = _gradient(build(), x[rows], y[rows], 1)
            for j, n in enumerate(parts):
                model = build()
                given = _gradient(model, x[rows], y[rows], n)
                distance[k, i, j] = float((given - whole).norm() / whole.norm())
                if i == k == 0:
                    updates.append(int(model.get_buffer("norm1.num_batches_tracked")))
    return Accumulation(
        batch_size=batch_size, parts=tuple(parts), distance=distance[0], without=distance[1],
        updates=np.array(updates),
    )  # fmt: skip


def _gradient(model: nn.Module, x: Tensor, y: Tensor, parts: int) -> Tensor:
    for xs, ys in zip(x.chunk(parts), y.chunk(parts), strict=True):
        (functional.cross_entropy(model(xs), ys) / parts).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class TwoPaths(nn.Module):
    """One convolution for two inputs, normalized for the first only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized map of `x` and the plain one of `y`."""
        return self.bn(self.conv(x)), self.conv(y)


def over_valid(norm: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    """Normalize sequences over their valid positions only; the padding becomes zero.

    Parameters
    ----------
    norm : torch.nn.BatchNorm1d
        With C features.
    x : torch.Tensor
        Shape (N, C, L).
    valid : torch.Tensor
        Booleans of shape (N, L), True where there is data.

    Returns
    -------
    torch.Tensor
        Shape (N, C, L).

    Examples
    --------
    >>> x = torch.tensor([[[1.0, 2.0, 0.0]], [[6.0, 0.0, 0.0]]])
    >>> y = over_valid(nn.BatchNorm1d(1), x, x[:, 0] != 0)
    >>> [round(value, 2) for value in y[0, 0].tolist() + y[1, 0].tolist()]
    [-0.93, -0.46, 0.0, 1.39, 0.0, 0.0]
    """
    rows = x.movedim(1, -1)
    y = torch.zeros_like(rows)
    y[valid] = norm(rows[valid])
    return y.movedim(-1, 1)


def handwritten(*, batch_size: int = 8, features: int = 100, seed: int = 0) -> dict[str, float]:
    """Return how far five slips take a layer written by hand from torch's, as a largest distance.

    The first three are of outputs in training, in standard deviations of the output; the last two of
    the running variance and the running mean after one batch, for inputs with mean 1 and variance 1.

    Parameters
    ----------
    batch_size, features, seed
        Of a batch of normal numbers.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> slips = handwritten()
    >>> slips["none"] < 1e-12, slips["unbiased variance"] > 0.1
    (True, True)
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch_size, features, generator=generator, dtype=torch.float64) + 1
    layer = nn.BatchNorm1d(features).double()
    expected = layer(x).detach()
    mean, var = x.mean(0), x.var(0, correction=0)
    forms: dict[str, Callable[[], Tensor]] = {
        "none": lambda: (x - mean) / (var + 1e-5).sqrt(),
        "unbiased variance": lambda: (x - mean) / (x.var(0) + 1e-5).sqrt(),
        "eps outside the root": lambda: (x - mean) / (var.sqrt() + 1e-5),
        "eps 1e-3": lambda: (x - mean) / (var + 1e-3).sqrt(),
    }
    found = {name: float((form() - expected).abs().max()) for name, form in forms.items()}
    running_var = 0.9 + 0.1 * var
    found["stored variance biased"] = float((running_var - layer.running_var).abs().max())
    reversed_mean = 0.1 * torch.zeros(features) + 0.9 * mean
    found["momentum reversed"] = float((reversed_mean - layer.running_mean).abs().max())
    return found
