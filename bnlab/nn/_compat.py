"""What the layers ask of torch beyond its public names: one place to look at when a release changes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _len_torch_dispatch_stack
from torch._functorch import eager_transforms
from torch.autograd import Function, forward_ad
from torch.nn.modules.batchnorm import _BatchNorm as _BatchNorm

# torch offers these two, and does not list the first among its public names nor have the second before 2.7.
is_tracing = torch.jit.is_tracing  # pyright: ignore[reportPrivateImportUsage]
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def apply(function: type[Function], *args: Any) -> Any:
    """Do what ``function.apply(*args)`` does.

    That binds the arguments to a signature first, which takes longer than a small layer. Only
    :mod:`torch.func` needs it.
    """
    if _are_functorch_transforms_active():
        return function.apply(*args)
    return super(Function, function).apply(*args)  # pyright: ignore[reportAttributeAccessIssue]


def is_watched() -> bool:
    """Tell whether torch compiles, exports, traces, maps, or hands its operations to someone."""
    return (
        is_tracing()
        or torch.compiler.is_compiling()
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
    )


def has_tangent(*tensors: Tensor | None) -> bool:
    """Tell whether forward-mode differentiation is at work on one of the tensors."""
    return forward_ad._current_level >= 0 and any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors
    )


def forward_mode_is_nested() -> bool:
    """Tell whether a forward-mode derivative of a forward-mode derivative is being taken."""
    return getattr(eager_transforms, "JVP_NESTING", 0) > 1
