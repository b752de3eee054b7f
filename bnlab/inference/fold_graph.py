"""Fold every Batch Normalization layer of a model that can be folded, and say why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from operator import attrgetter
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from bnlab.inference.folding import (
    CONVOLUTIONS,
    Affine,
    absorb_after,
    absorb_before,
    kind_of,
    normalizes_plainly,
    pads_with_zeros,
    require_values,
    widened,
)
from bnlab.inference.tracing import copied, copy_of, described, normalizes, run, trace
from bnlab.nn.functional import batch_norm


@dataclass(frozen=True)
class Folded:
    """A folded model, and what happened to each of its normalizations; ``print`` shows it as text."""

    model: GraphModule
    """The folded model, in evaluation mode; it shares nothing with the original."""
    folded: tuple[tuple[str, str], ...]
    """Pairs (layer, normalization) that became one layer, under the name of the layer."""
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


def fold(model: nn.Module, example_input: Any = (), kwargs: dict[str, Any] | None = None) -> Folded:
    r"""Fold each Batch Normalization layer of a model into the layer directly before or after it.

    .. math::

       \mathrm{BN}_\text{inf}(W x + b) = W' x + b', \qquad
       W' = \operatorname{diag}(s) \, W, \quad b' = s \, (b - \mathrm{E}[x]) + \beta, \quad
       s = \frac{\gamma}{\sqrt{\mathrm{Var}[x] + \epsilon}}

    The model is traced by :mod:`torch.fx`. A normalization is folded into the linear layer or the
    convolution, transposed or not, whose output it reads if nothing else reads it; else into the linear
    layer or the convolution that alone reads its own output, if that one neither is transposed nor pads
    with zeros, which would have to be shifted as well. Identities and Dropout may lie between. Besides
    layers, calls of ``batch_norm`` are folded, and modules with running statistics that turn out to be a
    scale and shift of each feature, such as torchvision's ``FrozenBatchNorm2d``.

    Every other normalization is left in place with a reason: nothing to fold into (it follows a
    nonlinearity, a pooling, a sum), a layer that is called twice, a linear layer on (N, L, C), whose
    features the normalization does not find on axis 1, no running statistics, hooks, or a module around
    it that torch.fx does not look into.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. It is left as it is: the folded model is a copy.
    example_input : torch.Tensor or tuple
        What the model is called with; a tuple holds several arguments. It shows the shape of each
        normalization's input, and on it the outputs before and after are compared. Arguments that
        are None or left out with a default of None, and numbers and strings if the control flow
        depends on one of them, are fixed as they are here: the folded model does not take them.
    kwargs : dict, optional
        Arguments that the model is called with by name, as in :func:`torch.export.export`.

    Returns
    -------
    Folded
        ``.model``, a :class:`torch.fx.GraphModule`, ``.folded``, ``.left`` and ``.max_error``. Layers
        that the forward pass does not reach, such as heads for training, are not in the model.

    Raises
    ------
    TypeError
        If `model` is not a module, for example a program from ``torch.export``.
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
    args = example_input if isinstance(example_input, tuple) else (example_input,)
    root, kwargs = copy_of(model), kwargs or {}
    with torch.no_grad():
        expected = root(*copied(args), **copied(kwargs))
        traced, values = trace(root, args, kwargs)
        shapes = _Shapes(traced, values)
        shapes.run()
    folded, left, size = [], {}, 0.0
    for node in [node for node in traced.graph.nodes if _is_norm(traced, node)]:
        name = node.target if node.op == "call_module" else node.name
        try:
            affine = _affine(traced, node, shapes.of.get(node))
            layer = _fold(traced, node, affine, len(shapes.of.get(node, ())))
        except _Stays as reason:
            left[name] = str(reason)
        else:
            folded.append((layer, name))
            size = max(size, affine.size)
    left |= _inside_others(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()  # torch.fx makes new containers, which start in training mode
    with torch.no_grad():
        error, largest = _compare(expected, run(traced, values), size)
    return Folded(traced, tuple(folded), tuple(left.items()), error, largest)


class _Stays(Exception):
    """Why a normalization stays as it is."""


class _Shapes(Interpreter):
    """Runs a graph and notes the shape of what each of its nodes returns."""

    def __init__(self, traced: GraphModule, values: dict[str, Any]) -> None:
        super().__init__(traced)
        self.of: dict[Node, torch.Size] = {}
        self._values = copied(values)

    def placeholder(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self._values[target.lstrip("*")]

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.of[n] = result.shape
        return result


def _require_evaluation(model: nn.Module) -> None:
    exported = type(model).__name__ == "ExportedProgram" or (
        isinstance(model, GraphModule)
        and any(isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes)
    )
    if exported:
        raise TypeError(
            "model comes from torch.export, where layers have become operations; expected the model that "
            "was exported. Fold that one first and export the folded model. Its weights are in the "
            "program: model.load_state_dict(program.state_dict)."
        )
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


# The arguments of each function that normalizes, in order.
_ARGUMENTS = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)
_FUNCTIONS: dict[Any, tuple[str, ...]] = {
    nn.functional.batch_norm: _ARGUMENTS,
    batch_norm: _ARGUMENTS,
    torch.batch_norm: (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled"
    ),
}  # fmt: skip


def _is_norm(traced: GraphModule, node: Node) -> bool:
    """Tell whether a node is a Batch Normalization, as a layer or as a call of its function."""
    if node.op == "call_module":
        return normalizes(_layer(traced, node))
    return node.op == "call_function" and node.target in _FUNCTIONS


def _affine(traced: GraphModule, node: Node, shape: torch.Size | None) -> Affine:
    """Return what a normalization does, or raise why it has to stay."""
    if node.op == "call_function":
        return _affine_of_call(traced, node)
    bn, times = _layer(traced, node), _calls(traced)[node.target]
    if times > 1:
        raise _Stays(f"is shared: it is called {times} times")
    if _hooked(bn):
        raise _Stays("has forward hooks, which would be lost")
    if not isinstance(bn, _BatchNorm):
        affine = None if shape is None else _tried_out(bn, shape)
        if affine is None:
            raise _Stays(
                f"its class {type(bn).__name__} has running statistics, but is not a scale and shift of "
                f"each feature"
            )
        return affine
    if not normalizes_plainly(bn):
        raise _Stays(f"its class {type(bn).__name__} has a forward pass of its own")
    if bn.running_mean is None or bn.running_var is None:
        raise _Stays("has no running statistics, so it normalizes by the batch even at inference")
    return Affine.of(bn)


def _affine_of_call(traced: GraphModule, node: Node) -> Affine:
    """Return what a call of a function does, or raise why it has to stay."""
    names = _FUNCTIONS[node.target]
    given = dict.fromkeys(names) | {"training": False, "eps": 1e-5}
    given |= dict(zip(names, node.args, strict=False)) | node.kwargs
    if given["training"] or given["running_mean"] is None or given["running_var"] is None:
        raise _Stays("is a call of a function, and normalizes by the batch")
    tensors = [given[k] for k in ("running_mean", "running_var", "weight", "bias")]
    if not all(t is None or (isinstance(t, Node) and t.op == "get_attr") for t in tensors):
        raise _Stays("is a call of a function, with statistics or parameters that are computed")
    held: list[Any] = [None if t is None else attrgetter(t.target)(traced) for t in tensors]
    mean, var, weight, bias = held
    return Affine.from_statistics(mean, var, weight, bias, cast(float, given["eps"]))


def _tried_out(module: nn.Module, shape: torch.Size) -> Affine | None:
    """Return what a module does to each feature if that is a scale and a shift, as far as trials show."""

    def rows(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).flatten(1)  # (C, values)

    try:
        module, generator = copy_of(module).cpu().double(), torch.Generator().manual_seed(0)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        at_0, at_1, y = (rows(module(t)) for t in (torch.zeros_like(x), torch.ones_like(x), x))
        shift, scale = at_0[:, :1], at_1[:, :1] - at_0[:, :1]
        if not torch.allclose(y, rows(x) * scale + shift, rtol=1e-6, atol=1e-6):
            return None
    except Exception:  # it is anybody's code
        return None
    return Affine(torch.zeros(len(scale), dtype=torch.float64), scale[:, 0], shift[:, 0])


def _fold(traced: GraphModule, node: Node, affine: Affine, rank: int) -> str:
    """Replace a normalization and a layer next to it by one layer; return that layer's name."""
    try:
        source, before = _layer_before(traced, node, rank), True
    except _Stays as reason:
        target = _node_after(traced, node)
        if target is None:
            raise
        problem = _why_not_before(traced, target, rank)
        if problem:
            raise _Stays(f"{reason}; and {problem}") from None
        source, before = target, False
    name, layer = str(source.target), _layer(traced, source)
    assert isinstance(layer, nn.Linear | _ConvNd)  # any other was left in place
    try:
        folded = absorb_after(layer, affine) if before else absorb_before(affine, layer)
    except ValueError as error:
        raise ValueError(f"folding {node.target} into {name}: {error}") from error
    owner, _, leaf = name.rpartition(".")
    setattr(traced.get_submodule(owner), leaf, folded)
    node.replace_all_uses_with(_input(node))
    inputs = node.all_input_nodes
    traced.graph.erase_node(node)
    for held in inputs:
        if held.op == "get_attr" and not held.users:
            traced.graph.erase_node(held)
    return name


def _layer_before(traced: GraphModule, node: Node, rank: int) -> Node:
    """Return the node of the layer that can take up a normalization after it, or raise why there is none."""
    source, between = _input(node), []
    while _passes_on(traced, source):
        between.append(source)
        source = _input(source)
    if source.op == "placeholder":
        raise _Stays("is the first layer, there is none before it")
    if source.op != "call_module":
        raise _Stays(f"follows {source.name}, which is not a layer")
    name, layer, calls = source.target, _layer(traced, source), _calls(traced)
    if kind_of(layer, (nn.Linear, *CONVOLUTIONS)) is None:
        raise _Stays(f"follows {name}, {described(layer)}")
    if calls[name] > 1:
        raise _Stays(f"the layer before it, {name}, is shared: it is called {calls[name]} times")
    if any(len(n.users) > 1 for n in (source, *between)):
        raise _Stays(f"the output of {name} is used elsewhere too")
    if _read_elsewhere(traced, source):
        raise _Stays(f"a parameter of {name} is used elsewhere too")
    if _hooked(layer):
        raise _Stays(
            f"the layer before it, {name}, has forward hooks, which would see other values"
        )
    if rank != _rank_of(layer):
        raise _Stays(f"{name} returns a tensor of {rank} axes, whose features are not on axis 1")
    return source


def _node_after(traced: GraphModule, node: Node) -> Node | None:
    """Return the one node that reads a normalization if that is a linear layer or a convolution."""
    while len(node.users) == 1:
        (after,) = node.users
        if not _passes_on(traced, after):
            taken = after.op == "call_module" and after.all_input_nodes == [node]
            kinds = (nn.Linear, *CONVOLUTIONS)
            return after if taken and kind_of(_layer(traced, after), kinds) is not None else None
        node = after
    return None


def _why_not_before(traced: GraphModule, after: Node, rank: int) -> str | None:
    """Return why the layer after a normalization cannot take it up, or None if it can."""
    name, layer, calls = after.target, _layer(traced, after), _calls(traced)
    if isinstance(layer, _ConvNd) and layer.transposed:
        return f"{name} after it is transposed, and adds up fewer shifts at the border than inside"
    if isinstance(layer, _ConvNd) and pads_with_zeros(layer):
        return f"{name} after it pads with zeros, which would have to be shifted as well"
    if calls[name] > 1:
        return f"the layer after it, {name}, is shared: it is called {calls[name]} times"
    if _read_elsewhere(traced, after):
        return f"a parameter of {name} is used elsewhere too"
    if _hooked(layer):
        return f"the layer after it, {name}, has forward hooks, which would see other values"
    if rank != _rank_of(layer):
        return f"{name} gets a tensor of {rank} axes, whose features are not on axis 1"
    return None


def _passes_on(traced: GraphModule, node: Node) -> bool:
    """Tell whether a node returns its input as it is, in evaluation mode."""
    if node.op == "call_module":
        layer = _layer(traced, node)
        return kind_of(layer, (nn.Identity, *_DROPOUTS)) is not None and not _hooked(layer)
    training = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
    return node.op == "call_function" and node.target in _DROPOUT_CALLS and training is False


_DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)  # fmt: skip
_DROPOUT_CALLS = (
    nn.functional.dropout, nn.functional.dropout1d, nn.functional.dropout2d, nn.functional.dropout3d,
    nn.functional.alpha_dropout, nn.functional.feature_alpha_dropout,
)  # fmt: skip


