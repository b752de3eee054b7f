"""Batch Normalization in few operations, for tensors that are only to be computed with.

What it does cannot be traced, mapped over or differentiated again: it reuses memory in place. Sums
run in the type of the arithmetic. What keeps them exact is to center the data twice: c = x - m, with
m the mean as rounded, then c minus its own mean, which is all that the rounding of m has left.

A large batch is gone through a slice at a time, so that what one operation writes, the next one
finds in the cache; the sums of the slices add up in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bnlab.nn._general import arithmetic, dense
from bnlab.nn._general import move as move_one

_SLICE = 2**17  # numbers in a slice: half a MiB of float32
_SERIAL = 2**14  # numbers that torch sums on one thread even if it has more


class Statistics(NamedTuple):
    """What x is normalized by, a value for each feature; the mean is coarse + fine."""

    coarse: Tensor
    fine: Tensor
    var: Tensor


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Statistics]:
    """Return y and the statistics of the batch."""
    x = _plain(input)
    m = x.numel() // x.shape[1]
    coarse = (_total([_sum(x_s) for (x_s,) in _slices(x)]) / m).to(x.dtype)
    y = torch.empty_like(x)
    sums_c, sums_cc = [], []
    for x_s, c in _slices(x, y):
        torch.sub(x_s, coarse, out=c)
        sums_c.append(_sum(c))
        sums_cc.append(_sum(c * c))
    # An infinite mean is no less infinite for the NaN that it leaves.
    fine = (_total(sums_c) / m).nan_to_num_(0.0, torch.inf, -torch.inf)
    var = torch.addcmul(_total(sums_cc) / m, fine, fine, value=-1).clamp_(min=0)
    fine, var = fine.to(x.dtype), var.to(x.dtype)
    scale, beta = _scale(_inv_std(var, eps, x), gamma, x), _aligned(beta, x)
    for (c,) in _slices(y):
        _affine(c.sub_(fine), scale, beta)
    return _restored(y, input), Statistics(coarse, fine, var)


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, batch: Sequence[Tensor], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta: dx = gamma / s * (dy - mean(dy) - c * mean(dy * c) / s^2)."""
    x, dy = _plain(input), _plain(dy)
    coarse, fine, var = batch
    m = x.numel() // x.shape[1]
    dx = torch.empty_like(x)
    sums_dy, sums_dy_c = [], []
    for x_s, dy_s, c in _slices(x, dy, dx):
        torch.sub(x_s, coarse, out=c).sub_(fine)
        sums_dy.append(_sum(dy_s))
        sums_dy_c.append(_sum(c * dy_s))
    inv_std = _inv_std(var, eps, x)
    dbeta, dgamma = _total(sums_dy), _total(sums_dy_c) * inv_std
    mean_dy, slope = (dbeta / m).to(x.dtype), (dgamma * inv_std / m).to(x.dtype)
    scale = _scale(inv_std, gamma, x)
    for dy_s, c in _slices(dy, dx):
        torch.addcmul(dy_s, c, slope, value=-1, out=c).sub_(mean_dy).mul_(scale)
    return _restored(dx, input), dgamma.reshape(-1), dbeta.reshape(-1)


def move(
    running_mean: Tensor,
    running_var: Tensor,
    batch: Statistics,
    x: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place, the variance to the unbiased one."""
    m = x.numel() // x.shape[1]
    new = batch.coarse + batch.fine, batch.var * (m / (m - 1))
    for running, value in zip((running_mean, running_var), new, strict=True):
        if running.dtype == value.dtype and not isinstance(momentum, Tensor):
            running.lerp_(value.view(running.shape), momentum)
        else:
            move_one(running, value, momentum)


def inference(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """Return y for given statistics, float64."""
    x = _plain(input)
    mean, scale = _aligned(mean.to(x.dtype), x), _scale(_inv_std(var, eps, x), gamma, x)
    beta, y = _aligned(beta, x), torch.empty_like(x)
    for x_s, c in _slices(x, y):
        _affine(torch.sub(x_s, mean, out=c), scale, beta)
    return _restored(y, input)


def inference_backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx = gamma / s * dy, dgamma and dbeta for given statistics."""
    x, dy = _plain(input), _plain(dy)
    mean, inv_std = _aligned(mean.to(x.dtype), x), _inv_std(var, eps, x)
    dbeta = _total([_sum(dy_s) for (dy_s,) in _slices(dy)])
    dgamma = _total([_sum((x_s - mean).mul_(dy_s)) for x_s, dy_s in _slices(x, dy)]) * inv_std
    dx = _restored(dy * _scale(inv_std, gamma, x), input)
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)


def _plain(x: Tensor) -> Tensor:
    """Return x in one order of memory, so that its sums are the same in any, and one type."""
    x = x.to(arithmetic(x)).contiguous()
    # A sum to a single number would depend on the number of threads; short ones do not.
    return x.view(-1, 1) if x.shape[1] == 1 else x


def _restored(result: Tensor, input: Tensor) -> Tensor:
    """Give a result the shape, type and order of memory that torch gives it."""
    if result.shape != input.shape:
        result = result.view(input.shape)
    return dense(result.to(input.dtype), like=input)


def _aligned(value: Tensor | None, x: Tensor) -> Tensor | None:
    """Shape C values to broadcast against x."""
    if value is None or (value.dim() == 1 and x.dim() == 2):
        return value
    return value.reshape(-1, *(1,) * (x.dim() - 2))


def _inv_std(var: Tensor, eps: float, x: Tensor) -> Tensor:
    return _aligned((var + eps).rsqrt_().to(x.dtype), x)


def _scale(inv_std: Tensor, gamma: Tensor | None, x: Tensor) -> Tensor:
    return inv_std if gamma is None else inv_std * _aligned(gamma, x)


def _affine(c: Tensor, scale: Tensor, beta: Tensor | None) -> None:
    if beta is None:
        c.mul_(scale)
    else:
        torch.addcmul(beta.to(c.dtype), c, scale, out=c)


def _sum(x: Tensor) -> Tensor:
    """Sum over all axes but the features'; the result broadcasts against x."""
    if x.dim() == 2:
        return x.sum(0)
    return x.sum((0, *range(2, x.dim())), keepdim=True)


def _total(sums: Sequence[Tensor]) -> Tensor:
    total, *rest = sums
    if rest:
        total = total.double()
        for value in rest:
            total += value
    return total


def _slices(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return the batch as slices of rows, the same slices for every number of threads."""
    first = tensors[0]
    most = _SERIAL if first.shape[1] == 1 else _SLICE
    if first.numel() <= most:
        return (tensors,)
    rows = max(1, most * len(first) // first.numel())
    return zip(*(t.split(rows) for t in tensors), strict=True)
