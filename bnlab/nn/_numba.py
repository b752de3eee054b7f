"""Batch Normalization by :mod:`bnlab.kernels`, for tensors whose values are in a CPU's memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnlab import kernels
from bnlab.nn._tensors import restored

_TYPES = {torch.float32: np.float32, torch.float64: np.float64}


def fits(x: Tensor, *parameters: Tensor | None) -> bool:
    """Tell whether the kernels are enabled, and made for tensors of these types."""
    return (
        kernels.enabled()
        and x.dtype in _TYPES
        and all(p is None or p.dtype is x.dtype for p in parameters)
    )


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, given: Tensor | None, eps: float
) -> tuple[Tensor, Tensor] | Tensor:
    """Return y for given statistics; y and the statistics of the batch if there are none."""
    x = input.contiguous()
    y = torch.empty_like(x)
    if given is not None:
        _run("inference", x, y, given, eps, gamma=gamma, beta=beta)
        return restored(y, input)
    statistics = x.new_empty((2, x.shape[1]), dtype=torch.float64)
    _run("forward", x, y, statistics, eps, gamma=gamma, beta=beta)
    return restored(y, input), statistics


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, statistics: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta."""
    x = input.contiguous()
    dx, dgamma, dbeta = torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    _run("backward", x, dx, statistics, eps, gamma=gamma, dy=dy, dgamma=dgamma, dbeta=dbeta)
    return restored(dx, input), dgamma, dbeta


def _run(
    kind: str, x: Tensor, out: Tensor, statistics: Tensor, eps: float, **others: Tensor | None
) -> None:
    """Hand addresses and sizes to the compiled code."""
    present = {name: t.contiguous() for name, t in others.items() if t is not None}
    numbers = {name: t.data_ptr() for name, t in present.items()}
    statistics = statistics.contiguous()
    n, c, mean = x.shape[0], x.shape[1], statistics.data_ptr()
    kernels.runner()(
        kind, _TYPES[x.dtype], torch.get_num_threads(), x=x.data_ptr(), out=out.data_ptr(),
        mean=mean, var=mean + 8 * c, n=n, c=c, s=x.numel() // (n * c), eps=eps, **numbers,
    )  # fmt: skip
