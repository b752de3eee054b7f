"""Fold every Batch Normalization layer of a model that can be folded, and say why the others cannot."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Interpreter, Node, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from bnlab.inference.folding import (
    CONVOLUTIONS,
    fold_conv,
    fold_linear,
    kind_of,
    normalizes_plainly,
)


@dataclass(frozen=True)
class Folded:
    """A folded model, and what happened to each of its normalizations; ``print`` shows it as text."""

    model: GraphModule
    """The folded model, in evaluation mode; it shares nothing with the original."""
    folded: tuple[tuple[str, str], ...]
    """Pairs (layer, normalization) that became one layer, under the name of the first."""
    left: tuple[tuple[str, str], ...]
    """Pairs (normalization, reason) that stayed as they were."""
    max_error: float
    """Largest distance between an output of the original and of the folded model, on the example."""
    max_output: float
    """Largest absolute value among the outputs of the original model on the example."""

    def __str__(self) -> str:
        """Return one line for the whole, and one for each normalization."""
        lines = [
            f"{len(self.folded)} folded, {len(self.left)} left; outputs up to {self.max_output:.3g} "
            f"differ by at most {self.max_error:.1e}",
            *(f"  folded {bn} into {layer}" for layer, bn in self.folded),
            *(f"  left {bn}: {reason}" for bn, reason in self.left),
        ]
        return "\n".join(lines)


def fold(model: nn.Module, example_input: Any) -> Folded:
    r"""Fold each Batch Normalization layer of a model into the layer directly before it.

    .. math::

       \mathrm{BN}_\text{inf}(W x + b) = W' x + b', \qquad
       W' = \operatorname{diag}(s) \, W, \quad b' = s \, (b - \mathrm{E}[x]) + \beta, \quad
       s = \frac{\gamma}{\sqrt{\mathrm{Var}[x] + \epsilon}}

    The model is traced by :mod:`torch.fx`. A normalization is folded if its input is the output of a
    linear layer or a convolution, transposed or not, that nothing else reads; every other one is
    left in place with a reason: nothing to fold into (it follows a nonlinearity, a pooling, a sum),
    a layer that is called twice, a linear layer on (N, L, C), whose features the normalization does
    not find on axis 1, no running statistics, hooks, or a call of a function instead of a layer.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. It is left as it is: the folded model is a copy.
    example_input : torch.Tensor or tuple
        What the model is called with; a tuple holds several arguments. It shows the shape of each
        normalization's input, and on it the outputs before and after are compared.

    Returns
    -------
    Folded
        ``.model``, a :class:`torch.fx.GraphModule`, ``.folded``, ``.left`` and ``.max_error``.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If a part of the model is in training mode, torch.fx cannot trace it, for example because its
        control flow depends on values, an output on the example is NaN or Inf, or the folded model
        does not reproduce the outputs.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11, composed with the layer before it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    >>> result = fold(net, torch.zeros(1, 1, 5, 5))
    >>> result.folded, result.left
    ((('0', '1'),), (('3', 'follows 2, a ReLU'),))
    """
    _require_evaluation(model)
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    with torch.no_grad():
        expected = model(*arguments)
        traced = _trace(model)
        ranks = _Ranks(traced)
        ranks.run(*arguments)
    folded, left = [], {}
    for node in [node for node in traced.graph.nodes if _normalizes(traced, node)]:
        name = node.target if node.op == "call_module" else node.name
        reason = _why_not(traced, node, ranks.of.get(node))
        if reason is None:
            folded.append((_fold(traced, node), name))
        else:
            left[name] = reason
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()  # torch.fx makes the containers anew
    with torch.no_grad():
        error, size = _compare(expected, traced(*arguments))
    return Folded(traced, tuple(folded), tuple(left.items()), error, size)


class LeafTracer(Tracer):
    """Keeps every Batch Normalization layer one node, whoever wrote its class."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether the tracer stops at module `m`."""
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


class _Ranks(Interpreter):
    """Runs a graph and notes how many axes the output of each of its layers has."""

    def __init__(self, traced: GraphModule) -> None:
        super().__init__(traced)
        self.of: dict[Node, int] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.of[n] = result.dim()
        return result


def _require_evaluation(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module. Pass the model itself."
        )
    training = [name or "model" for name, part in model.named_modules() if part.training]
    if training:
        raise ValueError(
            f"{training[0]} is in training mode, where outputs depend on the other examples, so no "
            f"folded model equals it; expected evaluation mode. Call model.eval() first."
        )


