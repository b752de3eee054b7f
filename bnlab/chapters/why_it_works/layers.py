r"""Chapter 11: layers that keep one part of Batch Normalization, or bring back what an explanation says it removes.

Many networks run side by side: axis 0 is the member, axis 1 the example. So values are (S, m, units), weights
(S, inputs, units), and :math:`\gamma`, :math:`\beta` and statistics (S, 1, units).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

__all__ = [
    "BatchNorm",
    "DetachedBatchNorm",
    "GhostBatchNorm",
    "HeldBatchNorm",
    "Linear",
    "MatchedNoise",
    "Noise",
    "NoisyBatchNorm",
]


class Linear(nn.Module):
    """Multiply each member's values by its own weights: z = h W + b."""

    def __init__(self, layers: Sequence[nn.Linear], *, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = (
            nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))
            if bias
            else None
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return z, (S, m, units)."""
        z = torch.bmm(h, self.weight)
        return z if self.bias is None else z + self.bias


class BatchNorm(nn.Module):
    r"""Batch Normalization of each member's values by their own batch.

    .. math:: y = \gamma\, \frac{x - \mu_\mathcal{B}}{\sqrt{\sigma^2_\mathcal{B} + \epsilon}} + \beta
    """

    def __init__(self, seeds: Sequence[int], units: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(len(seeds), 1, units))
        self.beta = nn.Parameter(torch.zeros(len(seeds), 1, units))

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the variance and the mean that normalize x."""
        return torch.var_mean(x, dim=-2, correction=0, keepdim=True)

    def x_hat(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized values."""
        var, mean = self.statistics(x)
        return (x - mean) * (var + self.eps).rsqrt()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        return self.gamma * self.x_hat(x) + self.beta


class DetachedBatchNorm(BatchNorm):
    """Batch Normalization whose statistics are constants for the gradient."""

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the statistics of the batch, as constants."""
        return super().statistics(x.detach())


class HeldBatchNorm(BatchNorm):
    r"""Normalize by statistics of earlier batches, as constants.

    .. math:: \mu_t = (1 - a)\, \mu_{t-1} + a\, \mu_\mathcal{B}

    The first batch sets the statistics to its own. With a = 0 they stay ("frozen"); above, they follow ("running").
    """

    def __init__(self, seeds: Sequence[int], units: int, *, momentum: float):
        super().__init__(seeds, units)
        self.momentum, self.held = momentum, None

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the held statistics, moved towards those of the batch."""
        now = super().statistics(x.detach())
        a = 1.0 if self.held is None else self.momentum
        self.held = tuple(
            new.lerp(old, 1 - a) for new, old in zip(now, self.held or now, strict=True)
        )
        return self.held


class GhostBatchNorm(BatchNorm):
    """Normalize each group of `size` examples by its own statistics, as a smaller batch would be."""

    def __init__(self, seeds: Sequence[int], units: int, *, size: int):
        super().__init__(seeds, units)
        self.size = size

    def x_hat(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized values, of the shape of x."""
        return super().x_hat(x.unflatten(1, (-1, self.size))).flatten(1, 2)


class Noise(nn.Module):
    r"""Shift and stretch each unit by random numbers that are drawn anew at each pass.

    .. math:: y = e^{a u} x + a v s, \qquad u, v \sim \mathcal N(0, 1) \text{ for each unit}

    Here s is the unit's standard deviation in the batch, as a constant.
    """

    def __init__(self, seeds: Sequence[int], units: int, *, strength: float):
        super().__init__()
        self.strength, self.random = strength, _Random(seeds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        u, v = self.random((2, 1, x.shape[-1]), x)
        std = x.detach().std(dim=-2, correction=0, keepdim=True)
        return (self.strength * u).exp() * x + self.strength * v * std


class NoisyBatchNorm(BatchNorm):
    """Batch Normalization, then `Noise`."""

    def __init__(self, seeds: Sequence[int], units: int, *, strength: float):
        super().__init__(seeds, units)
        self.noise = Noise(seeds, units, strength=strength)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y, of the shape of x."""
        return self.noise(super().forward(x))


class MatchedNoise(GhostBatchNorm):
    r"""Normalize by the whole batch, and add the noise that statistics of groups of g examples would have.

    .. math:: \widehat x' = e^{u}\, (\widehat x - v), \qquad
              u \sim \mathcal N(0, \tfrac{1}{2g}), \quad v \sim \mathcal N(0, \tfrac1g)
              \text{ for each group and unit}

    The mean of g normal numbers has variance 1/g, and the logarithm of their standard deviation about 1/(2g).
    """

    def __init__(self, seeds: Sequence[int], units: int, *, size: int):
        super().__init__(seeds, units, size=size)
        self.random = _Random(seeds)

    def x_hat(self, x: torch.Tensor) -> torch.Tensor:
        """Return the noisy normalized values, of the shape of x."""
        groups = BatchNorm.x_hat(self, x).unflatten(1, (-1, self.size))
        u, v = self.random((2, groups.shape[1], 1, x.shape[-1]), x)
        groups = (u / (2 * self.size) ** 0.5).exp() * (groups - v / self.size**0.5)
        return groups.flatten(1, 2)


class _Random:
    """Standard normal numbers for each member from its own seed, whoever its neighbours are."""

    def __init__(self, seeds: Sequence[int]):
        self.rngs = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Return (first of shape, S, rest of shape), two such arrays for a shape that begins with 2."""
        drawn = np.stack([rng.standard_normal(shape) for rng in self.rngs], axis=1)
        return torch.from_numpy(drawn).to(like)
