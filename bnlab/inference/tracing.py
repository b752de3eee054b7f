"""Make a graph of a model with torch.fx, in which every Batch Normalization layer is one node."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Proxy, Tracer
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


def trace(root: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[GraphModule, dict]:
    """Make a graph of a model, and return it with the values of the arguments that it takes, by name.

    Arguments that are None are fixed, so that the graph does not take them; numbers and strings only
    if the model cannot be traced otherwise.
    """
    if normalizes(root):  # the tracer looks into the root, and keeps only its parts whole
        root = nn.Sequential(root).eval()
    try:
        call = inspect.signature(root.forward).bind(*args, **kwargs)
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
        _give_defaults(graph)
        traced = GraphModule(root, graph)
    except Exception as error:  # it ran on numbers, so stand-ins are what it cannot take
        raise ValueError(
            f"torch.fx cannot trace the model, {described(root)} ({error}); expected a forward pass whose "
            f"control flow does not depend on values or shapes of tensors, and a model that is not "
            f"wrapped yet: fold before torch.compile, torch.jit or DataParallel. Fold the parts that "
            f"can be traced, or pair by pair with fold_conv and fold_linear."
        ) from error
    return traced, {name: v for name, v in call.arguments.items() if name not in fixed}


def _give_defaults(graph: Graph) -> None:
    """Let arguments without a default follow those with one, as those that are taken by name only may."""
    optional = False
    for node in graph.find_nodes(op="placeholder"):
        if optional and not node.args and not node.target.startswith("*"):
            node.args = (None,)
        optional = optional or bool(node.args)


def run(traced: GraphModule, values: dict[str, Any]) -> Any:
    """Run a graph on copies of the values of its arguments, because a forward pass may write into them."""
    args, kwargs, values = [], {}, copied(values)
    for node in traced.graph.find_nodes(op="placeholder"):
        value = values[node.target.lstrip("*")]
        if node.target.startswith("**"):
            kwargs = value
        elif node.target.startswith("*"):
            args += value
        else:
            args.append(value)
    return traced(*args, **kwargs)


def copied(arguments: Any) -> Any:
    """Copy the tensors among arguments."""
    return pytree.tree_map_only(torch.Tensor, torch.clone, arguments)


def normalizes(module: nn.Module) -> bool:
    """Tell whether a module is a Batch Normalization layer, of torch or one that was written to be like it.

    Those, such as the FrozenBatchNorm2d of torchvision and of detectron2, hold running statistics too.
    """
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return isinstance(module, _BatchNorm)
    buffers = {name for name, _ in module.named_buffers(recurse=False)}
    return {"running_mean", "running_var"} <= buffers and not list(module.children())


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
        return normalizes(m) or super().is_leaf_module(m, module_qualified_name)


def described(layer: nn.Module) -> str:
    """Name the class of a layer, with its article."""
    name = type(layer).__name__
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