def _rank_of(layer: nn.Module) -> int:
    """Return how many axes a layer's output has if its features are on axis 1."""
    return 2 + (len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0)


def _read_elsewhere(traced: GraphModule, node: Node) -> bool:
    """Tell whether a parameter of a layer is read by other nodes than the layer itself."""
    return any(
        n.op == "get_attr" and n.target.startswith(f"{node.target}.") for n in traced.graph.nodes
    )


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
        if name and normalizes(part)
    }


def _layer(traced: GraphModule, node: Node) -> nn.Module:
    """Return the layer that a node calls."""
    return traced.get_submodule(str(node.target))


def _input(node: Node) -> Node:
    """Return the node whose output a layer or a function reads."""
    return cast(Node, node.args[0] if node.args else node.kwargs["input"])


def _calls(traced: GraphModule) -> Counter:
    """Count how often each layer is called."""
    return Counter(n.target for n in traced.graph.nodes if n.op == "call_module")


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _compare(expected: Any, given: Any, inside: float) -> tuple[float, float]:
    """Return the largest error and the largest output; raise if the error is more than rounding.

    Rounding is relative to the outputs, and to the numbers `inside` that may have cancelled.
    """
    error = size = 0.0
    tolerance, rounding, compared = 0.01, 0.0, False
    for a, b in zip(_tensors(expected), _tensors(given), strict=True):
        if a.is_floating_point():
            rounding = max(rounding, 16 * torch.finfo(a.dtype).eps)
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
    if not error <= max(tolerance, rounding) * size + rounding * inside:
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
