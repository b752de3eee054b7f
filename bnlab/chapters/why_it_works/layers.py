"""Chapter 11: layers that keep one part of Batch Normalization, or add to it what an explanation says it removes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["GhostBatchNorm", "HeldBatchNorm", "MatchedNoise", "Noise", "Residual"]


class HeldBatchNorm(nn.BatchNorm1d):
    r"""Normalize by statistics of earlier batches, as constants.

    .. math:: y = \gamma\, \frac{x - \mu_t}{\sqrt{\sigma^2_t + \epsilon}} + \beta, \qquad
              \mu_t = (1 - a)\, \mu_{t-1} + a\, \mu_\mathcal{B}

    The first batch sets :math:`\mu_0` and :math:`\sigma^2_0` to its own. With a momentum a of 0 they stay
    ("frozen"); above 0 they follow what the layer receives ("running").

    Examples
    --------
    >>> layer = HeldBatchNorm(1, momentum=0.0)
    >>> [layer(torch.tensor([[0.0], [2.0]]) + shift).round().flatten().tolist() for shift in (0, 5)]
    [[-1.0, 1.0], [4.0, 6.0]]
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        if self.training:
            with torch.no_grad():
                var, mean = torch.var_mean(input, dim=0, correction=0)
                a = self.momentum if int(self.num_batches_tracked) else 1.0
                self.running_mean.lerp_(mean, a)
                self.running_var.lerp_(var, a)
                self.num_batches_tracked += 1
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class Noise(nn.Module):
    r"""Shift and stretch each unit by random numbers that are drawn anew at each pass.

    .. math:: y = e^{a u} x + a v s + b, \qquad u, v \sim \mathcal N(0, 1) \text{ for each unit}

    Here s is the unit's standard deviation in the batch, as a constant, and b a bias that is learned, if asked for.

    Examples
    --------
    >>> layer, x = Noise(2, strength=0.0), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> torch.equal(layer(x), x)
    True
    """

    def __init__(self, units: int, *, strength: float, bias: bool = False):
        super().__init__()
        self.strength, self.rng = strength, np.random.default_rng(0)
        self.bias = nn.Parameter(torch.zeros(units)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        u, v = _normal(self.rng, (2, 1, x.shape[1]), x)
        std = x.detach().std(dim=0, correction=0)
        y = (self.strength * u).exp() * x + self.strength * v * std
        return y if self.bias is None else y + self.bias


class GhostBatchNorm(nn.BatchNorm1d):
    r"""Normalize each group of `size` examples by its own statistics, as a smaller batch would be.

    Examples
    --------
    >>> layer = GhostBatchNorm(1, size=2)
    >>> layer(torch.tensor([[0.0], [1.0], [5.0], [9.0]])).detach().round().flatten().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(self, units: int, *, size: int):
        super().__init__(units)
        self.size = size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        groups = input.unflatten(0, (-1, self.size))
        var, mean = torch.var_mean(groups, dim=1, correction=0, keepdim=True)
        x_hat = (groups - mean) * (var + self.eps).rsqrt()
        return x_hat.flatten(0, 1) * self.weight + self.bias


class MatchedNoise(nn.BatchNorm1d):
    r"""Normalize by the whole batch, and add the noise that statistics of groups of `size` examples g would have.

    .. math:: y = \gamma\, e^{u}\, (\widehat x - v) + \beta, \qquad
              u \sim \mathcal N(0, \tfrac{1}{2g}), \quad v \sim \mathcal N(0, \tfrac1g)
              \text{ for each group and unit}

    The mean of g normal numbers has variance 1/g, and the logarithm of their standard deviation about 1/(2g).

    Examples
    --------
    >>> layer = MatchedNoise(3, size=4)
    >>> layer(torch.randn(8, 3)).shape
    torch.Size([8, 3])
    """

    def __init__(self, units: int, *, size: int):
        super().__init__(units)
        self.size, self.rng = size, np.random.default_rng(0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        x_hat = functional.batch_norm(input, None, None, training=True, eps=self.eps)
        groups = x_hat.unflatten(0, (-1, self.size))
        u, v = _normal(self.rng, (2, len(groups), 1, input.shape[1]), input)
        groups = (u / (2 * self.size) ** 0.5).exp() * (groups - v / self.size**0.5)
        return groups.flatten(0, 1) * self.weight + self.bias


class Residual(nn.Module):
    r"""Put a way around each layer of a stack but the first and the last.

    .. math:: h_1 = W_1 x, \qquad h_k = h_{k-1} + a_k\, W_k\, \mathrm{ReLU}(\mathrm{norm}(h_{k-1}))

    Each share :math:`a_k` is learned if it begins at 0 (De & Smith's SkipInit), and constant otherwise.

    Examples
    --------
    >>> stack = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> Residual(stack, 1.0)(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """

    def __init__(self, stack: nn.Sequential, share: float):
        super().__init__()
        parts: list[list[nn.Module]] = [[]]
        for layer in stack:
            parts[-1].append(layer)
            if isinstance(layer, nn.Linear):
                parts.append([])
        self.first, *middle, self.last = (nn.Sequential(*part) for part in parts[:-1])
        self.middle = nn.ModuleList(middle)
        self.share = nn.Parameter(torch.full((len(middle),), share), requires_grad=share == 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs, (m, units of the last layer)."""
        return self.last(self.hidden(x)[-1])

    def hidden(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return what stands on the way around after the first layer and after each block."""
        states = [self.first(x)]
        for part, share in zip(self.middle, self.share, strict=True):
            states.append(states[-1] + share * part(states[-1]))
        return states


def _normal(rng: np.random.Generator, shape: tuple[int, ...], like: torch.Tensor) -> Any:
    """Draw standard normal numbers; NumPy's generator can be copied with the layer, torch's cannot."""
    return torch.from_numpy(rng.standard_normal(shape)).to(like)
