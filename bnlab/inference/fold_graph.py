"""Fold every Batch Normalization layer of a model that can be folded, and say why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from bnlab.inference.folding import (
    CONVOLUTIONS,
    fold_conv,
    fold_linear,
    kind_of,
    normalizes_plainly,
    require_values,
    widened,
)
from bnlab.inference.tracing import copied, copy_of, described, trace


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
    not find on axis 1, no running statistics, hooks, a call of a function instead of a layer, or a
    module around it that torch.fx does not look into.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. It is left as it is: the folded model is a copy.
    example_input : torch.Tensor or tuple
        What the model is called with; a tuple holds several arguments. It shows the shape of each
        normalization's input, and on it the outputs before and after are compared. Arguments that
        are None or left out with a default of None, and numbers and strings if the control flow
        depends on one of them, are fixed as they are here: the folded model does not take them.

    Returns
    -------
    Folded
        ``.model``, a :class:`torch.fx.GraphModule`, ``.folded``, ``.left`` and ``.max_error``. Layers
        that the forward pass does not reach, such as heads for training, are not in the model.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If a part of the model is in training mode or on the meta device, it cannot be copied,
        torch.fx cannot trace it, for example because its control flow depends on values, the outputs
        on the example hold NaN, Inf or no number at all, or the folded model does not reproduce them.

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
    require_values("model", model)
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    root = copy_of(model)
    with torch.no_grad():
        expected = root(*copied(arguments))
        traced, arguments = trace(root, arguments)
        ranks = _Ranks(traced)
        ranks.run(*copied(arguments))
    folded, left = [], {}
    for node in [node for node in traced.graph.nodes if _normalizes(traced, node)]:
        name = node.target if node.op == "call_module" else node.name
        reason = _why_not(traced, node, ranks.of.get(node))
        if reason is None:
            folded.append((_fold(traced, node), name))
        else:
            left[name] = reason
    left |= _inside_others(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()  # torch.fx makes new containers, which start in training mode
    with torch.no_grad():
        error, size = _compare(expected, traced(*copied(arguments)))
    return Folded(traced, tuple(folded), tuple(left.items()), error, size)


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


def _normalizes(traced: GraphModule, node: Node) -> bool:
    """Tell whether a node is a Batch Normalization, as a layer or as a call of its function."""
    if node.op == "call_module":
        return isinstance(_layer(traced, node), _BatchNorm)
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "batch_norm"


def _why_not(traced: GraphModule, node: Node, rank: int | None) -> str | None:
    """Return why a normalization has to stay, or None if it can be folded."""
    if node.op == "call_function":
        return "is a call of a function, not a layer"
    bn, calls = _layer(traced, node), _calls(traced)
    if not normalizes_plainly(bn):
        return f"its class {type(bn).__name__} has a forward pass of its own"
    if calls[node.target] > 1:
        return f"is shared: it is called {calls[node.target]} times"
    if bn.running_mean is None or bn.running_var is None:
        return "has no running statistics, so it normalizes by the batch even at inference"
    if _hooked(bn):
        return "has forward hooks, which would be lost"
    return _why_not_into(traced, _input(node), calls, rank)


def _why_not_into(
    traced: GraphModule, source: Node, calls: Counter, rank: int | None
) -> str | None:
    """Return why the node before a normalization cannot take it up, or None if it can."""
    if source.op == "placeholder":
        return "is the first layer, there is none before it"
    if source.op != "call_module":
        return f"follows {source.name}, which is not a layer"
    name, layer = source.target, _layer(traced, source)
    kind = kind_of(layer, (nn.Linear, *CONVOLUTIONS))
    if kind is None:
        return f"follows {name}, {described(layer)}"
    if calls[name] > 1:
        return f"the layer before it, {name}, is shared: it is called {calls[name]} times"
    if len(source.users) > 1:
        return f"the output of {name} is used elsewhere too"
    if any(n.op == "get_attr" and n.target.startswith(f"{name}.") for n in traced.graph.nodes):
        return f"a parameter of {name} is used elsewhere too"
    if _hooked(layer):
        return f"the layer before it, {name}, has forward hooks, which would see other values"
    expected = 2 + (len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0)
    if rank != expected:
        return f"{name} returns a tensor of {rank} axes, whose features are not on axis 1"
    return None


def _fold(traced: GraphModule, node: Node) -> str:
    """Replace a normalization and the layer before it by one layer; return that layer's name."""
    source = _input(node)
    name, layer, bn = str(source.target), _layer(traced, source), _layer(traced, node)
    assert isinstance(layer, nn.Linear | _ConvNd)  # any other was left in place
    try:
        folded = fold_linear(layer, bn) if isinstance(layer, nn.Linear) else fold_conv(layer, bn)
    except ValueError as error:
        raise ValueError(f"folding {node.target} into {name}: {error}") from error
    traced.set_submodule(name, folded)
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)
    return name


def _inside_others(traced: GraphModule) -> dict[str, str]:
    """List the normalizations inside modules that torch.fx keeps whole, each with that reason."""
    owners = {
        n.target: traced.get_submodule(n.target)
        for n in traced.graph.nodes
        if n.op == "call_module"
    }
    return {
        f"{owner}.{name}": f"is inside {owner}, {described(module)}, which torch.fx does not look into"
        for owner, module in owners.items()
        for name, part in module.named_modules()
        if name and isinstance(part, _BatchNorm)
    }


def _layer(traced: GraphModule, node: Node) -> nn.Module:
    """Return the layer that a node calls."""
    return traced.get_submodule(str(node.target))


def _input(node: Node) -> Node:
    """Return the node whose output a normalization reads."""
    return cast(Node, node.args[0] if node.args else node.kwargs["input"])


def _calls(traced: GraphModule) -> Counter:
    """Count how often each layer is called."""
    return Counter(n.target for n in traced.graph.nodes if n.op == "call_module")


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _compare(expected: Any, given: Any) -> tuple[float, float]:
    """Return the largest error and the largest output; raise if the error is more than rounding."""
    error = size = 0.0
    tolerance, compared = 0.01, False
    for a, b in zip(_tensors(expected), _tensors(given), strict=True):
        if a.is_floating_point():
            tolerance = max(tolerance, 16 * torch.finfo(a.dtype).eps)
        a, b = widened(a), widened(b)
        error = max(error, (a - b).abs().max().item())
        size = max(size, a.abs().max().item())
        compared = True
        if not a.isfinite().all():
            raise ValueError(
                "an output on example_input is NaN or Inf, so nothing can be compared; expected "
                "finite numbers. Look for them in example_input and in the model's parameters."
            )
    if not compared:
        raise ValueError(
            f"the model returned a {type(expected).__name__} without a number in it, so nothing can be "
            f"compared; expected tensors, alone or in tuples, lists, dicts and dataclasses. Is "
            f"example_input empty?"
        )
    if not error <= tolerance * size:
        raise ValueError(
            f"the folded model differs by {error:.1e} from outputs up to {size:.1e}, which is more "
            f"than rounding; expected a model that computes a fixed function of its input. Look for "
            f"random numbers or changing state in its forward pass, and for hooks of the model itself."
        )
    return error, size


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of an output that are not empty, also those in dataclasses."""
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, torch.Tensor) and leaf.numel():
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors(list(vars(leaf).values()))
