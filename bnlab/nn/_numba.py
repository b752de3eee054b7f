"""Batch Normalization by :mod:`bnlab.kernels`, as operations that torch knows by name.

What records or replays the operations of torch sees these, too; it would not see a bare call of
compiled code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bnlab import kernels
from bnlab.nn._tensors import restored

_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
_LIBRARY = torch.library.Library("bnlab", "DEF")


def fits(x: Tensor, *parameters: Tensor | None) -> bool:
    """Tell whether the kernels are enabled, and made for tensors of these types."""
    return (
        kernels.enabled()
        and x.dtype in _TYPES
        and all(p is None or p.dtype is x.dtype for p in parameters)
    )


def _operation(signature: str) -> Callable[[Callable], Callable]:
    """Make a function an operation of torch for tensors on a CPU."""

    def decorate(function: Callable) -> Callable:
        name = _LIBRARY.define(signature)
        _LIBRARY.impl(name, function, "CPU")
        return getattr(torch.ops.bnlab, name).default

    return decorate


def forward(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, given: Tensor | None, eps: float
) -> tuple[Tensor, Tensor] | Tensor:
    """Return y for given statistics; y and the statistics of the batch if there are none."""
    if given is not None:
        return restored(_inference(x, gamma, beta, given, float(eps)), x)
    y, statistics = _forward(x, gamma, beta, float(eps))
    return restored(y, x), statistics


def backward(
    dy: Tensor, x: Tensor, gamma: Tensor | None, statistics: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta."""
    dx, dgamma, dbeta = _backward(dy, x, gamma, statistics, float(eps))
    return restored(dx, x), dgamma, dbeta


@_operation("forward(Tensor x, Tensor? gamma, Tensor? beta, float eps) -> (Tensor, Tensor)")
def _forward(x, gamma, beta, eps):
    y = torch.empty(x.shape, dtype=x.dtype)
    statistics = torch.empty((2, x.shape[1]), dtype=torch.float64)
    _run("forward", statistics, x=x, out=y, gamma=gamma, beta=beta, eps=eps)
    return y, statistics


@_operation("inference(Tensor x, Tensor? gamma, Tensor? beta, Tensor given, float eps) -> Tensor")
def _inference(x, gamma, beta, given, eps):
    y = torch.empty(x.shape, dtype=x.dtype)
    _run("inference", given, x=x, out=y, gamma=gamma, beta=beta, eps=eps)
    return y


@_operation(
    "backward(Tensor dy, Tensor x, Tensor? gamma, Tensor statistics, float eps)"
    " -> (Tensor, Tensor, Tensor)"
)
def _backward(dy, x, gamma, statistics, eps):
    dx = torch.empty(x.shape, dtype=x.dtype)
    dgamma, dbeta = (torch.empty(x.shape[1], dtype=x.dtype) for _ in range(2))
    rest = {"dgamma": dgamma, "dbeta": dbeta}
    _run("backward", statistics, x=x, dy=dy, out=dx, gamma=gamma, eps=eps, **rest)
    return dx, dgamma, dbeta


def _run(
    kind: str,
    statistics: Tensor,
    *,
    eps: float,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    **tensors: Tensor,
) -> None:
    """Hand addresses and sizes to the compiled code; any other tensor that is missing fails here, not there."""
    optional = {"gamma": gamma, "beta": beta}
    given = tensors | {name: t for name, t in optional.items() if t is not None}
    present = {name: t.contiguous() for name, t in given.items()}
    numbers = {name: t.data_ptr() for name, t in present.items()}
    x, statistics = present["x"], statistics.contiguous()
    n, c = x.shape[:2]
    numbers |= {"n": n, "c": c, "s": x.numel() // (n * c), "eps": eps}
    numbers["mean"] = statistics.data_ptr()
    numbers["var"] = numbers["mean"] + 8 * c
    kernels.runner()(kind, _TYPES[x.dtype], torch.get_num_threads(), **numbers)
