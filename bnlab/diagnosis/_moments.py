"""What the inputs of a layer were: means, variances, and how sure they are when examples differ as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

FAR = 0.25
"""Standard deviations between two means that count as far."""
FAR_LOG = 0.5
"""Difference between two log variances that counts as far: a factor of 1.28 in scale."""
SURE = 5.0
"""Standard errors that a difference must have."""
MANY = 0.2
"""Share of the channels that makes a layer, unless one is very far."""


class Moments:
    """Collect the inputs of one layer, batch by batch."""

    def __init__(self) -> None:
        self.m: list[int] = []
        self.examples: list[int] = []
        self._rows: list[Tensor] = []

    def add(self, x: Tensor, channels: int | None, units: int = 0) -> None:
        """Take in one input of shape (N, C, *spatial), or (N, *, C) if C is last."""
        if x.dim() == 1:
            x = x.unsqueeze(0)
        if channels is not None and x.shape[1] != channels and x.shape[-1] == channels:
            x = x.movedim(-1, 1)
        m = x.numel() // x.shape[1] if x.numel() else 0
        self.m.append(m)
        if units > 1 and len(x) > units and len(x) % units == 0:
            x = _grouped(x, units)
        self.examples.append(len(x))
        if m == 0:
            return
        x = x.detach()
        if x.device.type == "mps":  # it has no float64
            x = x.cpu()
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if x.dim() == 2:
            self._rows.append(_vectors(x))
            return
        mean, inner = _per_example(x)  # (N, C)
        center = mean.mean(0)
        off = (mean - center) ** 2
        square = inner + off  # of each example, around the mean of the batch
        typical = square.mean(0)
        rest = ((square - typical) ** 2).sum(0)
        self._rows.append(torch.stack((center, typical, off.sum(0), rest)))

    def summary(self) -> Inputs | None:
        """Return the sums, None if there was nothing to sum."""
        if not self._rows:
            return None
        rows = torch.stack(self._rows).cpu()  # (batches, 4, C)
        pairs = [(m, n) for m, n in zip(self.m, self.examples, strict=True) if m]
        m, n = torch.tensor(pairs, dtype=torch.float64).T
        return Inputs(m, n, *rows.unbind(1))


def _grouped(x: Tensor, units: int) -> Tensor:
    """Fold the rows that come from one example of the batch into it, in the order that differs more."""
    rows = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
    k = len(rows) // units
    ways = (
        rows.unflatten(0, (units, k)).transpose(1, 2),
        rows.unflatten(0, (k, units)).permute(1, 2, 0, 3),
    )
    ways = [w.flatten(2) for w in ways]
    return max(ways, key=lambda w: float(w.float().mean(2).var(0).sum()))


def _vectors(x: Tensor) -> Tensor:
    """Return the row of a batch whose examples are one value for each channel."""
    center = x.mean(0)
    rest = x - center
    shift = rest.mean(0)  # what rounding left of a large mean
    off = rest.sub_(shift).square_()
    total = off.sum(0, dtype=torch.float64)
    typical = total / len(x)
    scatter = off.sub_(typical.to(off.dtype)).square_().sum(0, dtype=torch.float64)
    return torch.stack((center.double() + shift, typical, total, scatter))


def _per_example(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance within each example and channel, (N, C), in float64.

    Sums and squares take one fast reading each; around a mean that is large beside the spread they
    would lose the digits, so there the mean is taken off first.
    """
    x = x.flatten(2)
    mean = x.mean(2)
    square = torch.linalg.vector_norm(x, dim=2).double() ** 2 / x.shape[2]
    inner = (square - mean.double() ** 2).clamp(min=0)
    spread = inner.mean(0) + mean.double().var(0, correction=0)
    if bool((spread < 1e-3 * square.mean(0)).any()):
        rest = x - mean.unsqueeze(2)
        inner = torch.linalg.vector_norm(rest, dim=2).double() ** 2 / x.shape[2]
        shift = rest.mean(2).double()
        return mean.double() + shift, (inner - shift**2).clamp(min=0)
    return mean.double(), inner


