"""What each way to compute Batch Normalization needs to know of a tensor: axes, shape, type, memory.

The statistics of a batch, or given ones, are the rows of one float64 tensor (2, C): mean, variance.
"""

from __future__ import annotations

import torch
from torch import Tensor


def arithmetic(x: Tensor) -> torch.dtype:
    """Return the type that x is computed in: its own, or float32 for float16 and bfloat16."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def axes(x: Tensor) -> tuple[int, ...]:
    """Return all axes but that of the features."""
    return (0, *range(2, x.dim()))


def count(x: Tensor) -> int:
    """Return m, the number of values a feature has; 1 for an empty batch, so that 0 / m is 0."""
    return max(x.numel() // x.shape[1], 1)


def column(value: Tensor, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Shape C values as (C, 1, ...), to broadcast against x, in the type that x is computed in."""
    value = value.to(dtype or arithmetic(x))
    return value if x.dim() == 2 else value.reshape(-1, *(1,) * (x.dim() - 2))


def first(x: Tensor) -> Tensor:
    """Return the first value of each feature as float64 of shape (C,), 0 for NaN and infinity."""
    k = x.detach()[(slice(1), slice(None), *(slice(1),) * (x.dim() - 2))]
    return k.nan_to_num(0.0, 0.0, 0.0).sum(
        axes(x), dtype=torch.float64
    )  # a sum: there may be no rows


def scale_of(var: Tensor, gamma: Tensor | None, eps: float) -> Tensor:
    """Return gamma / sqrt(var + eps)."""
    inv_std = (var + eps).rsqrt()
    return inv_std if gamma is None else inv_std * gamma


def parts(mean: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Split a float64 mean into what fits the type that x is computed in, and the rest.

    Near 1e6, the nearest float32 is off by up to 0.03. To subtract a mean is to subtract both parts.
    """
    coarse = mean.to(arithmetic(x))
    return coarse, (mean - coarse).nan_to_num_(0.0, 0.0, 0.0)  # infinity minus infinity is no rest


def line(
    x: Tensor, rest: Tensor, scale: Tensor, beta: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return a and b such that (x - coarse) * a + b is (x - coarse - rest) * scale + beta."""
    return column(scale, x), column(beta - rest * scale, x)


def dense(x: Tensor, like: Tensor) -> Tensor:
    """Lay x out as torch lays out the result for an input like that: channels last, or plain."""
    if like.dim() in (4, 5) and not like.is_contiguous() and like.movedim(1, -1).is_contiguous():
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


def restored(result: Tensor, x: Tensor) -> Tensor:
    """Give a contiguous result the type and layout of a dense x. It is no view: users may change it."""
    if result.dtype is x.dtype and x.is_contiguous():
        return result
    return torch.empty_like(x).copy_(result)


def in_cpu_memory(*tensors: Tensor | None) -> bool:
    """Tell whether there are values in the memory of a CPU, to be computed with here and now.

    There are none while torch compiles, exports or traces, nor inside torch.vmap and torch.func: the
    tensors seen there stand for others, and have no memory of their own.
    """
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if tracing or torch.compiler.is_compiling():
        return False
    try:
        for t in tensors:
            if t is not None and (t.untyped_storage().device.type != "cpu" or t.numel() == 0):
                return False
    except NotImplementedError:
        return False
    return True
