"""Batch Normalization by :mod:`bnlab.kernels`, for contiguous tensors on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnlab import kernels
from bnlab.nn._general import dense

_TYPES = {torch.float32: np.float32, torch.float64: np.float64}


def fits(x: Tensor, *parameters: Tensor | None) -> bool:
    """Tell whether the kernels are enabled, and made for these tensors."""
    return (
        kernels.enabled()
        and x.is_cpu
        and x.dtype in _TYPES
        and all(p is None or (p.dtype is x.dtype and p.is_contiguous()) for p in parameters)
    )


def forward(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, tuple[Tensor]]:
    """Return y, and the mean and biased variance of the batch as rows of one float64 tensor."""
    x = _memory(input)
    y, batch = torch.empty_like(x), x.new_empty((2, x.shape[1]), dtype=torch.float64)
    _run("forward", x, batch, out=y, gamma=gamma, beta=beta, eps=eps)
    return dense(y, like=input), (batch,)


def backward(
    dy: Tensor, input: Tensor, gamma: Tensor | None, batch: tuple[Tensor], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta."""
    x, dy = _memory(input), _memory(dy)
    dx, dgamma, dbeta = torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    _run("backward", x, batch[0], dy=dy, out=dx, gamma=gamma, dgamma=dgamma,
         dbeta=dbeta, eps=eps)  # fmt: skip
    return dense(dx, like=input), dgamma, dbeta


def inference(
    input: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """Return y for given statistics, float64."""
    x = _memory(input)
    y = torch.empty_like(x)
    _run("inference", x, None, mean=mean, var=var, out=y, gamma=gamma, beta=beta, eps=eps)
    return dense(y, like=input)


def move(
    running_mean: Tensor,
    running_var: Tensor,
    batch: tuple[Tensor],
    x: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place."""
    _run("move", x, batch[0], running_mean=running_mean, running_var=running_var,
         momentum=float(momentum))  # fmt: skip
    torch.autograd.graph.increment_version((running_mean, running_var))


def _memory(x: Tensor) -> Tensor:
    """Return x as its values lie in memory: in order, and with their signs."""
    return x.resolve_neg().contiguous()


def _run(kind: str, x: Tensor, batch: Tensor | None, **fields: Tensor | float | None) -> None:
    """Hand addresses and sizes to the compiled code."""
    n, c = x.shape[:2]
    numbers = {"x": x.data_ptr(), "n": n, "c": c, "s": x.numel() // (n * c)}
    if batch is not None:
        numbers["mean"] = batch.data_ptr()
        numbers["var"] = numbers["mean"] + 8 * c
    for name, value in fields.items():  # fields keeps the tensors until the code has run
        if value is not None:
            numbers[name] = value.data_ptr() if isinstance(value, Tensor) else value
    kernels.runner()(kind, _TYPES[x.dtype], torch.get_num_threads(), **numbers)
