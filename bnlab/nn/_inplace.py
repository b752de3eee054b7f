"""Training mode in few of torch's own operations, on a CPU: for where there are no kernels.

A batch is gone through in slices that stay in the cache from one operation to the next, and memory is
used again in place, so nothing here can be traced, mapped over or differentiated. Squares are taken in
the type of the arithmetic; data whose squares it cannot hold are left to :mod:`bnlab.nn.autograd`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bnlab.nn._tensors import arithmetic, axes, count, restored

_SLICE = 2**17  # numbers in a slice: half a MiB of float32
_ONE_THREAD = 2**14  # torch adds up so many numbers to one on a single thread, so in one order


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor] | None:
    """Return y and the statistics of the batch, or None if squares do not fit.

    Data are centered twice: c = x - coarse, with the mean as rounded, and c - rest, the mean of c.
    """
    x, m = _in_order(input), count(input)
    coarse = _total(_sum(x_s) for (x_s,) in _slices(x)).div_(m)
    result, sums, squares = torch.empty(input.shape, dtype=x.dtype), [], []
    y = _in_order(result)
    for x_s, c in _slices(x, y):
        torch.sub(x_s, coarse, out=c)
        sums.append(_sum(c))
        squares.append(_sum(c * c))
    rest, square = _total(sums).div_(m), _total(squares).div_(m)
    info = torch.finfo(
        x.dtype
    )  # near its ends squares have lost digits: beside a usual eps, large ones only
    if not square.max().item() < info.max**0.8 or (eps < 1e-20 and square.min() < info.tiny**0.8):
        return None
    var = torch.addcmul(square, rest, rest, value=-1).clamp_(min=0)
    scale = (var + eps).rsqrt_()
    if gamma is not None:
        scale = scale * _row(gamma, x)
    for (c,) in _slices(y):
        c.sub_(rest)
        c.mul_(scale) if beta is None else torch.addcmul(_row(beta, x), c, scale, out=c)
    statistics = torch.stack((coarse.double() + rest, var.double())).view(2, -1)
    return restored(result, input), statistics


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, statistics: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta by the formula of :mod:`bnlab.nn.autograd`."""
    x, dy, m = _in_order(input), _in_order(dy), count(input)
    mean, var = _row(statistics, x)
    coarse, inv_std = mean.to(x.dtype), (var + eps).rsqrt_().to(x.dtype)
    rest = (mean - coarse).to(x.dtype)
    result, sums, products = torch.empty(input.shape, dtype=x.dtype), [], []
    dx = _in_order(result)
    for x_s, dy_s, x_hat in _slices(x, dy, dx):
        torch.sub(x_s, coarse, out=x_hat).sub_(rest).mul_(inv_std)
        sums.append(_sum(dy_s))
        products.append(_sum(x_hat * dy_s))
    dbeta, dgamma = _total(sums), _total(products)
    mean_dy, slope = dbeta / m, dgamma / -m
    scale = inv_std if gamma is None else inv_std * _row(gamma, x)
    for dy_s, x_hat in _slices(dy, dx):
        torch.addcmul(dy_s, x_hat, slope, out=x_hat).sub_(mean_dy).mul_(scale)
    return restored(result, input), dgamma.view(-1), dbeta.view(-1)


def _in_order(x: Tensor) -> Tensor:
    """Return x in the type of the arithmetic and in one order of memory, so that sums are the same in any."""
    x = x.to(arithmetic(x)).contiguous()
    return x.view(-1, 1) if x.shape[1] == 1 else x


def _row(value: Tensor, x: Tensor) -> Tensor:
    """Shape C values, or two rows of them, to broadcast against x."""
    value = value if value.dtype is torch.float64 else value.to(x.dtype)
    return value if x.dim() == 2 else value.view(*value.shape, *(1,) * (x.dim() - 2))


def _sum(x: Tensor) -> Tensor:
    return x.sum(0) if x.dim() == 2 else x.sum(axes(x)).view(-1, *(1,) * (x.dim() - 2))


def _total(sums: Iterable[Tensor]) -> Tensor:
    """Add up the sums of slices in float64."""
    first, *others = sums
    if not others:
        return first
    total = first.double()
    for value in others:
        total += value
    return total.to(first.dtype)


def _slices(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return slices of rows, the same for every number of threads."""
    rows, numbers = len(tensors[0]), tensors[0].numel()
    most = _ONE_THREAD if numbers == rows else _SLICE
    if numbers <= most:
        return [tensors]
    return zip(*(t.split(max(1, most * rows // numbers)) for t in tensors), strict=True)
