"""What every way to compute Batch Normalization needs to know of a tensor: axes, type, layout, memory."""

from __future__ import annotations

import torch
from torch import Tensor

from bnlab.nn._compat import is_watched


def arithmetic(x: Tensor) -> torch.dtype:
    """Return the type that x is computed in: its own, or float32 for float16 and bfloat16."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


WITHOUT_FLOAT64 = ("mps",)


def widest(x: Tensor) -> torch.dtype:
    """Return the type of statistics: float64, or float32 on a device that has no other."""
    return torch.float32 if x.device.type in WITHOUT_FLOAT64 else torch.float64


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


def scale_by(var: Tensor, gamma: Tensor | None, eps: float) -> Tensor:
    """Return gamma / s."""
    inv_std = (var + eps).rsqrt()
    return inv_std if gamma is None else inv_std * gamma


def split_mean(mean: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return coarse, the mean in the type that x is computed in, and the rest, what that leaves out.

    Float32 cannot hold a float64 mean: near 1e6 it is off by up to 0.03.
    """
    coarse = mean.to(arithmetic(x))
    return coarse, (mean - coarse).nan_to_num(0.0, 0.0, 0.0)  # of an infinite mean there is no rest


def in_cpu_memory(*tensors: Tensor | None) -> bool:
    """Tell whether there are values in the memory of a CPU, to be computed with here and now.

    There are none while torch compiles, exports or traces, nor inside torch.vmap and torch.func: the
    tensors seen there stand for others, and have no memory of their own. Nor should there be while
    someone records the operations of torch, who would not see a call of compiled code.
    """
    if is_watched():
        return False
    try:
        for t in tensors:
            if t is not None and (
                t.untyped_storage().device.type != "cpu" or t.numel() == 0 or t.is_neg()
            ):
                return False
    except NotImplementedError:
        return False
    return True
