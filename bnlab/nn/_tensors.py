"""What every way to compute Batch Normalization needs to know of a tensor: axes, type, layout, memory."""

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
    # torch offers this function, and does not list it among its public names
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
