"""Make a graph of a model with torch.fx, in which every Batch Normalization layer is one node."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Proxy, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a model, because even a forward pass may change it."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ValueError(
            f"the model cannot be copied ({error}); expected parameters and buffers that are all of "
            f"its own. Take weight_norm, spectral_norm or pruning of the kind that works by hooks out "
            f"of it first: torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove."
        ) from error


def trace(root: nn.Module, arguments: tuple) -> tuple[GraphModule, tuple]:
    """Make a graph of a model, and return it with the arguments that it takes.

    Arguments that are None are fixed, so that the graph does not take them; numbers and strings only
    if the model cannot be traced otherwise.
    """
    if isinstance(
        root, _BatchNorm
    ):  # the tracer looks into the root, and keeps only its parts whole
        root = nn.Sequential(root).eval()
    try:
        call = inspect.signature(root.forward).bind(*arguments)
        given = set(call.arguments)
        call.apply_defaults()
        # The tracer passes stand-ins. None of them is None, so "if mask is None" would go wrong unseen.
        fixed = {name: v for name, v in call.arguments.items() if v is None}
        plain = {n: v for n, v in call.arguments.items() if isinstance(v, bool | int | float | str)}
        try:
            graph = LeafTracer(fixed).trace(root)
        except Exception:
            if not plain:
                raise
            fixed |= plain
            graph = LeafTracer(fixed).trace(root)
        traced = GraphModule(root, graph)
    except Exception as error:  # it ran on numbers, so stand-ins are what it cannot take
        raise ValueError(
            f"torch.fx cannot trace the model, {described(root)} ({error}); expected a forward pass whose "
            f"control flow does not depend on values or shapes of tensors, and a model that is not "
            f"wrapped yet: fold before torch.compile, torch.jit or DataParallel. Fold the parts that "
            f"can be traced, or pair by pair with fold_conv and fold_linear."
        ) from error
    return traced, tuple(
        value
        for name, argument in call.arguments.items()
        if name in given and name not in fixed
        for value in (argument if _repeats(call, name) else (argument,))
    )


def _repeats(call: inspect.BoundArguments, name: str) -> bool:
    """Tell whether an argument stands for several, as ``*args`` does."""
    return call.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL


def copied(arguments: tuple) -> tuple:
    """Copy the tensors among arguments, because a forward pass may write into them."""
    return pytree.tree_map_only(torch.Tensor, torch.clone, arguments)


class LeafTracer(Tracer):
    """Tracer that makes every Batch Normalization layer one node, and puts values for some arguments."""

    def __init__(self, fixed: dict[str, Any] | None = None) -> None:  # unpickling passes nothing
        super().__init__()
        self._fixed = fixed or {}

    def create_args_for_root(self, *given: Any) -> tuple[Any, list]:
        """Make the stand-ins of the arguments, but use the fixed values where there are some."""
        function, arguments = super().create_args_for_root(*given)
        for i, argument in enumerate(arguments):
            if isinstance(argument, Proxy) and (name := str(argument.node.target)) in self._fixed:
                arguments[i] = self._fixed[name]
                self.graph.erase_node(argument.node)
        return function, arguments

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether module `m` becomes one node."""
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def described(layer: nn.Module) -> str:
    """Name the class of a layer, with its article."""
    name = type(layer).__name__
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
