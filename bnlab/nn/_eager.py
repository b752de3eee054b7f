"""Batch Normalization in few operations, for tensors that are only to be computed with.

What it does cannot be traced, mapped over or differentiated again: it reuses memory in place. Sums
run in the type of the arithmetic. What keeps them exact is to center the data twice: c = x - m, with
m the mean as rounded, then c minus its own mean, which is all that the rounding of m has left.

A large batch is gone through a slice at a time, so that what one operation writes, the next one
finds in the cache; the sums of the slices add up in float64. A small batch takes as long as Python
and torch need to start its operations, about a microsecond each, so there are as few as can be, and
none with a plain number as an operand, of which torch would make a tensor first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
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
    inv_std: Tensor


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Statistics]:
    """Return y and the statistics of the batch."""
    x = _plain(input)
    m = _number(x.numel() // x.shape[1], x.dtype)
    coarse = _total([_sum(x_s) for (x_s,) in _slices(x)]) / m
    y = torch.empty_like(x)
    fine = _total([_sum(torch.sub(x_s, coarse, out=c)) for x_s, c in _slices(x, y)]) / m
    # An infinite mean is no less infinite for the NaN that it leaves.
    fine.nan_to_num_(0.0, torch.inf, -torch.inf)
    var = _total([_sum(c.sub_(fine) * c) for (c,) in _slices(y)]) / m
    inv_std = _inv_std(var, eps)
    scale, beta = _scale(inv_std, gamma, x), _aligned(beta, x)
    for (c,) in _slices(y):
        _affine(c, scale, beta)
    return _restored(y, input), Statistics(coarse, fine, var, inv_std)


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, batch: Sequence[Tensor], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta: dx = gamma / s * (dy - mean(dy) - c * mean(dy * c) / s^2)."""
    x, dy = _plain(input), _plain(dy)
    m = x.numel() // x.shape[1]
    coarse, fine, _, inv_std = batch
    dx = torch.empty_like(x)
    sums_dy_c = [
        _sum(torch.sub(x_s, coarse, out=c).sub_(fine) * dy_s) for x_s, dy_s, c in _slices(x, dy, dx)
    ]
    dbeta = _total([_sum(dy_s) for (dy_s,) in _slices(dy)])
    dgamma = _total(sums_dy_c) * inv_std
    mean_dy, slope, scale = dbeta / _number(m, x.dtype), dgamma * inv_std, _scale(inv_std, gamma, x)
    for dy_s, c in _slices(dy, dx):
        torch.addcmul(dy_s, c, slope, value=-1 / m, out=c).sub_(mean_dy).mul_(scale)
    return _restored(dx, input), _flat(dgamma), _flat(dbeta)


def move(
    running_mean: Tensor,
    running_var: Tensor,
    batch: Statistics,
    x: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place, the variance to the unbiased one."""
    m = x.numel() // x.shape[1]
    coarse, fine, var = (_flat(value) for value in batch[:3])
    simple = (
        running_mean.dtype == running_var.dtype == var.dtype and running_mean.shape == var.shape
    )
    if simple and isinstance(momentum, float):
        running_mean.lerp_(coarse, momentum).add_(fine, alpha=momentum)
        running_var.lerp_(var, momentum).add_(var, alpha=momentum / (m - 1))
    else:
        move_one(running_mean, coarse.double() + fine, momentum)
        move_one(running_var, var.double() * (m / (m - 1)), momentum)


def inference(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """Return y for given statistics, float64."""
    x = _plain(input)
    mean, inv_std = _constants(x, mean, var, eps)
    scale, beta, y = _scale(inv_std, gamma, x), _aligned(beta, x), torch.empty_like(x)
    for x_s, c in _slices(x, y):
        _affine(torch.sub(x_s, mean, out=c), scale, beta)
    return _restored(y, input)


def inference_backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx = gamma / s * dy, dgamma and dbeta for given statistics."""
    x, dy = _plain(input), _plain(dy)
    mean, inv_std = _constants(x, mean, var, eps)
    dbeta = _total([_sum(dy_s) for (dy_s,) in _slices(dy)])
    dgamma = _total([_sum((x_s - mean).mul_(dy_s)) for x_s, dy_s in _slices(x, dy)]) * inv_std
    dx = _restored(dy * _scale(inv_std, gamma, x), input)
    return dx, _flat(dgamma), _flat(dbeta)


def _plain(x: Tensor) -> Tensor:
    """Return x in one order of memory, so that its sums are the same in any, and one type."""
    x = _typed(x, arithmetic(x)).contiguous()
    # A sum to a single number would depend on the number of threads; short ones do not.
    return x.view(-1, 1) if x.shape[1] == 1 else x


def _restored(result: Tensor, input: Tensor) -> Tensor:
    """Give a result the shape, type and order of memory that torch gives it."""
    if result.shape != input.shape:
        result = result.view(input.shape)
    return dense(_typed(result, input.dtype), like=input)


def _constants(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    inv_std = _inv_std(var, eps)
    return _aligned(mean, x), _aligned(inv_std, x)


def _aligned(value: Tensor | None, x: Tensor) -> Tensor | None:
    """Give C values the type of x, and a shape to broadcast against it."""
    if value is None:
        return None
    value = _typed(value, x.dtype)
    return value if x.dim() == 2 else value.reshape(-1, *(1,) * (x.dim() - 2))


def _flat(value: Tensor) -> Tensor:
    return value if value.dim() == 1 else value.reshape(-1)


def _typed(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value if value.dtype is dtype else value.to(dtype)


@lru_cache
def _number(value: float, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype)


def _inv_std(var: Tensor, eps: float) -> Tensor:
    return (var + _number(eps, var.dtype)).rsqrt_()


def _scale(inv_std: Tensor, gamma: Tensor | None, x: Tensor) -> Tensor:
    return inv_std if gamma is None else inv_std * _aligned(gamma, x)


def _affine(c: Tensor, scale: Tensor, beta: Tensor | None) -> None:
    if beta is None:
        c.mul_(scale)
    else:
        torch.addcmul(beta, c, scale, out=c)


def _sum(x: Tensor) -> Tensor:
    """Sum over all axes but the features'; the result broadcasts against x."""
    if x.dim() == 2:
        return x.sum(0)
    return x.sum((0, *range(2, x.dim())), keepdim=True)


def _total(sums: Sequence[Tensor]) -> Tensor:
    """Add up, in float64 unless there is nothing to add."""
    if len(sums) == 1:
        return sums[0]
    total = sums[0].double()
    for value in sums[1:]:
        total += value
    return total.to(sums[0].dtype)


def _slices(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return the batch as slices of rows, the same slices for every number of threads."""
    first = tensors[0]
    most = _SERIAL if first.shape[1] == 1 else _SLICE
    if first.numel() <= most:
        return (tensors,)
    rows = max(1, most * len(first) // first.numel())
    return zip(*(t.split(rows) for t in tensors), strict=True)
