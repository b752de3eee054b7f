"""The layer in few of torch's own operations, on a CPU: for where there are no kernels.

A batch is gone through in slices that stay in the cache from one operation to the next, and memory is
used again in place, so nothing here can be traced, mapped over or differentiated. Squares are taken in
the type of the arithmetic; data whose squares it cannot hold are left to :mod:`bnlab.nn.autograd`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bnlab.nn._tensors import arithmetic, count, restored, scale_by, split_mean

_SLICE = 2**17  # numbers in a slice: half a MiB of float32
_ONE_THREAD = 2**14  # torch adds up so many numbers to one on a single thread, so in one order


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, given: Tensor | None, eps: float
) -> tuple[Tensor, Tensor] | Tensor | None:
    """Return y for given statistics; y and the statistics of the batch if there are none.

    Return None where squares do not fit their type.
    """
    x = _flat(input)
    found = _moments(x, count(input), eps) if given is None else _parts(given, x)
    if found is None:
        return None
    y, line = _result(input), _line(*found, gamma, beta, eps, x)
    for x_s, y_s in _slices(x, y.view_as(x)):
        _affine(x_s, *line, out=y_s)
    y = restored(y, input)
    if given is not None:
        return y
    coarse, rest, var = found
    return y, torch.stack((coarse.double() + rest, var.double()))


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, statistics: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta by the formula of :mod:`bnlab.nn.autograd`."""
    x, dy, m = _flat(input), _flat(dy), count(input)
    dx, line = _result(input), _line(*_parts(statistics, x), None, None, eps, x)
    sums, products = [], []
    for x_s, dy_s, x_hat in _slices(x, dy, dx.view_as(x)):
        _affine(x_s, *line, out=x_hat)
        sums.append(_sum(dy_s))
        products.append(_sum(x_hat * dy_s))
    dbeta, dgamma = _total(sums), _total(products)
    scale = line[1] if gamma is None else line[1] * _row(gamma, x)
    mean_dy, slope = _row(dbeta / m, x), _row(dgamma / m, x)
    for dy_s, x_hat in _slices(dy, dx.view_as(x)):
        torch.sub(dy_s, x_hat.mul_(slope), out=x_hat).sub_(mean_dy).mul_(scale)
    return restored(dx, input), dgamma, dbeta


def _moments(x: Tensor, m: int, eps: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the mean of each feature in two parts and its biased variance, or None.

    Data are centered twice: c = x - coarse, with the mean as rounded, and c - rest, the mean of c.
    """
    coarse = (_total(_sum(x_s) for (x_s,) in _slices(x)) / m).to(x.dtype)
    sums, squares = [], []
    for (x_s,) in _slices(x):
        c = x_s - _row(coarse, x)
        sums.append(_sum(c))
        squares.append(_sum(c.mul_(c)))
    rest, square = _total(sums) / m, _total(squares) / m
    # Near the ends of their type squares have lost digits; beside a usual eps only large ones count.
    info = torch.finfo(x.dtype)
    if not square.max().item() < info.max**0.8:
        return None
    if eps < 1e-20 and square.min().item() < info.tiny**0.8:
        return None
    return coarse, rest, torch.addcmul(square, rest, rest, value=-1).clamp_(min=0)


def _parts(statistics: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, var = statistics.unbind()
    return *split_mean(mean, x), var


def _line(
    coarse: Tensor, rest: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return coarse, scale and shift of y = (x - coarse) * scale + shift."""
    scale = scale_by(var, gamma, eps)
    shift = -rest * scale if beta is None else torch.addcmul(beta, rest, scale, value=-1)
    return _row(coarse, x), _row(scale, x), _row(shift, x)


def _affine(x: Tensor, coarse: Tensor, scale: Tensor, shift: Tensor, *, out: Tensor) -> None:
    torch.sub(x, coarse, out=out).mul_(scale).add_(shift)


def _flat(x: Tensor) -> Tensor:
    """Return x as (N, C) or (N, C, S), in the type of the arithmetic and in one order of memory.

    Then sums are the same for any layout.
    """
    x = x.to(arithmetic(x)).contiguous()
    return x.view(-1, 1) if x.shape[1] == 1 else x.flatten(2) if x.dim() > 2 else x


def _result(input: Tensor) -> Tensor:
    return torch.empty(input.shape, dtype=arithmetic(input))


def _row(value: Tensor, x: Tensor) -> Tensor:
    """Shape C values to broadcast against x, and give them its type."""
    value = value.to(x.dtype)
    return value if x.dim() == 2 else value.unsqueeze(1)


def _sum(x: Tensor) -> Tensor:
    return x.sum(0 if x.dim() == 2 else (0, 2))


def _total(sums: Iterable[Tensor]) -> Tensor:
    """Add up the sums of slices, in float64 if there are several."""
    first, *others = sums
    return sum(others, first.double()) if others else first


def _slices(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Return slices of rows, the same for every number of threads."""
    rows, numbers = tensors[0].shape[0], tensors[0].numel()
    most = _ONE_THREAD if numbers == rows else _SLICE
    if numbers <= most:
        return (tensors,)
    return zip(*(t.split(max(1, most * rows // numbers)) for t in tensors), strict=True)
