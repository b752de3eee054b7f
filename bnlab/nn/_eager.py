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
    sum_cc: Tensor
    inv_std: Tensor
    scale: Tensor


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Statistics]:
    """Return y and the statistics of the batch."""
    x = _plain(input)
    gamma, beta, m = _aligned(gamma, x), _aligned(beta, x), x.numel() // x.shape[1]
    if _is_small(x):
        coarse = _sum(x) / _number(m, x.dtype)
        y = x - coarse
        fine = _residual(_sum(y), m)
        y.sub_(fine)
        batch = _statistics(coarse, fine, _sum(y * y), gamma, m, eps)
        _affine(y, batch.scale, beta)
    else:
        y, sums = torch.empty_like(x), []
        coarse = _total(_sum(x_s) for (x_s,) in _slices(x)) / m
        for x_s, c in _slices(x, y):
            torch.sub(x_s, coarse, out=c)
            sums.append((_sum(c), _sum(c * c)))
        sum_c, sum_cc = map(_total, zip(*sums, strict=True))
        fine = _residual(sum_c, m)
        # The sum of (c - fine)^2, before that is known: the slices are in the cache only once.
        sum_cc = (sum_cc - m * fine.double() ** 2).clamp_(min=0).to(x.dtype)
        batch = _statistics(coarse, fine, sum_cc, gamma, m, eps)
        for (c,) in _slices(y):
            _affine(c.sub_(fine), batch.scale, beta)
    return _restored(y, input), batch


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, batch: Sequence[Tensor], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta: dx = gamma / s * (dy - mean(dy) - c * mean(dy * c) / s^2)."""
    x, dy = _plain(input), _plain(dy)
    coarse, fine, _, inv_std, scale = batch
    m = x.numel() // x.shape[1]
    if _is_small(x):
        c = (x - coarse).sub_(fine)
        dbeta, dgamma = _sum(dy), _sum(dy * c) * inv_std
        slope = dgamma * inv_std
        mean_dy = dbeta / _number(m, x.dtype)
        dx = torch.addcmul(dy, c, slope, value=-1 / m, out=c).sub_(mean_dy).mul_(scale)
    else:
        dx, sums = torch.empty_like(x), []
        for x_s, dy_s, c in _slices(x, dy, dx):
            torch.sub(x_s, coarse, out=c)
            sums.append((_sum(dy_s), _sum(c * dy_s)))
        dbeta, sum_dy_c = map(_total, zip(*sums, strict=True))
        dgamma = (sum_dy_c - fine * dbeta) * inv_std
        slope = dgamma * inv_std / m
        mean_dy = dbeta / m - fine * slope  # c still has its mean, fine
        for dy_s, c in _slices(dy, dx):
            torch.addcmul(dy_s, c, slope, value=-1, out=c).sub_(mean_dy).mul_(scale)
    return _restored(dx, input), _flat(dgamma), _flat(dbeta)


def _residual(sum_c: Tensor, m: int) -> Tensor:
    # An infinite mean is no less infinite for the NaN that it leaves.
    return (sum_c / _number(m, sum_c.dtype)).nan_to_num_(0.0, torch.inf, -torch.inf)


def _statistics(
    coarse: Tensor, fine: Tensor, sum_cc: Tensor, gamma: Tensor | None, m: int, eps: float
) -> Statistics:
    inv_std = torch.add(_number(eps, sum_cc.dtype), sum_cc, alpha=1 / m).rsqrt_()
    return Statistics(coarse, fine, sum_cc, inv_std, inv_std if gamma is None else inv_std * gamma)


def move(
    running_mean: Tensor,
    running_var: Tensor,
    batch: Statistics,
    x: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place, the variance to the unbiased one."""
    free = x.numel() // x.shape[1] - 1  # degrees of freedom
    coarse, fine, sum_cc = _flat(batch.coarse), _flat(batch.fine), _flat(batch.sum_cc)
    dtype = coarse.dtype
    if type(momentum) is float and running_mean.dtype is running_var.dtype is dtype:
        running_mean.lerp_(coarse, momentum).add_(fine, alpha=momentum)
        running_var.mul_(_number(1 - momentum, dtype)).add_(sum_cc, alpha=momentum / free)
    else:
        move_one(running_mean, coarse.double() + fine, momentum)
        move_one(running_var, sum_cc.double() / free, momentum)


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
    dbeta = _total(_sum(dy_s) for (dy_s,) in _slices(dy))
    dgamma = _total(_sum((x_s - mean).mul_(dy_s)) for x_s, dy_s in _slices(x, dy)) * inv_std
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
        return torch.tensor(value, dtype=dtype, device="cpu")


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


def _total(sums: Iterable[Tensor]) -> Tensor:
    """Add up in float64."""
    first, *rest = sums
    total = first.double()
    for value in rest:
        total += value
    return total.to(first.dtype)


def _is_small(x: Tensor) -> bool:
    return x.numel() <= (_SERIAL if x.shape[1] == 1 else _SLICE)


def _slices(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return the batch as slices of rows, the same slices for every number of threads."""
    first = tensors[0]
    most = _SERIAL if first.shape[1] == 1 else _SLICE
    rows = max(1, most * len(first) // first.numel())
    return zip(*(t.split(rows) for t in tensors), strict=True)