@dataclass(frozen=True)
class Inputs:
    """The inputs of one layer over some batches: first axis batches, last axis channels."""

    m: Tensor
    """Values behind each statistic, for each batch."""
    n: Tensor
    """Examples of each batch."""
    means: Tensor
    """Mean of each batch."""
    squares: Tensor
    """Biased variance of each batch."""
    mean_scatter: Tensor
    """Sum over a batch's examples of (mean of the example - mean of the batch) squared."""
    square_scatter: Tensor
    """The same for the mean square of an example."""

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.means).all() and torch.isfinite(self.squares).all())

    @property
    def total(self) -> float:
        """Values over all batches."""
        return float(self.m.sum())

    @cached_property
    def mean(self) -> Tensor:
        return (self.m[:, None] * self.means).sum(0) / self.m.sum()

    @cached_property
    def var(self) -> Tensor:
        """Variance of all values, within and between batches, unbiased."""
        spread = self.squares + (self.means - self.mean) ** 2
        return (self.m[:, None] * spread).sum(0) / max(self.total - 1, 1)

    @cached_property
    def within(self) -> Tensor:
        """Variance within batches, unbiased: what running averages collect."""
        return (self.m[:, None] * self.squares).sum(0) / (self.m - 1).sum().clamp(min=1)

    @cached_property
    def scatter(self) -> Tensor:
        """Variance between the means of examples: what makes batch means differ."""
        return self._between(self.mean_scatter, self.means)

    @cached_property
    def scatter_of_squares(self) -> Tensor:
        return self._between(self.square_scatter, self.squares)

    def _between(self, scatter: Tensor, of_batches: Tensor) -> Tensor:
        degrees = float((self.n - 1).sum())
        if degrees >= 1:
            return scatter.sum(0) / degrees
        if len(of_batches) > 1:
            return of_batches.var(0) * self.n.mean()
        return torch.full_like(of_batches[0], float("inf"))  # one example tells nothing

    @cached_property
    def error(self) -> Tensor:
        """Variance of the error of `mean`, by the scatter of examples, or of batches if that is larger."""
        floor = self.scatter
        if self.n.sum() < 30:  # few examples: no channel may be surer than the average one
            ratio = (self.scatter / self.var.clamp(min=1e-300))[self.var > 0]
            floor = torch.maximum(floor, ratio.mean() * self.var) if len(ratio) else floor
        return self._error(floor, self.means)

    @cached_property
    def error_of_var(self) -> Tensor:
        return self._error(self.scatter_of_squares, self.squares)

    def _error(self, scatter: Tensor, of_batches: Tensor) -> Tensor:
        error = scatter / self.n.sum()
        if len(of_batches) > 2:
            error = torch.maximum(error, of_batches.var(0) / len(of_batches))
        return error

    def live(self, eps: float) -> Tensor:
        """Tell which channels vary at all."""
        return self.var >= 1e-3 * eps

    def effective(self, eps: float) -> float:
        """Return m_eff: how many independent values the mean of a batch is worth, the median over live channels."""
        live = self.live(eps) & (self.within > 0) & torch.isfinite(self.scatter)
        if not bool(live.any()):
            return float(self.m.median())
        worth = self.within[live] * self.n.median() / self.scatter[live].clamp(min=1e-300)
        return float(worth.clamp(1, float(self.m.median())).median())


@dataclass(frozen=True)
class Distance:
    """How far two sets of statistics lie apart, for each channel."""

    shift: Tensor
    """Difference of means, in standard deviations."""
    shift_error: Tensor
    spread: Tensor
    """Difference of log variances, the sign left in."""
    spread_error: Tensor
    live: Tensor

    def far(self, scale: float = 1.0, spread: Tensor | None = None) -> Tensor:
        """Tell which channels are far apart, beyond doubt; `scale` multiplies what counts as far."""
        log = self.spread.abs() if spread is None else spread
        mean = (self.shift > scale * FAR) & (self.shift > SURE * self.shift_error)
        var = (log > scale * FAR_LOG) & (log > SURE * self.spread_error)
        return (mean | var) & self.live

    def is_far(self, scale: float = 1.0) -> bool:
        """Tell whether that holds for the layer: for a share of its live channels, or for one by very much.

        That one must not have *less* variance than it should: a channel that is seldom active may have been silent.
        """
        many = max(1, MANY * int(self.live.sum()))
        return int(self.far(scale).sum()) >= many or bool(self.far(4.0, spread=self.spread).any())

    @property
    def size(self) -> Tensor:
        """The difference of each channel on one scale, on which 1 is far."""
        return torch.maximum(self.shift / FAR, self.spread.abs() / FAR_LOG)


def compared(
    inputs: Inputs,
    mean: Tensor,
    var: Tensor,
    eps: float,
    *,
    jitter: float = 0.0,
    other: Inputs | None = None,
) -> Distance:
    """Compare inputs with a mean and a variance.

    `jitter` is the share of the variance of one batch's statistic that the mean and variance carry as running
    averages; `other` are the inputs that they were taken from, if that is known.
    """
    size = float(inputs.n.median())
    noise = inputs.error + jitter * inputs.scatter / size
    noise_of_var = inputs.error_of_var + jitter * inputs.scatter_of_squares / size
    noise_of_log = noise_of_var / (inputs.var + eps) ** 2
    if other is not None:
        noise = noise + other.error
        noise_of_log = noise_of_log + other.error_of_var / (other.var + eps) ** 2
    width = (torch.maximum(inputs.var, var) + eps).sqrt()
    # Running averages collect the variance within batches, evaluation meets all of it: both are honest.
    near = torch.maximum(torch.minimum(var, inputs.var), torch.minimum(inputs.within, inputs.var))
    return Distance(
        shift=(inputs.mean - mean).abs() / width,
        shift_error=noise.sqrt() / width,
        spread=torch.log((near + eps) / (var + eps)),
        spread_error=noise_of_log.sqrt(),
        live=inputs.live(eps),
    )