def _trace(model: nn.Module) -> GraphModule:
    """Copy a model as a graph."""
    root = copy.deepcopy(model)
    if isinstance(root, _BatchNorm):  # the tracer keeps layers whole, but looks into the root
        root = nn.Sequential(root).eval()
    try:
        return GraphModule(root, LeafTracer().trace(root))
    except Exception as error:  # the forward pass ran, so it is the proxies that it cannot take
        raise ValueError(
            f"torch.fx cannot trace the model, a {type(model).__name__} ({error}); expected a forward "
            f"pass whose control flow does not depend on values or shapes of tensors. Fold the parts "
            f"that can be traced, or pair by pair with fold_conv and fold_linear."
        ) from error


def _normalizes(traced: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(node.target), _BatchNorm)
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "batch_norm"


def _why_not(traced: GraphModule, node: Node, rank: int | None) -> str | None:
    """Return why a normalization has to stay, or None if it can be folded."""
    if node.op == "call_function":
        return "is a call of a function, not a layer"
    bn, calls = traced.get_submodule(node.target), _calls(traced)
    if not normalizes_plainly(bn):
        return f"its class {type(bn).__name__} has a forward pass of its own"
    if calls[node.target] > 1:
        return f"is shared: it is called {calls[node.target]} times"
    if bn.running_mean is None or bn.running_var is None:
        return "has no running statistics, so it normalizes by the batch even at inference"
    if _hooked(bn):
        return "has forward hooks, which would be lost"
    return _why_not_into(traced, _input(node), calls, rank)


def _why_not_into(traced: GraphModule, source: Node, calls: Counter, rank: int) -> str | None:
    """Return why the node before a normalization cannot take it up, or None if it can."""
    if source.op == "placeholder":
        return "is the first layer, there is none before it"
    if source.op != "call_module":
        return f"follows {source.name}, which is not a layer"
    name, layer = source.target, traced.get_submodule(source.target)
    kind = kind_of(layer, (nn.Linear, *CONVOLUTIONS))
    if kind is None:
        return f"follows {name}, a {type(layer).__name__}"
    if calls[name] > 1:
        return f"the layer before it, {name}, is shared: it is called {calls[name]} times"
    if len(source.users) > 1:
        return f"the output of {name} is used elsewhere too"
    if any(n.op == "get_attr" and n.target.startswith(f"{name}.") for n in traced.graph.nodes):
        return f"a parameter of {name} is used elsewhere too"
    if _hooked(layer):
        return f"the layer before it, {name}, has forward hooks, which would see other values"
    expected = 2 if kind is nn.Linear else 2 + len(layer.kernel_size)
    if rank != expected:
        return f"{name} returns a tensor of {rank} axes, whose features are not on axis 1"
    return None


def _fold(traced: GraphModule, node: Node) -> str:
    """Replace a normalization and the layer before it by one layer; return that layer's name."""
    source = _input(node)
    layer, bn = traced.get_submodule(source.target), traced.get_submodule(node.target)
    fold_pair = fold_linear if isinstance(layer, nn.Linear) else fold_conv
    traced.set_submodule(source.target, fold_pair(layer, bn))
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)
    return source.target


def _input(node: Node) -> Node:
    return node.args[0] if node.args else node.kwargs["input"]


def _calls(traced: GraphModule) -> Counter:
    return Counter(n.target for n in traced.graph.nodes if n.op == "call_module")


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _compare(expected: Any, given: Any) -> tuple[float, float]:
    """Return the largest error and the largest value of the outputs; refuse more than rounding."""
    error = size = 0.0
    tolerance = 0.01
    for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(given), strict=True):
        if not isinstance(a, torch.Tensor) or a.numel() == 0:
            continue
        if a.is_floating_point():
            tolerance = max(tolerance, 16 * torch.finfo(a.dtype).eps)
        a, b = a.double(), b.double()
        error = max(error, (a - b).abs().max().item())
        size = max(size, a.abs().max().item())
        if not a.isfinite().all():
            raise ValueError(
                "an output on example_input is NaN or Inf, so nothing can be compared; expected "
                "finite numbers. Look for them in example_input and in the model's parameters."
            )
    if not error <= tolerance * size:
        raise ValueError(
            f"the folded model differs by {error:.1e} from outputs up to {size:.1e}, which is more "
            f"than rounding; expected a model that computes a fixed function of its input. Look for "
            f"random numbers or changing state in its forward pass."
        )
    return error, size
